"""Sessions that are canceled, terminated or killed during a call: they end promptly, leave no partial work and lose no data."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import random
import threading
import time
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from databases import create_database
from harness import Server, wait_until
from models import random_tensor, safetensors_bytes, write_large_file
from observe import (
    anonymous_mib,
    aside,
    assert_idle,
    computed_since,
    dangling,
    exported_sha256,
    gone,
    is_blocked,
    problems,
    processor_time,
    row_counts,
    task_times,
    wait_for_progress,
)

# One of each kind is `versioned`: what a session does when it is cancelled is the same code on all versions.
pytestmark = pytest.mark.alone

MIB = 1 << 20
# A promise of 100 ms, on a machine that may be busy with something else; and the same of the processor's time, with room for
# cleaning up and for a slow machine.
PATIENCE = 1.0
COMPUTING = 0.2

IMPORT_FILE = "SELECT * FROM modelstore.import_safetensors_file('big', 'x', %s)"


@pytest.fixture(scope="module")
def big(server: Server) -> Iterator[pathlib.Path]:
    """A file of 500 MiB that the server may read."""
    path = server.scratch / "big.safetensors"
    write_large_file(path, 500)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def full(server: Server, template: str, big: pathlib.Path) -> Iterator[str]:
    """Name of a database whose store has two models of 250 MiB that differ everywhere: a 1 and a 2."""
    create_database(server, "faults_full", template)
    with server.connect("faults_full", autocommit=True) as c:
        for version, seed in (("1", 11), ("2", 12)):
            path = server.scratch / f"half-{version}.safetensors"
            write_large_file(path, 250, seed)
            c.execute("SELECT modelstore.import_safetensors_file('a', %s, %s)", (version, str(path)))
            path.unlink()
    yield "faults_full"
    with server.connect(autocommit=True) as c:
        c.execute("DROP DATABASE faults_full WITH (FORCE)")


def large_object(db: psycopg.Connection, path: pathlib.Path) -> int:
    (oid,) = db.execute("SELECT pg_catalog.lo_import(%s)", (str(path),)).fetchone()
    return oid


@pytest.mark.parametrize("fraction", [0.02, 0.25, 0.6, 0.95])
@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
def test_an_import_of_a_file_stops_at_once(way: str, fraction: float, db, connect, big: pathlib.Path) -> None:
    stop_an_import(way, fraction, db, connect, IMPORT_FILE, (str(big),))


@pytest.mark.parametrize(("way", "fraction"), [("pg_cancel_backend", 0.3), ("pg_terminate_backend", 0.7)])
def test_an_import_of_a_large_object_stops_at_once(way: str, fraction: float, db, connect, big: pathlib.Path) -> None:
    sql = "SELECT * FROM modelstore.import_safetensors_large_object('big', 'x', %s::oid)"
    stop_an_import(way, fraction, db, connect, sql, (large_object(db, big),))


def stop_an_import(way: str, fraction: float, db, connect, sql: str, arguments: tuple) -> None:
    session = connect()
    pid = session.info.backend_pid
    running = aside(session, sql, arguments)
    wait_for_progress(db, pid, fraction)
    asked, before = time.monotonic(), task_times(pid)
    assert db.execute(f"SELECT {way}(%s)", (pid,)).fetchone() == (True,)
    running.join()
    answered = running.ended - asked
    print(f"{way} at {fraction:.0%}: answered in {1000 * answered:.0f} ms")
    assert answered < PATIENCE
    if way == "pg_cancel_backend":
        assert isinstance(running.error, psycopg.errors.QueryCanceled)
        assert computed_since(pid, before) < COMPUTING
        assert_idle(pid)
        assert anonymous_mib(pid) < 200
        # The session goes on, and its next import is as good as any.
        assert session.execute("SELECT modelstore.store_version()").fetchone()
        small = safetensors_bytes({"w": random_tensor(1, 600, 600)})
        (model, *_) = session.execute(
            "SELECT * FROM modelstore.import_safetensors('s', '1', %s::bytea)", (small,)
        ).fetchone()
        assert exported_sha256(session, model) == hashlib.sha256(small).hexdigest()
        session.execute("SELECT modelstore.delete_model(%s)", (model,))
        session.execute("SELECT modelstore.gc()")
    else:
        assert isinstance(running.error, psycopg.errors.AdminShutdown | psycopg.OperationalError)
        wait_until(lambda: gone(pid), "the backend is gone", 5)
        print(f"{way} at {fraction:.0%}: process gone after {1000 * (time.monotonic() - asked):.0f} ms")
    assert row_counts(db) == {}


@pytest.mark.versioned
def test_a_statement_timeout_stops_an_import(db, connect, big: pathlib.Path) -> None:
    session = connect()
    session.execute("SET statement_timeout = '400ms'")
    begun = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        session.execute(IMPORT_FILE, (str(big),))
    assert 0.3 < time.monotonic() - begun < 0.4 + PATIENCE
    assert_idle(session.info.backend_pid)
    assert row_counts(db) == {}


@pytest.mark.parametrize("stop", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_copy_into_an_upload_stops_at_once_and_goes_on_later(stop: str, db, connect, big: pathlib.Path) -> None:
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    session = connect()
    failed: list[psycopg.Error] = []

    def copy(connection: psycopg.Connection, at: int) -> None:
        with big.open("rb") as file, connection.cursor() as cursor:
            file.seek(at)
            with cursor.copy("COPY modelstore.upload (upload_id, data) FROM STDIN (FORMAT binary)") as out:
                out.set_types(["uuid", "bytea"])
                while part := file.read(MIB):
                    out.write_row((upload, part))

    def run() -> None:
        try:
            copy(session, 10 * MIB)
        except psycopg.Error as e:
            failed.append(e)

    with big.open("rb") as file:
        db.execute("SELECT modelstore.append_upload(%s, %b)", (upload, file.read(10 * MIB)))
    before, pid = row_counts(db), session.info.backend_pid
    thread = threading.Thread(target=run)
    thread.start()
    sql = "SELECT bytes_processed > 60000000 FROM pg_stat_progress_copy WHERE pid = %s"
    wait_until(lambda: (db.execute(sql, (pid,)).fetchone() or (False,))[0], "the COPY is in its middle")
    asked = time.monotonic()
    db.execute(f"SELECT {stop}(%s)", (pid,))
    stopped = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active')"
    wait_until(lambda: db.execute(stopped, (pid,)).fetchone()[0], "the COPY has stopped")
    print(f"{stop}: answered in {1000 * (time.monotonic() - asked):.0f} ms")
    assert time.monotonic() - asked < PATIENCE
    thread.join(60)
    assert isinstance(failed[0], psycopg.errors.QueryCanceled if stop == "pg_cancel_backend" else psycopg.OperationalError)
    assert row_counts(db) == before
    assert db.execute("SELECT modelstore.upload_offset(%s)", (upload,)).fetchone() == (10 * MIB,)
    other = session if stop == "pg_cancel_backend" else connect()
    copy(other, 10 * MIB)
    (model, *_) = other.execute("SELECT * FROM modelstore.finish_upload(%s, 'big', 'x')", (upload,)).fetchone()
    assert exported_sha256(db, model) == hashlib.sha256(big.read_bytes()).hexdigest()


# One thread, so that the statement still runs when it is asked to stop.
READERS = {
    "verify_model": "SELECT * FROM modelstore.verify_model(modelstore.find_model('a', '1'))",
    "verify_store": "SELECT * FROM modelstore.verify_store()",
    "diff_models": "SELECT * FROM modelstore.diff_models(modelstore.find_model('a', '1'), "
    "modelstore.find_model('a', '2'))",
    "export to a large object": "SELECT modelstore.export_safetensors_large_object(modelstore.find_model('a', '1'))",
    "export in FROM": "SELECT count(*) FROM modelstore.export_safetensors(modelstore.find_model('a', '1'))",
}


@pytest.mark.versioned
@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("what", READERS)
def test_readers_stop_at_once(what: str, way: str, server: Server, connect, full: str) -> None:
    db, session = connect(dbname=full), connect(dbname=full)
    pid = session.info.backend_pid
    session.execute("SET modelstore.threads = 1")
    begun, before = time.monotonic(), processor_time(pid)
    running = aside(session, READERS[what])
    wait_until(lambda: processor_time(pid) > before + 0.05, "it has computed for a while")
    asked, at_work = time.monotonic(), task_times(pid)
    db.execute(f"SELECT {way}(%s)", (pid,))
    running.join()
    answered = running.ended - asked
    print(f"{what}: {way} after {1000 * (asked - begun):.0f} ms, answered in {1000 * answered:.0f} ms")
    assert answered < PATIENCE
    assert running.error is not None, "it was over before it could be stopped"
    if way == "pg_cancel_backend":
        assert isinstance(running.error, psycopg.errors.QueryCanceled)
        assert computed_since(pid, at_work) < COMPUTING
        assert_idle(pid)
        assert session.execute("SELECT 1").fetchone() == (1,)
    else:
        wait_until(lambda: gone(pid), "the backend is gone", 5)
    assert db.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (0,)


@pytest.mark.versioned
@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_copy_of_an_export_stops_at_once(way: str, connect, full: str) -> None:
    db, session = connect(dbname=full), connect(dbname=full)
    pid = session.info.backend_pid
    sql = "COPY (SELECT modelstore.export_safetensors(modelstore.find_model('a', '1'))) TO STDOUT (FORMAT binary)"
    asked, received = 0.0, 0
    with pytest.raises((psycopg.errors.QueryCanceled, psycopg.errors.AdminShutdown, psycopg.OperationalError)):
        with session.cursor() as cursor, cursor.copy(sql) as copy:
            for part in copy:
                received += len(part)
                if received > 30 * MIB and not asked:
                    asked = time.monotonic()
                    db.execute(f"SELECT {way}(%s)", (pid,))
    answered = time.monotonic() - asked
    print(f"COPY of an export: {way} after {received / MIB:.0f} MiB, answered in {1000 * answered:.0f} ms")
    assert answered < PATIENCE
    if way == "pg_cancel_backend":
        assert_idle(pid)
        assert session.execute("SELECT 1").fetchone() == (1,)
    else:
        wait_until(lambda: gone(pid), "the backend is gone", 5)


@pytest.mark.versioned
def test_a_client_that_goes_away_in_the_middle_of_an_export(connect, full: str) -> None:
    db, session = connect(dbname=full), connect(dbname=full)
    pid = session.info.backend_pid
    sql = "COPY (SELECT modelstore.export_safetensors(modelstore.find_model('a', '1'))) TO STDOUT (FORMAT binary)"
    cursor = session.cursor()
    with contextlib.suppress(psycopg.Error), cursor.copy(sql) as copy:
        copy.read()
        session.pgconn.finish()
    wait_until(lambda: gone(pid), "the backend is gone", 5)
    assert db.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_stopped_export_leaves_no_half_file(way: str, server: Server, connect, full: str) -> None:
    db, session = connect(dbname=full), connect(dbname=full)
    path = server.scratch / f"half-{way}.out"
    sql = "SELECT modelstore.export_safetensors_file(modelstore.find_model('a', '1'), %s)"
    running = aside(session, sql, (str(path),))
    wait_until(lambda: path.exists() and path.stat().st_size > 20 * MIB, "some of the file is written")
    asked = time.monotonic()
    db.execute(f"SELECT {way}(%s)", (session.info.backend_pid,))
    running.join()
    print(f"export to a file: {way} answered in {1000 * (running.ended - asked):.0f} ms")
    assert running.ended - asked < PATIENCE
    assert running.error is not None
    wait_until(lambda: not path.exists(), "the half-written file is gone", 5)


@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_stopped_export_leaves_no_half_folder(way: str, server: Server, connect, full: str) -> None:
    db, session = connect(dbname=full), connect(dbname=full)
    path = server.scratch / f"half-folder-{way}"
    running = aside(session, "SELECT * FROM modelstore.export_folder(modelstore.find_model('a', '1'), %s)", (str(path),))

    def written() -> int:
        return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}.*.partial/*"))

    wait_until(lambda: written() > 20 * MIB, "some of the folder is written")
    db.execute(f"SELECT {way}(%s)", (session.info.backend_pid,))
    assert running.join().error is not None
    wait_until(lambda: not list(path.parent.glob(f"{path.name}*")), "the half-written folder is gone", 5)


def test_gc_stops_at_once_and_collects_the_rest_later(db, connect) -> None:
    # Many small tensors: a collection that takes long enough to be stopped.
    tensors = {f"t{i}": np.arange(i, i + 16, dtype="int32") for i in range(8_000)}
    data = safetensors_bytes(tensors)
    (model, *_) = db.execute("SELECT * FROM modelstore.import_safetensors('many', '1', %s::bytea)", (data,)).fetchone()
    keep = safetensors_bytes({"keep": random_tensor(2, 300, 300)})
    (kept, *_) = db.execute("SELECT * FROM modelstore.import_safetensors('keep', '1', %s::bytea)", (keep,)).fetchone()
    db.execute("SELECT modelstore.delete_model(%s)", (model,))
    before = row_counts(db)
    locker = connect()
    for way in ("pg_cancel_backend", "pg_terminate_backend"):
        session = connect()
        pid = session.info.backend_pid
        # Between tensors and chunks it waits for this lock, with thousands of tensors already gone.
        locker.execute("BEGIN; LOCK TABLE store.tensor_chunks IN SHARE MODE")
        running = aside(session, "SELECT * FROM modelstore.gc()")
        wait_until(lambda pid=pid: is_blocked(db, pid), "the collection waits")
        asked = time.monotonic()
        db.execute(f"SELECT {way}(%s)", (pid,))
        running.join()
        print(f"gc: {way} answered in {1000 * (running.ended - asked):.0f} ms")
        assert running.ended - asked < PATIENCE
        assert running.error is not None
        locker.execute("COMMIT")
        wait_until(lambda pid=pid, way=way: way == "pg_cancel_backend" or gone(pid), "the backend is gone")
        assert row_counts(db) == before
    assert db.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (8_000,)
    assert row_counts(db)["tensor_metadata"] == 1
    assert problems(db) == []
    assert exported_sha256(db, kept) == hashlib.sha256(keep).hexdigest()


@pytest.mark.versioned
def test_cancelling_again_and_again_does_not_leak(db, connect, big: pathlib.Path) -> None:
    session = connect()
    pid = session.info.backend_pid
    memory = []
    for round_ in range(8):
        running = aside(session, IMPORT_FILE, (str(big),))
        wait_for_progress(db, pid, 0.05 if round_ % 2 else 0.55)
        db.execute("SELECT pg_cancel_backend(%s)", (pid,))
        assert isinstance(running.join().error, psycopg.errors.QueryCanceled)
        memory.append(anonymous_mib(pid))
    print("MiB after each cancelled import:", [round(m) for m in memory])
    assert memory[-1] < memory[1] + 20
    assert_idle(pid)


def random_model(generator: random.Random, pool: list[np.ndarray]) -> bytes:
    chosen = generator.sample(range(len(pool)), generator.randint(4, len(pool)))
    return safetensors_bytes({f"t{i}": pool[i] for i in chosen})


@pytest.mark.versioned
@pytest.mark.crash
def test_killed_in_the_middle_of_imports_and_collections(server: Server, dbname: str) -> None:
    """Fourteen times, at random points, a process is killed that imports or collects. What was committed stays."""
    generator = random.Random(20)
    pool = [random_tensor(i, generator.randint(100, 1500), 512) for i in range(24)]
    committed: dict[str, str] = {}
    killed = {"import": 0, "gc": 0, "all": 0}
    begun = time.monotonic()
    for round_ in range(14):
        victim = ["import", "gc", "import", "gc", "all"][round_ % 5]
        with server.crash_expected():
            with contextlib.ExitStack() as stack:
                sessions = [server.connect(dbname, autocommit=True) for _ in range(3)]
                for session in sessions:
                    stack.callback(session.close)
                importer, collector, other = sessions
                ended = time.monotonic() + generator.uniform(0.1, 1.2)
                imports: list[tuple[str, str, object]] = []

                def work(session=importer, imports=imports, round_=round_) -> None:
                    for number in range(100):
                        data = random_model(generator, pool)
                        name = f"m{round_}-{number}"
                        sql = "SELECT model_id FROM modelstore.import_safetensors(%s, '1', %s::bytea)"
                        (model,) = session.execute(sql, (name, data), binary=True).fetchone()
                        imports.append((name, hashlib.sha256(data).hexdigest(), model))
                        if number % 3 == 2:
                            session.execute("SELECT modelstore.delete_model(%s)", (imports.pop(-2)[2],))

                def collect(session=collector) -> None:
                    while True:
                        session.execute("SELECT modelstore.gc()")

                threads = [in_thread(work), in_thread(collect)]
                time.sleep(max(0.0, ended - time.monotonic()))
                assert other.execute("SELECT 1").fetchone() == (1,)
                if victim == "all":
                    server.crash()
                else:
                    server.kill_backend((importer if victim == "import" else collector).info.backend_pid)
                for thread in threads:
                    thread.join(60)
                    assert not thread.is_alive()
                    if thread.failure is not None:
                        raise thread.failure
                killed[victim] += 1
        with server.connect(dbname, autocommit=True) as db:
            # Those the client knows of, less those it may have begun to delete.
            alive = {name for (name,) in db.execute("SELECT model_name FROM store.models")}
            for name, sha256, _ in imports[:-2]:
                assert name in alive, f"round {round_}: {name} was committed and is gone"
            committed |= {name: sha256 for name, sha256, _ in imports if name in alive}
            assert problems(db) == []
            assert dangling(db) == 0
            for name, model, sha256 in db.execute(
                "SELECT m.model_name, m.model_id, encode(f.sha256, 'hex') "
                "FROM store.models m JOIN store.model_files f USING (model_id)"
            ).fetchall():
                assert exported_sha256(db, model) == sha256 == committed.get(name, sha256)
            # Keep few: the next round is about its own.
            for (model,) in db.execute(
                "SELECT model_id FROM store.models ORDER BY created_at DESC OFFSET 4"
            ).fetchall():
                db.execute("SELECT modelstore.delete_model(%s)", (model,))
            committed = {n: s for n, s in committed.items() if n in alive}
    with server.connect(dbname, autocommit=True) as db:
        db.execute("SELECT modelstore.gc()")
        assert problems(db) == []
        left = """SELECT count(*) FROM store.tensor_chunks c
                  LEFT JOIN store.tensor_data d USING (chunk_hash) WHERE d.tensor_id IS NULL"""
        assert db.execute(left).fetchone() == (0,)
    print(f"killed {killed} in {time.monotonic() - begun:.0f} s")


class Worker(threading.Thread):
    """Runs something until its session is gone; any other error is kept as `failure`."""

    def __init__(self, work) -> None:
        super().__init__(daemon=True)
        self.work, self.failure = work, None

    def run(self) -> None:
        try:
            self.work()
        except psycopg.Error as e:
            # A killed process leaves no SQLSTATE, or one that says that the server goes down; deadlocks have others.
            if e.sqlstate is not None and not e.sqlstate.startswith(("57P", "08")):
                self.failure = e
        except BaseException as e:
            self.failure = e


def in_thread(work) -> Worker:
    thread = Worker(work)
    thread.start()
    return thread
