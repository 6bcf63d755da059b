"""Observes a backend from outside: memory, threads, import progress; and statements that run in the background."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from harness import wait_until
from psycopg.sql import SQL, Identifier


def tables(db: psycopg.Connection, store: str = "store") -> list[str]:
    """The tables of a store, partitions among them."""
    rows = db.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s)) AND relkind = 'r' ORDER BY 1", (store,)
    )
    return [name for (name,) in rows]


def row_counts(db: psycopg.Connection, store: str = "store") -> dict[str, int]:
    """Rows of each table of a store, by the catalog; without those that are empty, and the one that every store has."""
    counts = SQL(" UNION ALL ").join(
        SQL("SELECT {}, count(*) FROM {}").format(name, Identifier(store, name)) for name in tables(db, store) if name != "store_version"
    )
    return {name: count for name, count in db.execute(counts) if count}


def problems(db: psycopg.Connection) -> list[tuple]:
    """What verify_store() finds."""
    return db.execute("SELECT * FROM modelstore.verify_store()").fetchall()


def dangling(db: psycopg.Connection, store: str = "store") -> int:
    """Pieces whose chunk is missing, deltas without a base, weights without a tensor: asked of the tables alone."""
    return db.execute(f"""
        SELECT (SELECT count(*) FROM {store}.tensor_data d
                WHERE NOT EXISTS (SELECT 1 FROM {store}.tensor_chunks c WHERE c.chunk_hash = d.chunk_hash))
             + (SELECT count(*) FROM {store}.tensor_chunks c WHERE base_hash IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM {store}.tensor_chunks b WHERE b.chunk_hash = c.base_hash))
             + (SELECT count(*) FROM {store}.model_weights w
                WHERE NOT EXISTS (SELECT 1 FROM {store}.tensor_metadata t WHERE t.tensor_id = w.tensor_id))
    """).fetchone()[0]  # fmt: skip


def exported_sha256(db: psycopg.Connection, model_id: object) -> str:
    """SHA-256 of what export_safetensors gives."""
    sha256 = hashlib.sha256()
    with db.cursor() as cursor:
        for (part,) in cursor.stream("SELECT modelstore.export_safetensors(%s)", (model_id,), binary=True):
            sha256.update(part)
    return sha256.hexdigest()


@dataclass
class Aside:
    """A statement that runs in a thread: what came of it and when it was over."""

    thread: threading.Thread | None = None
    error: psycopg.Error | None = None
    rows: list[tuple] | None = None
    ended: float = 0.0

    def join(self, seconds: float = 60) -> Aside:
        assert self.thread is not None
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the statement did not end"
        return self

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


def aside(connection: psycopg.Connection, sql: str, arguments: tuple = ()) -> Aside:
    """Begins a statement in a thread."""
    result = Aside()

    def run() -> None:
        try:
            cursor = connection.execute(sql, arguments)
            result.rows = cursor.fetchall() if cursor.description else []
        except psycopg.Error as e:
            result.error = e
        result.ended = time.monotonic()

    result.thread = threading.Thread(target=run, daemon=True)
    result.thread.start()
    return result


def wait_for_progress(db: psycopg.Connection, pid: int, fraction: float) -> None:
    """Waits until the import of a backend has come this far; 0 to 0.5 is its first pass, to 1 its second."""
    wait_until(lambda: has_come(db, pid, fraction), f"the import is at {fraction}")


def has_come(db: psycopg.Connection, pid: int, fraction: float) -> bool:
    """Whether a backend imports and has come this far."""
    sql = "SELECT bytes_processed >= %s * bytes_total FROM pg_stat_progress_copy WHERE pid = %s AND bytes_total > 0"
    return (db.execute(sql, (fraction, pid)).fetchone() or (False,))[0]


def is_blocked(db: psycopg.Connection, pid: int) -> bool:
    """Whether a backend waits for another one's lock."""
    return db.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)).fetchone()[0]


def task_times(pid: int) -> dict[str, tuple[str, int]]:
    """State and processor ticks of each thread of a process."""
    times = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        times[task.name] = (fields[0], int(fields[11]) + int(fields[12]))
    return times


def computed_since(pid: int, before: dict[str, tuple[str, int]]) -> float:
    """Seconds that the busiest thread of a process has computed since `task_times` gave `before`: unlike the clock's, no other process adds to them."""
    ticks = max(ticks - before.get(task, ("", 0))[1] for task, (_, ticks) in task_times(pid).items())
    return ticks / os.sysconf("SC_CLK_TCK")


def processor_time(pid: int) -> float:
    """Seconds that the threads of a process have computed, those that are gone included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_idle(pid: int) -> None:
    """No thread of the process computes anything any more: all sleep, and no ticks are added.

    A thread that was told to stop needs the processor once more to do so, for which it waits on a busy machine.
    """
    deadline = time.monotonic() + 2
    while busy := _busy(pid):
        assert time.monotonic() < deadline, busy


def _busy(pid: int) -> str:
    """What the threads of a process do in a tenth of a second; nothing when they sleep."""
    before = task_times(pid)
    time.sleep(0.1)
    after = task_times(pid)
    if not {state for state, _ in after.values()} <= {"S"}:
        return f"threads of {pid} run: {after}"
    grown = {t: after[t][1] - before[t][1] for t in after if t in before and after[t][1] > before[t][1]}
    return f"threads of {pid} have used the processor: {grown}" if grown else ""


def gone(pid: int) -> bool:
    return not pathlib.Path(f"/proc/{pid}").exists()


def anonymous_mib(pid: int) -> float:
    """Memory of the process's own, in MiB: without shared buffers and without the pages of its files."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass
class Peak:
    mib: float = 0.0


@contextlib.contextmanager
def memory_peak(pid: int) -> Iterator[Peak]:
    """Samples the process's own memory while the block runs."""
    peak, stop = Peak(), threading.Event()

    def sample() -> None:
        while not stop.wait(0.005):
            with contextlib.suppress(OSError):
                peak.mib = max(peak.mib, anonymous_mib(pid))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
