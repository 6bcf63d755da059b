"""Cost curves: how time, memory and WAL grow with the size of what is stored, each with its exponent.

    make curves                            small sizes: a few minutes
    make curves FULL=1                     large sizes: an hour, 10 GB of disk
    scripts/bench.sh curves NAME…          chosen curves; --list names them; --full takes large sizes

Each curve starts with a new database without statistics (autovacuum is off), so that no plan depends on an ANALYZE. Memory
is private memory of the backend (RssAnon) at its peak, less what the session had before. An exponent of 1 is linear, one of 0
does not grow. It says little where a cost is a few milliseconds or megabytes at all sizes.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator

import psycopg
from curves_atoms import CURVES as ATOMS
from curves_models import CURVES as MODELS
from curves_stores import CURVES as STORES
from curves_training import CURVES as TRAINING
from growth import Curve, Figures, rows, shown
from large import Memory

CURVES: list[Curve] = [*MODELS, *TRAINING, *STORES, *ATOMS]


class Server:
    """A server with a database of a curve, and how its costs are measured."""

    def __init__(self, url: str, scratch: pathlib.Path) -> None:
        self.server, self.scratch = url, scratch
        self.url = psycopg.conninfo.make_conninfo(url, dbname="curves")
        self.db: psycopg.Connection

    def fresh(self) -> None:
        """A new database with a store."""
        self.remove()
        with psycopg.connect(self.server, autocommit=True) as server:
            server.execute("CREATE DATABASE curves")
        self.db = self.session()
        self.db.execute("CREATE EXTENSION pg_modelstore")
        self.db.execute("SELECT modelstore.create_store()")
        self.db.execute("CHECKPOINT")

    def remove(self) -> None:
        with psycopg.connect(self.server, autocommit=True) as server:
            server.execute("DROP DATABASE IF EXISTS curves WITH (FORCE)")

    def session(self) -> psycopg.Connection:
        db = psycopg.connect(self.url, autocommit=True)
        db.execute("SET client_min_messages = warning")
        return db

    def value(self, sql: str, *arguments):
        return self.db.execute(sql, arguments).fetchone()[0]

    def median(self, sql: str, arguments: Iterable[tuple], warm: int = 3) -> float:
        """Seconds of a prepared statement with each of the arguments, rows read by the client: the median without the first."""
        taken = []
        for values in arguments:
            begun = time.perf_counter()
            self.db.execute(sql, values, prepare=True).fetchall()
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken[warm:] or taken)

    def once(self, what: str, sql: str, *arguments) -> Figures:
        """Time, memory and WAL of one statement in a session of its own. COPY … TO STDOUT is read to its end."""
        with self.session() as db:
            db.execute("SELECT modelstore.version()")
            before = db.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
            with watched(db.info.backend_pid) as memory:
                begun = time.perf_counter()
                if sql.startswith("COPY"):
                    with db.cursor() as cursor, cursor.copy(sql) as out:
                        for _ in out:
                            pass
                else:
                    db.execute(sql, arguments).fetchall()
                seconds = time.perf_counter() - begun
            wal = float(db.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", (before,)).fetchone()[0])
        figures = {f"{what} [s]": seconds, f"{what}, memory [B]": memory[0]}
        return figures | ({f"{what}, WAL [B]": wal} if wal > 1e5 else {})

    def file(self, name: str) -> pathlib.Path:
        """A path that the server reads."""
        return self.scratch / name


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """The most private memory of a process meanwhile, less that at the start, in bytes: in a list, when it has ended."""
    start, memory, ended, found = Memory(), Memory(), threading.Event(), [0.0]
    start.look(pid)

    def watch() -> None:
        while not ended.wait(0.005):
            memory.look(pid)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        memory.look(pid)
        ended.set()
        watching.join()
        found[0] = 1024.0 * max(memory.own.get(pid, 0) - start.own.get(pid, 0), 1)


def measure(server: Server, curve: Curve, full: bool) -> list[tuple[str, ...]]:
    points: list[tuple[int, Figures]] = []
    server.fresh()
    for size, figures in curve.measure(server, curve.full if full else curve.quick):
        points.append((size, figures))
        line = ", ".join(f"{title.partition(' [')[0]} {shown(cost, title.partition(' [')[2].rstrip(']'))}" for title, cost in figures.items())
        print(f"  {curve.name}, {size:,} {curve.size}: {line}", file=sys.stderr, flush=True)
    # WAL is left out where there is next to none: of the costs, those at all sizes.
    common = [title for title in points[0][1] if all(title in figures for _, figures in points)]
    return rows(curve, [(size, {title: figures[title] for title in common}) for size, figures in points])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="connection string of a superuser")
    parser.add_argument("--bindir", help="not used")
    parser.add_argument("--scratch", type=pathlib.Path, required=True, help="a folder that the server reads")
    parser.add_argument("--full", action="store_true", help="large sizes")
    parser.add_argument("--quick", action="store_true", help="small sizes, the default")
    parser.add_argument("--list", action="store_true", help="names the curves with their sizes")
    parser.add_argument("names", nargs="*", metavar="NAME", help="curves; all without one")
    given = parser.parse_args()
    if given.list:
        for curve in CURVES:
            print(f"{curve.name}: {', '.join(f'{s:,}' for s in curve.quick)} {curve.size}; --full {', '.join(f'{s:,}' for s in curve.full)}")
        return
    if unknown := set(given.names) - {curve.name for curve in CURVES}:
        parser.error(f"no curve {', '.join(sorted(unknown))}: --list names them")
    work = given.scratch / "curves"
    server, table = Server(given.url, work), []
    try:
        for curve in CURVES:
            if not given.names or curve.name in given.names:
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir(mode=0o755)
                begun = time.perf_counter()
                table += measure(server, curve, given.full and not given.quick)
                print(f"  {curve.name} took {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    finally:
        print("\n| curve | cost | sizes | at the smallest | at the largest | exponent | of the last two |\n| --- | --- | --- | --- | --- | --- | --- |")
        for row in table:
            print(f"| {' | '.join(row)} |")
        server.remove()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
