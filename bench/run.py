"""Benchmarks of a server: what users wait for, as ratios against plain PostgreSQL in the same run.

    make bench                         everything, on a server of its own
    scripts/bench.sh server --rounds 9 more rounds
    scripts/bench.sh server --only import,export

Every figure is a median over rounds that alternate with the baseline they are divided by, so that a machine that slows
down slows both. The table goes to docs/performance.md by hand, with the machine it was measured on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import psycopg
from atom_partitions import bench_partitions, bench_stores
from atoms import bench_atoms
from models import Model, bf16_model, minilm_model, partly_changed, write_copy_file
from training import bench_training
from uploads import bench_checkpoints, bench_uploads

MIB = 1 << 20


class Bench:
    """One database with the extension, a store and plain tables to compare with."""

    def __init__(self, url: str, rounds: int, work: pathlib.Path, bindir: str) -> None:
        self.url, self.rounds, self.work, self.bindir = url, rounds, work, bindir
        with psycopg.connect(url, autocommit=True) as c:
            c.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
            c.execute("CREATE DATABASE bench")
        self.url = psycopg.conninfo.make_conninfo(url, dbname="bench")
        self.db = psycopg.connect(self.url, autocommit=True)
        self.db.execute("SET client_min_messages = warning")
        self.db.execute("CREATE EXTENSION pg_modelstore")
        self.rows: list[tuple[str, str, str, str]] = []

    def fresh_store(self) -> None:
        if self.value("SELECT count(*) FROM modelstore.stores()"):
            self.db.execute("SELECT modelstore.drop_store('store', true)")
        self.db.execute("SELECT modelstore.create_store(modules => ARRAY['atoms'])")
        self.db.execute("CHECKPOINT")

    def value(self, sql: str, *args):
        return self.db.execute(sql, args).fetchone()[0]

    def timed(self, sql: str, *args) -> float:
        begun = time.perf_counter()
        self.db.execute(sql, args)
        return time.perf_counter() - begun

    def psql(self, sql: str) -> float:
        begun = time.perf_counter()
        subprocess.run(["psql", "-X", "-q", "-c", sql, self.url], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun

    def plain_table(self) -> None:
        self.db.execute("DROP TABLE IF EXISTS plain")
        self.db.execute("CREATE TABLE plain (data bytea)")
        self.db.execute("ALTER TABLE plain ALTER data SET STORAGE EXTERNAL")
        self.db.execute("CHECKPOINT")

    def report(self, job: str, figure: str, ratio: str, target: str) -> None:
        self.rows.append((job, figure, ratio, target))
        print(f"  {job}: {figure}, {ratio} (target {target})", file=sys.stderr, flush=True)


def rate(size: int, seconds: list[float]) -> float:
    return size / statistics.median(seconds) / 1e6


def bench_import(b: Bench, model: Model) -> None:
    """Server-side bytes to a model, against COPY BINARY of the same bytes into 1 MiB rows."""
    size = model.path.stat().st_size
    copy_file = write_copy_file(model.path, b.work)
    ours: dict[str, list[float]] = {"bytea": [], "large object": []}
    plain = []
    b.db.execute("DROP TABLE IF EXISTS file")
    b.db.execute("CREATE TABLE file (data bytea)")
    b.db.execute("ALTER TABLE file ALTER data SET STORAGE EXTERNAL")
    b.db.execute("INSERT INTO file VALUES (%b)", (model.path.read_bytes(),))
    oid = b.value("SELECT lo_from_bytea(0, data) FROM file")
    for _ in range(b.rounds):
        b.plain_table()
        plain.append(b.psql(f"\\copy plain FROM '{copy_file}' (FORMAT binary)"))
        b.fresh_store()
        ours["bytea"].append(b.timed("SELECT modelstore.import_safetensors('m', '1', data) FROM file"))
        b.fresh_store()
        ours["large object"].append(b.timed("SELECT modelstore.import_safetensors_large_object('m', '1', %s::oid)", oid))
    for source, seconds in ours.items():
        ratio = statistics.median(p / o for p, o in zip(plain, seconds))
        b.report(
            f"import {model.name} from {source}",
            f"{rate(size, seconds):.0f} MB/s (COPY {rate(size, plain):.0f})",
            f"{ratio:.2f} of COPY's speed",
            "1.00",
        )
    b.db.execute("SELECT lo_unlink(%s)", (oid,))


def bench_export(b: Bench, model: Model) -> None:
    """COPY BINARY out of a whole model, against the plain table's; and verify_model."""
    size = model.path.stat().st_size
    b.plain_table()
    b.psql(f"\\copy plain FROM '{write_copy_file(model.path, b.work)}' (FORMAT binary)")
    b.fresh_store()
    id = import_model(b, model)
    ours, plain, verify = [], [], []
    for _ in range(b.rounds):
        plain.append(b.psql("COPY plain TO STDOUT (FORMAT binary)"))
        ours.append(b.psql(f"COPY (SELECT modelstore.export_safetensors('{id}')) TO STDOUT (FORMAT binary)"))
        verify.append(b.timed("SELECT count(*) FROM modelstore.verify_model(%s)", id))
    ratio = statistics.median(p / o for p, o in zip(plain, ours))
    b.report(
        f"export {model.name}", f"{rate(size, ours):.0f} MB/s (COPY {rate(size, plain):.0f})", f"{ratio:.2f} of COPY's speed", "0.70"
    )
    b.report(f"verify {model.name}", f"{rate(size, verify):.0f} MB/s", "", "1500 MB/s")


@contextlib.contextmanager
def on_cores(db: psycopg.Connection, cores: set[int]):
    """Client and backend on these cores: on one, what a virtual machine takes to wake another core is left out."""
    everyone = (0, db.info.backend_pid)
    before = [(pid, os.sched_getaffinity(pid)) for pid in everyone]
    for pid in everyone:
        os.sched_setaffinity(pid, cores)
    try:
        yield
    finally:
        for pid, was in before:
            os.sched_setaffinity(pid, was)


def pgbench(b: Bench, id: object, name: str, rows: int) -> list[int] | None:
    """Ten rows and SELECT 1 by a client in C, in microseconds: it takes less of the caches that the backend shares with it.
    It reads text, so the rows are made and counted, not sent."""
    program = shutil.which("pgbench", path=os.pathsep.join([b.bindir, os.environ["PATH"]]))
    if not program:
        return None
    info = psycopg.conninfo.conninfo_to_dict(b.url)
    ten = f"SELECT modelstore.nbytes(modelstore.get_tensor_slice('{id}', '{name}', :r || ':' || :r + 10));"
    postmaster = int(b.value("SELECT pg_read_file('postmaster.pid')").split()[0])
    before = os.sched_getaffinity(postmaster)
    core = {min(before)}
    os.sched_setaffinity(postmaster, core)
    try:
        microseconds = []
        for statement in (ten, "SELECT 1;"):
            script = b.work / "pgbench.sql"
            script.write_text(f"\\set r random(0, {rows - 10})\n{statement}\n")
            host = b.value("SHOW unix_socket_directories")
            command = [program, "-n", "-M", "prepared", "-T", "3", "-f", str(script), "-h", host, "-p", str(info["port"]), "-U", str(info["user"]), str(info["dbname"])]
            run = subprocess.run(command, env=os.environ | {"PGPASSWORD": str(info.get("password", ""))}, check=True, text=True,
                                 capture_output=True, preexec_fn=lambda: os.sched_setaffinity(0, core))  # fmt: skip
            line = next(line for line in run.stdout.splitlines() if line.startswith("latency average"))
            microseconds.append(round(float(line.split("=")[1].split()[0]) * 1000))
        return microseconds
    finally:
        os.sched_setaffinity(postmaster, before)


def bench_slice(b: Bench, model: Model) -> None:
    """Ten rows of a matrix and the statistics view, on an open connection."""
    b.fresh_store()
    id = import_model(b, model)
    name = b.value("SELECT weight_name FROM store.v_weight_statistics WHERE cardinality(shape) = 2 ORDER BY element_count DESC LIMIT 1")
    rows = b.value("SELECT shape[1] FROM store.v_weight_statistics WHERE weight_name = %s", name)

    # As a client on the same machine connects.
    local = psycopg.connect(b.url, host=b.value("SHOW unix_socket_directories"), autocommit=True)

    def latency(sql: str, arguments, n: int) -> float:
        seconds = []
        with local.cursor(binary=True) as cursor:
            for i in range(n):
                begun = time.perf_counter()
                cursor.execute(sql, arguments(i), prepare=True)
                cursor.fetchall()
                seconds.append(time.perf_counter() - begun)
        return statistics.median(seconds) * 1e6

    spread = lambda i: (id, name, f"{i * 7919 % (rows - 10)}:{i * 7919 % (rows - 10) + 10}")
    for where, cores in [("", os.sched_getaffinity(0)), (", one core", {min(os.sched_getaffinity(0))})]:
        with on_cores(local, cores):
            empty = latency("SELECT 1", lambda i: (), 2000)
            ten = latency("SELECT modelstore.get_tensor_slice(%s, %s, %s)", spread, 2000)
        b.report(f"ten rows of {model.name}{where}", f"{ten:.0f} us (SELECT 1: {empty:.0f} us)", "", "150 us")
    c_client = pgbench(b, id, name, rows)
    if c_client:
        b.report(f"ten rows of {model.name}, by pgbench, one core", "{} us (SELECT 1: {} us)".format(*c_client), "", "150 us")
    view = latency("SELECT * FROM store.v_weight_statistics WHERE model_id = %s", lambda i: (id,), 100)
    b.report(f"v_weight_statistics of {model.name}", f"{view / 1000:.2f} ms", "", "5 ms")
    local.close()


def bench_size(b: Bench, models: list[tuple[Model, float]]) -> None:
    """Stored bytes of real weights, and of a second import."""
    for model, target in models:
        b.fresh_store()
        id = import_model(b, model)
        raw, stored = b.db.execute("SELECT raw_bytes, stored_bytes FROM modelstore.space_report() WHERE model_id = %s", (id,)).fetchone()
        b.report(f"stored size of {model.name}", f"{stored:,} of {raw:,} bytes", f"{stored / raw:.4f}", f"{target}")
    model = models[0][0]
    b.fresh_store()
    id = import_model(b, model)
    new = import_model(b, model, version="2", what="new_bytes")
    b.report(f"{model.name} again", f"{new:,} new bytes", f"{new / model.path.stat().st_size:.4f}", "0.01")
    changed = partly_changed(model, b.work, share=0.05)
    new = import_model(b, changed, version="3", what="new_bytes")
    b.report(f"{model.name}, 5 % of the tensors changed", f"{new:,} new bytes", f"{new / model.path.stat().st_size:.4f}", "0.05")


def import_model(b: Bench, model: Model, version: str = "1", what: str = "model_id"):
    return b.value(f"SELECT {what} FROM modelstore.import_safetensors('m', %s, %b)", version, model.path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="connection string of a superuser")
    parser.add_argument("--bindir", default="", help="where the server's own programs are, pgbench among them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="import,uploads,export,slice,size,training,atoms,stores,partitions")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".local/bench"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    only = arguments.only.split(",")
    b = Bench(arguments.url, arguments.rounds, arguments.work, arguments.bindir)
    minilm = minilm_model()
    bf16 = bf16_model(minilm, arguments.work, total_bytes=269_000_000)
    for model in (minilm, bf16):
        if "import" in only:
            bench_import(b, model)
        if "uploads" in only:
            bench_uploads(b, model)
        if "export" in only:
            bench_export(b, model)
    if "uploads" in only:
        bench_checkpoints(b)
    if "slice" in only:
        bench_slice(b, minilm)
    if "training" in only:
        bench_training(b, minilm)
    if "atoms" in only:
        bench_atoms(b)
    if "stores" in only:
        bench_stores(b)
    if "partitions" in only:
        bench_partitions(b)
    if "size" in only:
        from models import cast_model

        bench_size(b, [(minilm, 0.84), (cast_model(minilm, "bf16", arguments.work), 0.69), (cast_model(minilm, "f16", arguments.work), 0.86)])
    version = b.value("SELECT version()")
    print(f"\n{version}\n")
    print("| job | figure | ratio | target |\n| --- | --- | --- | --- |")
    for row in b.rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
