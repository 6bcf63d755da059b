"""The figures that docs/operations.md quotes: sizes and times of dumps, and locks of the statements that take most.

    scripts/bench.sh operations
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import time

import numpy as np
import psycopg
from models import minilm_model

# The options of pg_dump, and what the page calls them.
WAYS = {"--compress=0": "`-Z0`", "--compress=1": "`-Z1`", "": "default (gzip)", "--compress=zstd": "`-Z zstd`"}
ROUNDS = 3


def safetensors_of_one_tensor() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    return len(header).to_bytes(8, "little") + header + np.arange(1000, dtype="<f4").tobytes()


def dumps(url: str, bindir: pathlib.Path, work: pathlib.Path) -> None:
    """Size of a dump in custom format, time to write and to restore it: medians."""

    def run(tool: str, *arguments: str) -> float:
        began = time.perf_counter()
        subprocess.run([bindir / tool, *arguments], check=True)
        return time.perf_counter() - began

    def dump(option: str, *arguments: str) -> list[str]:
        return ["--format=custom", *([option] if option else []), *arguments, f"--dbname={url}"]

    print("\n| | file | dump | restore |\n| --- | --- | --- | --- |")
    for option, title in WAYS.items():
        tried = subprocess.run([bindir / "pg_dump", *dump(option, "--schema-only", f"--file={os.devnull}")], capture_output=True, check=False)
        if tried.returncode:
            print(f"| {title} | not in this build of pg_dump | | |")
            continue
        file, wrote, read = work / "operations.dump", [], []
        for _ in range(ROUNDS):
            wrote.append(run("pg_dump", *dump(option, f"--file={file}")))
            with psycopg.connect(url, dbname="postgres", autocommit=True) as server:
                server.execute("DROP DATABASE IF EXISTS operations_copy WITH (FORCE)")
                server.execute("CREATE DATABASE operations_copy")
                server.execute("CHECKPOINT")
            copy = psycopg.conninfo.make_conninfo(url, dbname="operations_copy")
            read.append(run("pg_restore", "--exit-on-error", "--jobs=2", f"--dbname={copy}", str(file)))
        print(f"| {title} | {file.stat().st_size / 1e6:.0f} MB | {sorted(wrote)[ROUNDS // 2]:.1f} s | {sorted(read)[ROUNDS // 2]:.1f} s |", flush=True)
        file.unlink()


def locks(url: str) -> None:
    """Locks that a transaction holds after a statement: all of them, and those in the shared table that
    max_locks_per_transaction sizes."""
    counted = "SELECT count(*), count(*) FILTER (WHERE NOT fastpath) FROM pg_locks WHERE pid = pg_backend_pid()"
    file = safetensors_of_one_tensor()
    statements = [
        ("create_store", "SELECT modelstore.create_store('counted')", ()),
        ("import_safetensors", "SELECT * FROM modelstore.import_safetensors('m', '1', %b::bytea)", (file,)),
        ("create_checkpoint", "SELECT checkpoint_id FROM modelstore.create_checkpoint('m', 1, %b::bytea)", (file,)),
        ("delete_model, gc", "SELECT weights, (SELECT tensors FROM modelstore.gc()) FROM modelstore.delete_model('m', cascade => true)", ()),
        ("add_module('atoms')", "SELECT modelstore.add_module('atoms')", ()),
        ("ingest of atoms", "SELECT * FROM modelstore.ingest(%b::bytea, 'text')", (b"Some text for atoms.\n" * 1000,)),
        ("drop_store with atoms", "SELECT modelstore.drop_store('counted', cascade => true)", ()),
    ]
    print("\n| statement | locks | in the shared table |\n| --- | --- | --- |")
    with psycopg.connect(url, autocommit=True) as db:
        (most,) = db.execute("SELECT current_setting('max_locks_per_transaction')::integer * (current_setting('max_connections')::integer + current_setting('max_prepared_transactions')::integer)").fetchone()
        for title, sql, arguments in statements:
            with db.transaction():
                if title != "create_store":
                    db.execute("SET LOCAL modelstore.store = 'counted'")
                db.execute(sql, arguments)
                # The rows of other statements of this session are not counted: a transaction starts without locks.
                total, shared = db.execute(counted).fetchone()
            print(f"| {title} | {total} | {shared} |")
        print(f"\nroom for {most} locks by max_locks_per_transaction, of all sessions")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="connection string of a superuser")
    parser.add_argument("--bindir", type=pathlib.Path, required=True, help="where pg_dump and pg_restore are")
    parser.add_argument("--only", default="dumps,locks")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".local/bench"))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    model = minilm_model()
    url = psycopg.conninfo.make_conninfo(given.url, dbname="operations")
    with psycopg.connect(given.url, autocommit=True) as server:
        server.execute("DROP DATABASE IF EXISTS operations WITH (FORCE)")
        server.execute("CREATE DATABASE operations")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE EXTENSION pg_modelstore")
        db.execute("SELECT modelstore.create_store()")
        db.execute("SELECT * FROM modelstore.import_safetensors('minilm', '1', %b::bytea)", (model.path.read_bytes(),))
        (chunks,) = db.execute("SELECT sum(stored_bytes)::bigint FROM store.tensor_chunks").fetchone()
        print(f"{db.execute('SELECT version()').fetchone()[0]}\n\n{model.name}: {chunks / 1e6:.1f} MB of chunks")
    if "dumps" in given.only:
        dumps(url, given.bindir, given.work)
    if "locks" in given.only:
        locks(url)


if __name__ == "__main__":
    main()
