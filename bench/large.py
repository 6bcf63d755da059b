"""A made-up model of any size, from a client into the store and back: time, memory of both sides, WAL, and whether it is the same.

    scripts/bench.sh large --gb 3 --dtype bf16 --shards 4

Needs room for about five times the model. What it made is deleted in the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import psycopg
from models import ROOT, to_bf16

APPLICATION = "bench_large"
ROWS, COLUMNS = 4096, 2048
MB = 1e6


def write_model(folder: pathlib.Path, size: int, dtype: str, shards: int) -> None:
    """Matrices of normally distributed weights, as many as fit into `size` bytes, in one file or in shards with an index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": COLUMNS}))
    of_tensor = ROWS * COLUMNS * {"bf16": 2, "f32": 4}[dtype]
    count = max(size // of_tensor, shards, 1)
    weight_map = {}
    for shard in range(max(shards, 1)):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors" if shards else "model.safetensors"
        numbers = range(shard, count, max(shards, 1))
        names = [f"model.layers.{n}.mlp.up_proj.weight" for n in numbers]
        header = {
            weight: {"dtype": dtype.upper(), "shape": [ROWS, COLUMNS], "data_offsets": [i * of_tensor, (i + 1) * of_tensor]}
            for i, weight in enumerate(names)
        }
        text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for n in numbers:
                rng = np.random.default_rng(n)
                weights = rng.standard_normal(ROWS * COLUMNS, dtype="float32") * np.float32(rng.uniform(0.01, 0.05))
                file.write(to_bf16(weights) if dtype == "bf16" else weights.tobytes())
        weight_map |= dict.fromkeys(names, name)
    if shards:
        index = {"metadata": {"total_size": count * of_tensor}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def hashes(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of each file."""
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


class Memory:
    """The peaks of processes: VmHWM, which includes shared buffers, and private memory alone (RssAnon, looked at every 10 ms)."""

    def __init__(self) -> None:
        self.whole: dict[int, int] = {}
        self.own: dict[int, int] = {}

    def look(self, pid: int) -> None:
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        for kept, name in ((self.whole, "VmHWM"), (self.own, "RssAnon")):
            if found := re.search(rf"{name}:\s+(\d+) kB", status):
                kept[pid] = max(kept.get(pid, 0), int(found[1]))

    def __str__(self) -> str:
        return f"{max(self.own.values(), default=0) / 1024:.0f} MiB of its own, {max(self.whole.values(), default=0) / 1024:.0f} MiB with what it shares"


def client(db: psycopg.Connection, url: str, *arguments: str) -> tuple[float, Memory, Memory, int]:
    """Runs the command of the Python client; its time, the memory of backend and client, and WAL."""
    before = db.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
    backend, own, ended = Memory(), Memory(), threading.Event()
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pg_modelstore", *arguments, "--url", psycopg.conninfo.make_conninfo(url, application_name=APPLICATION)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT / "clients" / "python" / "src")},
    )

    def watch() -> None:
        pids: list[int] = []
        for turn in range(1 << 62):
            if turn % 50 == 0:
                query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
                pids = [pid for (pid,) in db.execute(query, (APPLICATION,)).fetchall()]
            for pid in pids:
                backend.look(pid)
            own.look(process.pid)
            if ended.wait(0.01):
                return

    watching = threading.Thread(target=watch)
    watching.start()
    code = process.wait()
    seconds = time.perf_counter() - began
    ended.set()
    watching.join()
    if code:
        raise SystemExit(f"{arguments[0]} ended with exit code {code}")
    wal = int(db.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", (before,)).fetchone()[0])
    return seconds, backend, own, wal


def plain(db: psycopg.Connection, folder: pathlib.Path) -> tuple[float, float]:
    """Seconds of COPY BINARY of the same bytes into a plain table, in rows of 1 MiB by psycopg, and out of it."""
    db.execute("CREATE TABLE plain (data bytea)")
    db.execute("ALTER TABLE plain ALTER data SET STORAGE EXTERNAL")
    began = time.perf_counter()
    with db.cursor() as cursor, cursor.copy("COPY plain FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["bytea"])
        for path in sorted(folder.iterdir()):
            with path.open("rb") as file:
                while part := file.read(1 << 20):
                    copy.write_row((part,))
    wrote = time.perf_counter() - began
    began = time.perf_counter()
    with db.cursor() as cursor, cursor.copy("COPY plain TO STDOUT (FORMAT binary)") as copy:
        for _ in copy:
            pass
    read = time.perf_counter() - began
    db.execute("DROP TABLE plain")
    return wrote, read


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="connection string of a superuser")
    parser.add_argument("--bindir", help="not used")
    parser.add_argument("--gb", type=float, default=3, help="size of the model")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--shards", type=int, default=0, help="number of files with an index; 0: one file")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".local/bench"))
    given = parser.parse_args()
    work = given.work / "large"
    shutil.rmtree(work, ignore_errors=True)
    with psycopg.connect(given.url, autocommit=True) as server:
        server.execute("DROP DATABASE IF EXISTS large WITH (FORCE)")
        server.execute("CREATE DATABASE large")
        url = psycopg.conninfo.make_conninfo(given.url, dbname="large")
        try:
            with psycopg.connect(url, autocommit=True) as db:
                measure(db, url, given, work)
        finally:
            server.execute("DROP DATABASE IF EXISTS large WITH (FORCE)")
            shutil.rmtree(work, ignore_errors=True)


def measure(db: psycopg.Connection, url: str, given: argparse.Namespace, work: pathlib.Path) -> None:
    db.execute("CREATE EXTENSION pg_modelstore")
    db.execute("SELECT modelstore.create_store()")
    write_model(work / "in", int(given.gb * 1e9), given.dtype, given.shards)
    size = sum(path.stat().st_size for path in (work / "in").iterdir())
    expected = hashes(work / "in")
    print(f"{len(expected)} files, {size / MB:.0f} MB of {given.dtype}", file=sys.stderr)
    db.execute("CHECKPOINT")
    wrote, read = plain(db, work / "in")
    db.execute("CHECKPOINT")
    push, push_backend, push_client, wal = client(db, url, "push", str(work / "in"), "large:1")
    (stored,) = db.execute("SELECT sum(stored_bytes)::bigint FROM store.tensor_chunks").fetchone()
    chunks, on_disk = db.execute("SELECT pg_total_relation_size('store.tensor_chunks'), pg_database_size(current_database())").fetchone()
    pull, pull_backend, pull_client, _ = client(db, url, "pull", "large:1", str(work / "out"))
    same = hashes(work / "out") == expected
    print(f"\n{db.execute('SELECT version()').fetchone()[0]}\n")
    print("| | push | pull |\n| --- | --- | --- |")
    print(f"| {size / MB:.0f} MB of {given.dtype} in {len(expected) - 1 - bool(given.shards)} files | {push:.1f} s, {size / push / MB:.0f} MB/s | {pull:.1f} s, {size / pull / MB:.0f} MB/s |")
    print(f"| COPY into and out of a plain table | {wrote:.1f} s, {size / wrote / MB:.0f} MB/s | {read:.1f} s, {size / read / MB:.0f} MB/s |")
    print(f"| memory of the backend | {push_backend} | {pull_backend} |")
    print(f"| memory of the client | {push_client} | {pull_client} |")
    print(f"\nstored: {stored / MB:.0f} MB, {stored / size:.3f} of the files; their table {chunks / stored:.3f} of that, the database {on_disk / MB:.0f} MB; WAL {wal / MB:.0f} MB, {wal / stored:.3f} of the bytes stored")
    print("the folder that came back is " + ("the same, by SHA-256 of each file" if same else "ANOTHER ONE"))
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
