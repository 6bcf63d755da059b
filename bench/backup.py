"""Backup and restore of a large store, for docs/operations.md: each way there, its size, and the minutes both directions take.

    scripts/bench.sh backup --gb 10       bytes of the models; a store of bf16 takes two thirds of them

Needs room for four times the bytes stored. Every restored store is verified (`verify_store`), and dumps are restored into a
database that replaces the first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psycopg
from curves_models import random_weights
from models import ROOT

# The table whose rows are nearly all of a store, and what of a dump comes before and after its rows.
CHUNKS = "store.tensor_chunks"


class Backup:
    def __init__(self, url: str, bindir: pathlib.Path, scratch: pathlib.Path) -> None:
        self.server, self.bindir, self.scratch = url, bindir, scratch / "backup"
        self.url = psycopg.conninfo.make_conninfo(url, dbname="backup")
        self.table: list[tuple[str, ...]] = []

    @contextlib.contextmanager
    def postgres(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.server, autocommit=True) as db:
            yield db

    def as_server(self, *command: str | pathlib.Path) -> None:
        """Runs a program as the user of the server."""
        run = ["bash", "-c", '. scripts/lib.sh; as_server "$@"', "bash", *map(str, command)]
        subprocess.run(run, cwd=ROOT, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def tool(self, name: str, *arguments: str) -> None:
        subprocess.run([self.bindir / name, *arguments], check=True, stdin=subprocess.DEVNULL)

    def report(self, way: str, size: float, backup: float, restore: float) -> None:
        self.table.append((way, f"{size / 1e9:.2f} GB", minutes(backup), minutes(restore)))
        print(f"  {' | '.join(self.table[-1])}", file=sys.stderr, flush=True)

    def new_database(self) -> None:
        with self.postgres() as db:
            db.execute("DROP DATABASE IF EXISTS backup WITH (FORCE)")
            db.execute("CREATE DATABASE backup")
            db.execute("CHECKPOINT")

    def fill(self, size: int, first: int = 0) -> None:
        """Models of a gigabyte at most."""
        path = self.scratch / "weights.safetensors"
        with psycopg.connect(self.url, autocommit=True) as db:
            for n, at in enumerate(range(0, size, 1_000_000_000), first):
                random_weights(path, min(size - at, 1_000_000_000), seed=n)
                db.execute("SELECT model_id FROM modelstore.import_safetensors_file(%s, '1', %s)", (f"m{n}", str(path)))
                path.unlink()


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def size_of(path: pathlib.Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*")) if path.is_dir() else path.stat().st_size


def verify(url: str) -> tuple[float, int]:
    """Seconds of verify_store, and how many models there are."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET client_min_messages = warning")
        took = seconds(lambda: print_problems(db.execute("SELECT object, problem FROM modelstore.verify_store()").fetchall()))
        return took, db.execute("SELECT count(*) FROM store.models").fetchone()[0]


def print_problems(problems: list) -> None:
    if problems:
        raise SystemExit(f"the restored store is damaged: {problems[:3]}")


def dumps(b: Backup) -> None:
    for way, options, restore in [
        ("`pg_dump -Fc -Z0`", ["--format=custom", "--compress=0"], ["--jobs=2"]),
        ("`pg_dump -Fc -Z1`", ["--format=custom", "--compress=1"], ["--jobs=2"]),
        ("`pg_dump -Fd -j2 -Z0`", ["--format=directory", "--jobs=2", "--compress=0"], ["--jobs=2"]),
    ]:
        target = b.scratch / "dump"
        wrote = seconds(lambda: b.tool("pg_dump", *options, f"--file={target}", f"--dbname={b.url}"))
        size = size_of(target)
        b.new_database()
        read = seconds(lambda: b.tool("pg_restore", "--exit-on-error", *restore, f"--dbname={b.url}", str(target)))
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        b.report(way, size, wrote, read)
    print(f"  verify_store of the last: {minutes(verify(b.url)[0])}", file=sys.stderr)


def binary_copy(b: Backup) -> None:
    """Everything but the chunks by pg_dump, the chunks by COPY in binary, both with one snapshot."""
    rest, chunks = b.scratch / "rest.dump", b.scratch / "chunks.copy"

    def write() -> None:
        with psycopg.connect(b.url) as db:
            db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            snapshot = db.execute("SELECT pg_export_snapshot()").fetchone()[0]
            options = ["--format=custom", "--compress=1", f"--snapshot={snapshot}", f"--exclude-table-data={CHUNKS}"]
            b.tool("pg_dump", *options, f"--file={rest}", f"--dbname={b.url}")
            with chunks.open("wb") as file, db.cursor() as cursor, cursor.copy(f"COPY {CHUNKS} TO STDOUT (FORMAT binary)") as copy:
                for part in copy:
                    file.write(part)

    def read() -> None:
        restore = ["--exit-on-error", f"--dbname={b.url}", str(rest)]
        b.tool("pg_restore", "--section=pre-data", *restore)
        b.tool("psql", "-Xq", "--set=ON_ERROR_STOP=1", f"--command=\\copy {CHUNKS} FROM '{chunks}' (FORMAT binary)", b.url)
        b.tool("pg_restore", "--section=data", *restore)
        b.tool("pg_restore", "--section=post-data", "--jobs=2", *restore)

    wrote = seconds(write)
    size = rest.stat().st_size + chunks.stat().st_size
    b.new_database()
    restored = seconds(read)
    rest.unlink()
    chunks.unlink()
    b.report("`pg_dump` without chunks, and binary `COPY` of them", size, wrote, restored)


@contextlib.contextmanager
def started(b: Backup, data: pathlib.Path, *settings: str) -> Iterator[tuple[str, float]]:
    """A server on a data directory: its connection string, and seconds until it has recovered and takes writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = " ".join(f"-c {setting}" for setting in (f"port={port}", f"unix_socket_directories={b.scratch}", "archive_mode=off", *settings))
    url = psycopg.conninfo.make_conninfo(b.url, port=port)

    def start() -> None:
        b.as_server(b.bindir / "pg_ctl", "start", "-w", "-t", "3600", "-D", data, "-l", b.scratch / "restored.log", "-o", options)
        while True:
            with psycopg.connect(url, autocommit=True) as db:
                if not db.execute("SELECT pg_is_in_recovery()").fetchone()[0]:
                    return
            time.sleep(0.1)

    took = seconds(start)
    try:
        yield url, took
    finally:
        b.as_server(b.bindir / "pg_ctl", "stop", "-w", "-m", "immediate", "-D", data)


def base_backup(b: Backup, more: int) -> None:
    """pg_basebackup with its WAL; then archived WAL up to a point, with models imported before and after the point."""
    base, archive, copied = (b.scratch / name for name in ("base", "archive", "copied"))
    b.as_server("mkdir", archive)
    with b.postgres() as db:
        db.execute(f"ALTER SYSTEM SET archive_command = 'cp %p {archive}/%f'")
        db.execute("SELECT pg_reload_conf()")
        (models,) = psycopg.connect(b.url).execute("SELECT count(*) FROM store.models").fetchone()
        run = [b.bindir / "pg_basebackup", "-D", base, "-X", "stream", "--checkpoint=fast", "-d", b.server]
        wrote = seconds(lambda: b.as_server(*run))
        size = size_of(base)
        b.fill(more, first=100)
        db.execute("SELECT pg_create_restore_point('before')")
        b.fill(50_000_000, first=200)
        (segment,) = db.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        while (db.execute("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver").fetchone()[0]) < segment:
            time.sleep(0.1)
        db.execute("ALTER SYSTEM SET archive_command = '/bin/true'")
        db.execute("SELECT pg_reload_conf()")
    wal = size_of(archive)
    copy = seconds(lambda: b.as_server("cp", "-a", base, copied))
    with started(b, copied) as (url, start):
        assert verify(url)[1] == models
    b.report("`pg_basebackup`; a copy of it started", size, wrote, copy + start)
    b.as_server("rm", "-r", copied)
    b.as_server("touch", base / "recovery.signal")
    settings = (f"restore_command='cp {archive}/%f %p'", "recovery_target_name=before", "recovery_target_action=promote")
    with started(b, base, *settings) as (url, replayed):
        assert verify(url)[1] == models + -(-more // 1_000_000_000)
    b.as_server("rm", "-r", base, archive)
    b.report(f"the same with {wal / 1e9:.2f} GB of archived WAL, up to a restore point", size + wal, wrote, copy + replayed)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="connection string of a superuser")
    parser.add_argument("--bindir", type=pathlib.Path, required=True, help="where pg_dump and the others are")
    parser.add_argument("--scratch", type=pathlib.Path, required=True, help="a folder that the server reads and writes")
    parser.add_argument("--gb", type=float, default=10, help="bytes of the models")
    given = parser.parse_args()
    b = Backup(given.url, given.bindir, given.scratch)
    b.as_server("mkdir", "-p", b.scratch)
    os.environ["PGOPTIONS"] = "-c client_min_messages=warning"
    b.new_database()
    with psycopg.connect(b.url, autocommit=True) as db:
        db.execute("CREATE EXTENSION pg_modelstore")
        db.execute("SELECT modelstore.create_store()")
    print(f"  import: {minutes(seconds(lambda: b.fill(int(given.gb * 1e9))))}", file=sys.stderr, flush=True)
    with psycopg.connect(b.url, autocommit=True) as db:
        stored, database = db.execute(f"SELECT sum(stored_bytes)::bigint, pg_database_size(current_database()) FROM {CHUNKS}").fetchone()
    base_backup(b, int(given.gb * 1e8))
    dumps(b)
    binary_copy(b)
    print(f"\n{given.gb:.1f} GB of models, {stored / 1e9:.2f} GB of chunks, a database of {database / 1e9:.2f} GB\n")
    print("| way | backup | to write it | to restore it |\n| --- | --- | --- | --- |")
    for row in b.table:
        print(f"| {' | '.join(row)} |")
    print(f"\nverify_store: {minutes(verify(b.url)[0])}")


if __name__ == "__main__":
    main()
