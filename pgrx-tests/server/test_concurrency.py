"""Concurrent imports of overlapping models, deletions and collections: no data is lost or stored twice, no deadlock; and no
state ties a client to one session."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import time

import numpy as np
import psycopg
import pytest
from harness import wait_until
from models import random_tensor, safetensors_bytes
from observe import aside, dangling, exported_sha256, is_blocked, problems, row_counts

pytestmark = pytest.mark.versioned

IMPORT = "SELECT model_id FROM modelstore.import_safetensors(%s, %s, %b::bytea)"


def import_model(session: psycopg.Connection, name: str, data: bytes, version: str = "1") -> object:
    return session.execute(IMPORT, (name, version, data)).fetchone()[0]


def overlapping(generator: random.Random, pool: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Some of the pool in an order of its own, and under other names; half of the time one that nobody else has."""
    chosen = generator.sample(range(len(pool)), generator.randint(3, 14))
    tensors = {f"{generator.choice('abc')}.{i}": pool[i] for i in chosen}
    if generator.random() < 0.5:
        tensors["own"] = random_tensor(generator.randrange(1 << 30), generator.randint(1, 400), 512)
    if generator.random() < 0.5:
        # Chunks of another tensor's, in a tensor of its own.
        first = pool[chosen[0]]
        tensors["part"] = np.concatenate([first, first[: generator.randint(1, len(first))]])
    return tensors


class Turmoil:
    """Importing sessions, deletions and a collector, until the time is over."""

    def __init__(self, connect, isolation: str, seconds: float) -> None:
        self.connect, self.isolation, self.seconds = connect, isolation, seconds
        generator = random.Random(3)
        self.pool = [random_tensor(i, generator.randint(20, 700), 512) for i in range(40)]
        self.lock = threading.Lock()
        self.models: dict[object, str] = {}
        self.errors: list[psycopg.Error] = []
        self.counts = {"imported": 0, "deleted": 0, "collections": 0, "collected": 0, "exported": 0}

    def session(self) -> psycopg.Connection:
        session = self.connect()
        session.execute(f"SET default_transaction_isolation = '{self.isolation}'")
        return session

    def count(self, what: str, by: int = 1) -> None:
        with self.lock:
            self.counts[what] += by

    def importer(self, number: int, until: float) -> None:
        generator, session = random.Random(number), self.session()
        while time.monotonic() < until:
            data = safetensors_bytes(overlapping(generator, self.pool))
            try:
                model = import_model(session, f"m{number}", data, str(time.monotonic_ns()))
            except psycopg.Error as e:
                self.errors.append(e)
                continue
            self.count("imported")
            with self.lock:
                self.models[model] = hashlib.sha256(data).hexdigest()
            # Few models live at once, so that common tensors become garbage and come back all the time.
            while (taken := self.take(generator, 5)) is not None:
                model, sha256 = taken
                try:
                    if generator.random() < 0.3:
                        assert exported_sha256(session, model) == sha256
                        self.count("exported")
                    session.execute("SELECT modelstore.delete_model(%s)", (model,))
                    self.count("deleted")
                except psycopg.Error as e:
                    self.errors.append(e)
                    with self.lock:
                        self.models[model] = sha256
                    break

    def take(self, generator: random.Random, keep: int) -> tuple[object, str] | None:
        """One of the models for this session to delete, while there are more than `keep`."""
        with self.lock:
            if len(self.models) <= keep:
                return None
            model = generator.choice(list(self.models))
            return model, self.models.pop(model)

    def collector(self, until: float) -> None:
        generator, session = random.Random(99), self.session()
        while time.monotonic() < until:
            # Time for garbage to gather, which an import may find and take up again.
            time.sleep(generator.uniform(0, 0.2))
            try:
                (tensors, *_) = session.execute("SELECT * FROM modelstore.gc()").fetchone()
                self.count("collections")
                self.count("collected", tensors)
            except psycopg.Error as e:
                self.errors.append(e)

    def run(self) -> None:
        until = time.monotonic() + self.seconds
        failures: list[BaseException] = []

        def guarded(work, *arguments) -> None:
            try:
                work(*arguments, until)
            except BaseException as e:
                failures.append(e)

        threads = [threading.Thread(target=guarded, args=(self.importer, i)) for i in range(4)]
        threads.append(threading.Thread(target=guarded, args=(self.collector,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive(), "a session hangs"
        if failures:
            raise failures[0]


def check_store(db: psycopg.Connection, models: dict[object, str]) -> None:
    """Nothing is missing, and after a collection nothing is there that no model needs."""
    assert dangling(db) == 0
    assert problems(db) == []
    for model, sha256 in models.items():
        assert exported_sha256(db, model) == sha256
    assert {m for (m,) in db.execute("SELECT model_id FROM store.models")} == set(models)
    db.execute("SELECT modelstore.gc()")
    assert problems(db) == []
    for model, sha256 in models.items():
        assert exported_sha256(db, model) == sha256
    once = """
        SELECT (SELECT count(*) FROM store.tensor_chunks),
               (SELECT count(DISTINCT chunk_hash) FROM store.tensor_data),
               (SELECT count(DISTINCT sha256(modelstore.decode(chunk))) FROM store.tensor_chunks),
               (SELECT count(*) FROM store.tensor_metadata),
               (SELECT count(DISTINCT tensor_id) FROM store.model_weights)
    """
    chunks, used, distinct, tensors, needed = db.execute(once).fetchone()
    assert chunks == used == distinct
    assert tensors == needed


@pytest.mark.slow
def test_imports_deletions_and_collections_at_once(db, connect) -> None:
    turmoil = Turmoil(connect, "read committed", 20)
    turmoil.run()
    print("read committed:", turmoil.counts, f"{len(turmoil.models)} models at the end")
    assert not turmoil.errors, turmoil.errors
    assert min(turmoil.counts.values()) > 0
    check_store(db, turmoil.models)


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_stricter_isolation_fails_only_as_it_may(isolation: str, db, connect) -> None:
    turmoil = Turmoil(connect, isolation, 6)
    turmoil.run()
    errors = {}
    for e in turmoil.errors:
        errors[e.sqlstate] = errors.get(e.sqlstate, 0) + 1
    print(f"{isolation}:", turmoil.counts, "errors:", errors)
    check_store(db, turmoil.models)
    wrong = [e for e in turmoil.errors if e.sqlstate != "40001"]
    assert not wrong, wrong
    assert turmoil.counts["imported"] > 0


# The collector against one import, step by step

COMMON = random_tensor(7, 900, 512)
ONE = safetensors_bytes({"common": COMMON, "one": random_tensor(8, 700, 512)})
# The first chunks of `common` in another tensor.
TWO = safetensors_bytes(
    {"longer": np.concatenate([COMMON, random_tensor(9, 600, 512)]), "two": random_tensor(10, 50, 512)}
)


@pytest.fixture
def garbage(db):
    """A store whose tensors are all garbage, with some chunk that both ONE and TWO have."""
    model = import_model(db, "gone", ONE)
    both = import_model(db, "both", TWO)
    (shared,) = db.execute(
        "SELECT count(*) FROM (SELECT FROM store.tensor_data GROUP BY chunk_hash HAVING count(DISTINCT tensor_id) > 1)"
        " AS shared"
    ).fetchone()
    assert shared > 0
    for m in (model, both):
        db.execute("SELECT modelstore.delete_model(%s)", (m,))
    return db


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_the_collector_passes_over_what_an_open_import_has_found(level: str, garbage, connect) -> None:
    importer, collector = connect(), connect()
    chunks = row_counts(garbage)["tensor_chunks"]
    importer.execute("BEGIN")
    model = import_model(importer, "again", ONE)
    collector.execute(f"BEGIN ISOLATION LEVEL {level}")
    collector.execute("SET LOCAL statement_timeout = '10s'")
    (tensors, collected, *_) = collector.execute("SELECT * FROM modelstore.gc()").fetchone()
    collector.execute("COMMIT")
    assert tensors == 2  # those of TWO that ONE does not have
    assert 0 < collected < chunks
    importer.execute("COMMIT")
    assert problems(garbage) == []
    assert dangling(garbage) == 0
    assert exported_sha256(garbage, model) == hashlib.sha256(ONE).hexdigest()
    assert garbage.execute("SELECT tensors, chunks FROM modelstore.gc()").fetchone() == (0, 0)


def test_a_chunk_is_kept_from_when_an_import_has_found_it(db, connect) -> None:
    """Before the import has a row that refers to it, which would keep it as well."""
    db.execute("SELECT modelstore.delete_model(%s)", (import_model(db, "gone", ONE),))
    db.execute("DELETE FROM store.tensor_metadata")
    chunks = row_counts(db)["tensor_chunks"]
    importer, locker = connect(), connect()
    locker.execute("BEGIN; LOCK TABLE store.tensor_metadata IN SHARE MODE")
    running = aside(importer, IMPORT, ("again", "1", ONE))
    wait_until(lambda: is_blocked(db, importer.info.backend_pid), "the import waits with its chunks found")
    assert db.execute("SELECT tensors, chunks FROM modelstore.gc()").fetchone() == (0, 0)
    locker.execute("COMMIT")
    assert running.join().error is None
    assert row_counts(db)["tensor_chunks"] == chunks
    assert problems(db) == []
    assert exported_sha256(db, running.rows[0][0]) == hashlib.sha256(ONE).hexdigest()


def test_the_collector_passes_over_chunks_that_a_new_tensor_shares(db, connect) -> None:
    db.execute("SELECT modelstore.delete_model(%s)", (import_model(db, "gone", ONE),))
    importer, collector = connect(), connect()
    importer.execute("BEGIN")
    model = import_model(importer, "two", TWO)
    (tensors, chunks, *_) = collector.execute("SELECT * FROM modelstore.gc()").fetchone()
    assert tensors == 2
    importer.execute("COMMIT")
    assert chunks > 0
    assert problems(db) == []
    assert exported_sha256(db, model) == hashlib.sha256(TWO).hexdigest()


@pytest.mark.parametrize("outcome", ["COMMIT", "ROLLBACK"])
def test_an_import_waits_for_an_open_collection(outcome: str, garbage, connect) -> None:
    importer, collector = connect(), connect()
    collector.execute("BEGIN")
    (tensors, chunks, *_) = collector.execute("SELECT * FROM modelstore.gc()").fetchone()
    assert tensors == 4
    assert chunks > 0
    running = aside(importer, IMPORT, ("again", "1", ONE))
    wait_until(lambda: is_blocked(garbage, importer.info.backend_pid), "the import waits", 10)
    collector.execute(outcome)
    running.join()
    assert running.error is None
    assert problems(garbage) == []
    assert dangling(garbage) == 0
    assert exported_sha256(garbage, running.rows[0][0]) == hashlib.sha256(ONE).hexdigest()


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_the_collector_looks_again_after_it_has_its_locks(level: str, garbage, connect) -> None:
    """An import that commits between the collector's first look and its lock: the first look has seen garbage, the
    lock is free again. Row security on model_weights holds the collector up in between."""
    import_model(garbage, "other", safetensors_bytes({"other": random_tensor(30, 10, 10)}))
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        garbage.execute("CREATE ROLE collector LOGIN")
    garbage.execute("""
        GRANT USAGE ON SCHEMA modelstore, store TO collector;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA store TO collector;
        CREATE FUNCTION public.hold_up() RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_lock(77); PERFORM pg_advisory_unlock(77); RETURN true; END';
        CREATE POLICY slow ON store.model_weights TO collector USING (public.hold_up());
        ALTER TABLE store.model_weights ENABLE ROW LEVEL SECURITY;
    """)
    collector, importer = connect(user="collector"), connect()
    garbage.execute("SELECT pg_advisory_lock(77)")
    collector.execute(f"SET default_transaction_isolation = '{level}'")
    collector.execute("SET modelstore.trust_store_owner = on")
    # A hash join reads the weights before it hands on the first tensor; others would lock some tensors first.
    collector.execute("SET enable_nestloop = off; SET enable_mergejoin = off")
    running = aside(collector, "SELECT * FROM modelstore.gc()")
    wait_until(lambda: is_blocked(garbage, collector.info.backend_pid), "the collector is held up", 10)
    model = import_model(importer, "again", ONE)
    garbage.execute("SELECT pg_advisory_unlock(77)")
    running.join()
    if level == "READ COMMITTED":
        assert running.error is None
        assert running.rows[0][0] == 2
    else:
        assert running.error is None or running.error.sqlstate == "40001", running.error
    assert dangling(garbage) == 0
    assert problems(garbage) == []
    assert exported_sha256(garbage, model) == hashlib.sha256(ONE).hexdigest()


def test_two_collectors_at_once(garbage, connect) -> None:
    first, second = connect(), connect()
    first.execute("BEGIN")
    (tensors, *_) = first.execute("SELECT * FROM modelstore.gc()").fetchone()
    assert tensors == 4
    second.execute("SET statement_timeout = '10s'")
    assert second.execute("SELECT tensors, chunks FROM modelstore.gc()").fetchone() == (0, 0)
    first.execute("COMMIT")
    assert row_counts(garbage) == {}


def test_the_same_name_at_once(db, connect) -> None:
    first, second = connect(), connect()
    first.execute("BEGIN")
    import_model(first, "m", ONE)
    running = aside(second, IMPORT, ("m", "1", TWO))
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the second waits", 10)
    first.execute("COMMIT")
    assert isinstance(running.join().error, psycopg.errors.UniqueViolation)
    assert db.execute("SELECT tensors, chunks FROM modelstore.gc()").fetchone() == (0, 0)


def test_a_parent_that_goes_while_a_shard_is_added(db, connect) -> None:
    """A weight may be stored as a difference to its parent's only while that is there; else it is stored whole."""
    weight = random_tensor(1, 3000, 4096)  # 47 MiB: long enough to delete the parent meanwhile
    parent = import_model(db, "parent", safetensors_bytes({"w": weight}))
    (child,) = db.execute("SELECT modelstore.register_model('child', '1', parent => %s)", (parent,)).fetchone()
    changed = weight.copy()
    changed[::100] += 1
    data = safetensors_bytes({"w": changed})
    session = connect()
    running = aside(session, "SELECT * FROM modelstore.add_file(%s, 'a.safetensors', %b::bytea)", (child, data))
    sql = "SELECT bytes_processed > 0 FROM pg_stat_progress_copy WHERE pid = %s"
    wait_until(lambda: (db.execute(sql, (session.info.backend_pid,)).fetchone() or (False,))[0], "it has begun")
    db.execute("SELECT modelstore.delete_model(%s, true)", (parent,))
    db.execute("SELECT modelstore.gc()")
    running.join()
    assert running.error is None, running.error
    assert problems(db) == []
    assert exported_sha256(db, child) == hashlib.sha256(data).hexdigest()


def test_uploads_of_one_file_by_many_sessions(db, connect) -> None:
    """What a pooler that hands out another session for each transaction does to a client."""
    (upload,) = connect().execute("SELECT modelstore.begin_upload(%s)", (len(ONE),)).fetchone()
    at = 0
    for size in [1, 2, 7, 100_000, 1 << 20, len(ONE)]:
        session = connect(prepare_threshold=None)
        part = ONE[at : at + size]
        (at,) = session.execute("SELECT modelstore.append_upload(%s, %b, %s)", (upload, part, at)).fetchone()
        session.close()
    assert at == len(ONE)
    # A part that comes a second time, because the answer to the first was lost.
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        db.execute("SELECT modelstore.append_upload(%s, 'x'::bytea, 0)", (upload,))
    (model, *_) = connect().execute("SELECT * FROM modelstore.finish_upload(%s, 'm', '1')", (upload,)).fetchone()
    assert exported_sha256(connect(), model) == hashlib.sha256(ONE).hexdigest()
    assert set(row_counts(db)).isdisjoint({"uploads", "upload_parts"})


def test_two_sessions_append_at_once(db, connect) -> None:
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    first, second = connect(), connect()
    first.execute("BEGIN")
    first.execute("SELECT modelstore.append_upload(%s, 'abc'::bytea)", (upload,))
    running = aside(second, "SELECT modelstore.append_upload(%s, 'defg'::bytea)", (upload,))
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the second waits", 10)
    first.execute("COMMIT")
    assert running.join().rows == [(7,)]
    parts = db.execute("SELECT part_offset, data FROM store.upload_parts ORDER BY 1").fetchall()
    assert parts == [(0, b"abc"), (3, b"defg")]


@pytest.mark.parametrize("reset", ["DISCARD ALL", "DISCARD PLANS", "DEALLOCATE ALL", "RESET ALL"])
def test_a_session_that_is_reset_between_calls(reset: str, db) -> None:
    db.prepare_threshold = None
    model = import_model(db, "m", ONE)
    for _ in range(2):
        db.execute(reset)
        assert exported_sha256(db, model) == hashlib.sha256(ONE).hexdigest()
        db.execute(reset)
        again = import_model(db, "n", TWO)
        db.execute("SELECT modelstore.delete_model(%s)", (again,))
        db.execute(reset)
        db.execute("SELECT modelstore.gc()")
    assert problems(db) == []


def test_a_session_outlives_its_store_and_its_extension(db) -> None:
    """Plans that a session has kept must not outlive the tables and types they are about."""
    for _ in range(2):
        model = import_model(db, "m", ONE)
        assert exported_sha256(db, model) == hashlib.sha256(ONE).hexdigest()
        db.execute("SELECT modelstore.drop_store('store', cascade => true)")
        db.execute("SELECT modelstore.create_store()")
    db.execute("DROP EXTENSION pg_modelstore CASCADE")
    db.execute("DROP SCHEMA store CASCADE")
    db.execute("DROP SCHEMA IF EXISTS modelstore")
    db.execute("CREATE EXTENSION pg_modelstore")
    db.execute("SELECT modelstore.create_store()")
    model = import_model(db, "m", ONE)
    assert exported_sha256(db, model) == hashlib.sha256(ONE).hexdigest()
    assert problems(db) == []


def test_an_import_in_a_savepoint_that_is_rolled_back(db, connect) -> None:
    session = connect()
    with session.transaction():
        first = import_model(session, "first", ONE)
        with contextlib.suppress(psycopg.Error), session.transaction():
            import_model(session, "second", TWO)
            session.execute("SELECT 1 / 0")
        third = import_model(session, "third", TWO)
    assert {n for (n,) in db.execute("SELECT model_name FROM store.models")} == {"first", "third"}
    assert problems(db) == []
    assert exported_sha256(db, first) == hashlib.sha256(ONE).hexdigest()
    assert exported_sha256(db, third) == hashlib.sha256(TWO).hexdigest()
