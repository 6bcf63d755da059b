"""Concurrent, canceled and killed sessions on atoms: reference counts stay correct, no data is lost, no partial work remains."""

from __future__ import annotations

import collections
import contextlib
import random
import threading
import time
from collections.abc import Iterable

import psycopg
import pytest
from atoms import check_references, reconstruct, wait_for_ingest
from atoms_held import Key, ingest, release, rows
from harness import Server, wait_until
from observe import aside, assert_idle, gone, is_blocked

# The function for values of a type.
INGEST = {"text": "ingest_text", "bytea": "ingest"}

PATIENCE = 0.5

WORDS = [f"word{number}" for number in range(60)]
SEGMENTS = [random.Random(number).randbytes(30_000) for number in range(12)]


def document(generator: random.Random) -> str:
    """Paragraphs of some kilobytes, which other documents have as well."""
    lines = [" ".join(random.Random(n).choices(WORDS, k=9)) + ".\n" for n in range(40)]
    paragraphs = ["".join(random.Random(n).choices(lines, k=80)) for n in range(15)]
    paragraphs += ["".join(generator.choices(lines, k=4))]
    return "\n".join(generator.choices(paragraphs, k=generator.randint(1, 6)))


def blob(generator: random.Random) -> bytes:
    return b"".join(generator.choices(SEGMENTS, k=generator.randint(1, 6)))


def check(db: psycopg.Connection, holds: Iterable[Key]) -> None:
    """The tables agree with each other and with what is held; each content is there once, and no run has failed."""
    check_references(db, collections.Counter(holds))
    twice = "SELECT h_xy >> 56, content_hash FROM store.atoms GROUP BY 1, 2 HAVING count(*) > 1"
    assert db.execute(twice).fetchall() == []
    assert db.execute("SELECT status, error FROM store.ingestion_log WHERE status <> 'completed'").fetchall() == []


def collect_all(db: psycopg.Connection) -> None:
    db.execute("SELECT modelstore.atoms_gc()")
    db.execute("SELECT modelstore.gc()")


class Worker:
    """A session that takes in and releases, and knows what it holds."""

    def __init__(self, db: psycopg.Connection, seed: int, most: int = 12) -> None:
        self.db, self.generator, self.most = db, random.Random(seed), most
        self.held: list[tuple[Key, bytes]] = []
        self.doing: tuple[str, bytes] | None = None
        self.error: BaseException | None = None
        self.ingests = self.releases = 0

    def step(self) -> None:
        generator = self.generator
        kind = generator.random()
        if kind < 0.4:
            data: list[str | bytes] = [document(generator)]
        elif kind < 0.7:
            data = [blob(generator)]
        else:
            data = [document(generator).encode() for _ in range(generator.randint(2, 5))]
        raw = [d.encode() if isinstance(d, str) else d for d in data]
        self.doing = ("ingest", b"".join(raw))
        if len(data) == 1:
            keys = [ingest(self.db, data[0])]
        else:
            keys = self.db.execute(
                "SELECT h_xy, h_yz, h_zm FROM modelstore.ingest_many(%s::bytea[], 'text')", (raw,)
            ).fetchall()
            assert len(keys) == len(raw), "the run failed"
        self.held += zip(keys, raw, strict=True)
        self.ingests += len(raw)
        generator.shuffle(self.held)
        while len(self.held) > generator.randint(0, self.most):
            key, content = self.held.pop()
            self.doing = ("release", content)
            release(self.db, key)
            self.releases += 1
        self.doing = None

    def run(self, steps: int) -> None:
        try:
            for _ in range(steps):
                self.step()
        except BaseException as e:  # noqa: BLE001: told by the test
            self.error = e


def verify_and_empty(db: psycopg.Connection, held: list[tuple[Key, bytes]]) -> None:
    """All of it is there; without holds nothing is."""
    check(db, [key for key, _ in held])
    for key, content in set(held):
        assert reconstruct(db, key) == content
    for key, _ in held:
        release(db, key)
    collect_all(db)
    assert rows(db) == {}


@pytest.mark.slow
def test_references_stay_right_in_a_turmoil(db, connect) -> None:
    workers = [Worker(connect(), seed) for seed in range(5)]
    over = threading.Event()
    collected: list[int] = []
    errors: list[psycopg.Error] = []

    def collect(session=connect(), generator=random.Random(9)) -> None:
        # Pauses, for garbage to gather.
        while not over.wait(generator.uniform(0, 0.05)):
            try:
                collected.append(session.execute("SELECT atoms FROM modelstore.atoms_gc()").fetchone()[0])
                session.execute("SELECT modelstore.gc()")
            except psycopg.Error as e:
                errors.append(e)

    threads = [threading.Thread(target=worker.run, args=(120,)) for worker in workers]
    collector = threading.Thread(target=collect)
    for thread in [*threads, collector]:
        thread.start()
    for thread in threads:
        thread.join(120)
    over.set()
    collector.join(60)
    assert not any(thread.is_alive() for thread in [*threads, collector]), "a session hangs"
    held = [hold for worker in workers for hold in worker.held]
    print(f"{sum(w.ingests for w in workers)} ingests, {sum(w.releases for w in workers)} releases,"
          f" {len(collected)} collections of {sum(collected)} atoms, {len(held)} held")  # fmt: skip
    assert [(type(e).__name__, str(e)) for e in errors] == []
    assert [repr(w.error) for w in workers if w.error] == []
    assert sum(collected) > 0
    verify_and_empty(db, held)


# The collector and a run that needs what it would take

SHARED = "first line of the shared part\nsecond line of the shared part\n\n"
ALONE, BOTH = SHARED + "left\n", SHARED + "right\n"


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_the_collector_waits_for_an_ingest(end: str, db, connect) -> None:
    release(db, ingest(db, ALONE))
    first, second = connect(), connect()
    first.execute("BEGIN")
    key = ingest(first, BOTH)
    second.execute("SET lock_timeout = '200ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        second.execute("SELECT modelstore.atoms_gc()")
    second.execute("SET lock_timeout = 0")
    running = aside(second, "SELECT atoms FROM modelstore.atoms_gc()")
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the collector waits")
    first.execute(end)
    assert running.join().error is None
    held = [(key, BOTH.encode())] if end == "COMMIT" else []
    if not held:
        assert rows(db) == {}
    assert running.rows[0][0] > 0
    verify_and_empty(db, held)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_an_ingest_waits_for_the_collector(end: str, db, connect) -> None:
    release(db, ingest(db, ALONE))
    first, second = connect(), connect()
    first.execute("BEGIN")
    assert first.execute("SELECT atoms FROM modelstore.atoms_gc()").fetchone()[0] > 0
    running = aside(second, "SELECT h_xy, h_yz, h_zm, status FROM modelstore.ingest_text(%s::text)", (BOTH,))
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the ingest waits")
    # Readers do not.
    connect().execute("SET statement_timeout = '5s'; SELECT count(*) FROM store.atoms")
    first.execute(end)
    assert running.join().error is None
    assert running.rows[0][3] == "completed"
    check(db, [running.rows[0][:3]])
    verify_and_empty(db, [(running.rows[0][:3], BOTH.encode())])


def test_savepoints_leave_counts_right(db, connect) -> None:
    session = connect(autocommit=False)
    kept = ingest(session, ALONE)
    session.execute("SAVEPOINT s")
    ingest(session, BOTH)
    release(session, kept)
    session.execute("ROLLBACK TO s")
    again = ingest(session, BOTH)
    session.execute("SAVEPOINT t")
    release(session, again)
    session.execute("SELECT modelstore.atoms_gc()")
    session.execute("ROLLBACK TO t")
    session.commit()
    verify_and_empty(db, [(kept, ALONE.encode()), (again, BOTH.encode())])


@pytest.mark.parametrize("other", ["nothing", "ingest", "release", "collect"])
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_stricter_isolation_is_right_or_refused(isolation: str, other: str, db, connect) -> None:
    """Something happens between a transaction's snapshot and its ingest. 40001 is an answer, wrong counts are not."""
    blob_ = b"".join(SEGMENTS[:2])
    left = ingest(db, ALONE)
    session = connect(autocommit=False)
    session.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
    session.execute("SELECT count(*) FROM store.atoms")
    held = [(left, ALONE.encode())]
    if other == "ingest":
        held += [(ingest(db, BOTH), BOTH.encode()), (ingest(db, blob_), blob_)]
    elif other in ("release", "collect"):
        release(db, left)
        held.clear()
        if other == "collect":
            collect_all(db)
    completed = []
    try:
        for data, kind in ((BOTH, "text"), (blob_, "bytea")):
            row = session.execute(
                f"SELECT h_xy, h_yz, h_zm, status, error FROM modelstore.{INGEST[kind]}(%b::{kind})", (data,)
            ).fetchone()
            if row[3] == "completed":
                completed.append((row[:3], data.encode() if kind == "text" else data))
            else:
                assert "could not serialize access" in row[4], row
        session.commit()
        held += completed
    except psycopg.errors.SerializationFailure:
        session.rollback()
    if other == "nothing":
        assert len(completed) == 2
    db.execute("DELETE FROM store.ingestion_log WHERE error LIKE 'could not serialize access%'")
    verify_and_empty(db, held)


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_collector_with_an_old_snapshot(isolation: str, db, connect) -> None:
    release(db, ingest(db, ALONE))
    session = connect(autocommit=False)
    session.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
    session.execute("SELECT count(*) FROM store.atoms")
    key = ingest(db, BOTH)
    with contextlib.suppress(psycopg.errors.SerializationFailure):
        session.execute("SELECT modelstore.atoms_gc()")
        session.commit()
    session.rollback()
    verify_and_empty(db, [(key, BOTH.encode())])


# The same new content twice at a time


@pytest.mark.parametrize("data", [BOTH, b"".join(SEGMENTS[:3])], ids=["text", "blob"])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_the_same_new_content_in_two_sessions(end: str, data: str | bytes, db, connect) -> None:
    first, second = connect(), connect()
    kind = "text" if isinstance(data, str) else "bytea"
    first.execute("BEGIN")
    key = ingest(first, data)
    sql = f"SELECT h_xy, h_yz, h_zm, status, created FROM modelstore.{INGEST[kind]}(%b::{kind})"
    running = aside(second, sql, (data,))
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the second waits")
    first.execute(end)
    assert running.join().error is None
    (row,) = running.rows
    assert (row[:3], row[3]) == (key, "completed")
    assert (row[4] == 0) == (end == "COMMIT")
    assert db.execute("SELECT count(*) FROM store.ingestion_log").fetchone() == (2 if end == "COMMIT" else 1,)
    raw = data.encode() if isinstance(data, str) else data
    verify_and_empty(db, [(key, raw)] * (2 if end == "COMMIT" else 1))


# Stopped and killed


@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("fraction", [0.05, 0.6, None])
def test_an_ingest_stops_at_once(fraction: float | None, way: str, db, connect) -> None:
    session = connect()
    pid = session.info.backend_pid
    (oid,) = db.execute("SELECT lo_from_bytea(0, %b)", (random.Random(1).randbytes(48 << 20),)).fetchone()
    session.execute("SELECT modelstore.store_version()")
    running = aside(session, "SELECT * FROM modelstore.ingest_large_object(%s::oid)", (oid,))
    wait_for_ingest(db, pid, fraction)
    asked = time.monotonic()
    db.execute(f"SELECT {way}(%s)", (pid,))
    running.join()
    answered = running.ended - asked
    print(f"{way} at {fraction}: answered in {1000 * answered:.0f} ms")
    assert answered < PATIENCE
    if way == "pg_cancel_backend":
        assert isinstance(running.error, psycopg.errors.QueryCanceled)
        assert_idle(pid)
        verify_and_empty(session, [(ingest(session, BOTH), BOTH.encode())])
        session.execute("DELETE FROM store.ingestion_log WHERE status = 'completed'")
    else:
        assert isinstance(running.error, psycopg.errors.AdminShutdown | psycopg.OperationalError)
        wait_until(lambda: gone(pid), "the backend is gone", 5)
    assert rows(db) == {}
    assert db.execute("SELECT count(*) FROM store.ingestion_log").fetchone() == (0,)


@pytest.mark.crash
@pytest.mark.slow
def test_killed_in_the_middle_of_ingests_and_collections(server: Server, dbname: str) -> None:
    """What was answered is there, what was not is there as a whole or not at all."""
    generator = random.Random(31)
    held: list[tuple[Key, bytes]] = []
    for round_ in range(8):
        victim = ("ingest", "collect", "ingest", "all")[round_ % 4]
        with server.crash_expected(), contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(contextlib.closing(server.connect(dbname, autocommit=True))) for _ in "123"]
            workers = [Worker(session, 100 * round_ + n, most=6) for n, session in enumerate(sessions[:2])]

            def collect(session=sessions[2]) -> None:
                with contextlib.suppress(psycopg.OperationalError):
                    while True:
                        collect_all(session)

            # More steps than anybody waits for: what ends them is the kill.
            threads = [threading.Thread(target=worker.run, args=(10_000,)) for worker in workers]
            threads.append(threading.Thread(target=collect))
            for thread in threads:
                thread.start()
            time.sleep(generator.uniform(0.2, 1.2))
            if victim == "all":
                server.crash()
            else:
                server.kill_backend(sessions[0 if victim == "ingest" else 2].info.backend_pid)
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()
        assert all(isinstance(worker.error, psycopg.OperationalError) for worker in workers), workers
        held += [hold for worker in workers for hold in worker.held]
        with server.connect(dbname, autocommit=True) as db:
            # What was under way may have been committed without the client learning of it.
            held += unanswered(db, held, workers)
            check(db, [key for key, _ in held])
            for key, content in set(held):
                assert reconstruct(db, key) == content
    with server.connect(dbname, autocommit=True) as db:
        verify_and_empty(db, held)


def unanswered(db: psycopg.Connection, held: list, workers: list[Worker]) -> list[tuple[Key, bytes]]:
    """Holds that no client knows of: of what each worker was doing, that which counts say did happen, and no more."""
    counts = collections.Counter(key for key, _ in held)
    surplus = db.execute("""
        SELECT h_xy, h_yz, h_zm, ref_count - (SELECT count(*) FROM store.atom_parts p WHERE
               (p.h_xy, p.h_yz, p.h_zm) = (a.h_xy, a.h_yz, a.h_zm)) FROM store.atoms a""").fetchall()
    found = [row[:3] for row in surplus for _ in range(row[3] - counts[row[:3]])]
    contents = [(key, reconstruct(db, key)) for key in found]
    for worker in workers:
        mine = [c for _, c in contents if worker.doing and c in worker.doing[1]]
        print(f"{worker.doing[0] if worker.doing else 'nothing'} was under way, held afterwards: {len(mine)}")
    known = [worker.doing[1] for worker in workers if worker.doing]
    assert all(any(content in whole for whole in known) for _, content in contents), "more holds than anybody took"
    return contents
