"""Lost connections, crashes and conflicts in the middle of a transfer: it goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import uuid

import numpy as np
import pg_modelstore
import psycopg
import psycopg_pool
import pytest
from harness import ROOT, wait_until
from models import MIB, random_tensor, safetensors_bytes
from observe import dangling, problems
from once import Once
from pg_modelstore import client as client_module
from pg_modelstore import push, uploads
from pg_modelstore.files import STATE

BATCH = 4 * MIB
PAUSES = client_module._PAUSES
COPYING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY modelstore.upload%%' AND state = 'active'"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch) -> None:
    monkeypatch.setattr(uploads, "BATCH_BYTES", BATCH)
    monkeypatch.setattr(uploads, "PART_BYTES", MIB // 4)
    monkeypatch.setattr(client_module, "_PAUSES", (0, 0, 0))


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> pathlib.Path:
    """22 MB."""
    path = tmp_path_factory.mktemp("file") / "model.safetensors"
    path.write_bytes(safetensors_bytes({f"layer.{i}.weight": random_tensor(i, 1100, 512) for i in range(10)}))
    return path


def check(client, db, file: pathlib.Path, model: str = "m:1") -> None:
    (stored,) = client.models.files(model)
    assert stored.sha256 == hashlib.sha256(file.read_bytes()).digest()
    assert client.models.read_file(model, file.name) == file.read_bytes()
    assert db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,)
    assert not list(file.parent.glob(".*json"))
    assert problems(db) == [] and dangling(db) == 0


@pytest.mark.parametrize("part", [1, 3])
def test_a_backend_that_is_ended_while_it_copies(part: int, client, db, file) -> None:
    """The same push goes on at upload_offset: no earlier batch is sent again."""

    def end() -> None:
        ((pid,),) = db.execute(COPYING).fetchall()
        db.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    progress = Once(part * BATCH + BATCH // 2, end)
    client.models.push(file, "m:1", progress=progress)
    back = [b for a, b in zip(progress.seen, progress.seen[1:]) if b < a]
    assert back == [part * BATCH], "it did not go on at the last transaction"
    check(client, db, file)


@pytest.mark.crash
def test_a_crash_of_the_server(server, client, db, connect, file) -> None:
    """A backend that is killed takes all others with it, and the server recovers from WAL."""

    def crash() -> None:
        ((pid,),) = db.execute(COPYING).fetchall()
        mark = server.log_size()
        with server.crash_expected():
            server.kill_backend(pid)
            wait_until(lambda: "was terminated by signal" in server.log_since(mark), "the server has noticed")

    progress = Once(2 * BATCH + BATCH // 2, crash)
    client.models.push(file, "m:1", progress=progress)
    assert [b for a, b in zip(progress.seen, progress.seen[1:]) if b < a] == [2 * BATCH]
    check(client, connect(), file)


def test_an_interrupted_push_is_taken_up_by_the_next_one(client, db, file) -> None:
    class Interrupt(BaseException):
        pass

    def interrupt() -> None:
        raise Interrupt

    with pytest.raises(Interrupt):
        client.models.push(file, "m:1", progress=Once(2 * BATCH + BATCH // 2, interrupt))
    (state,) = file.parent.glob(".*json")
    (kept,) = json.loads(state.read_text())["uploads"].values()
    assert db.execute("SELECT upload_id::text, received_bytes FROM store.uploads").fetchall() == [(kept["upload_id"], 2 * BATCH)]
    progress = Once(0, None)
    client.models.push(file, "m:1", progress=progress)
    assert progress.seen[0] == 2 * BATCH
    check(client, db, file)


def test_a_killed_client(client, db, url: str, file) -> None:
    """SIGKILL at some point of the transfer; the command is run again."""
    arguments = [sys.executable, "-c", SLOW, url, str(file)]
    process = subprocess.Popen(
        arguments, env=os.environ | {"PYTHONPATH": str(ROOT / "clients" / "python" / "src")}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not db.execute(COPYING).fetchall(), "the server has noticed")
    (received,) = db.execute("SELECT received_bytes FROM store.uploads").fetchone()
    assert received == 2 * BATCH
    progress = Once(0, None)
    client.models.push(file, "m:1", progress=progress)
    assert progress.seen[0] == received
    check(client, db, file)


SLOW = f"""
import sys, time, pg_modelstore
from pg_modelstore import uploads
uploads.BATCH_BYTES, uploads.PART_BYTES = {BATCH}, {MIB // 4}
def half(name, at, total):
    if at > {2 * BATCH + BATCH // 2}:
        print("half", flush=True)
        time.sleep(600)
pg_modelstore.connect(sys.argv[1]).models.push(sys.argv[2], "m:1", progress=half)
"""


def test_uploads_that_are_given_and_uploads_that_are_gone(client, db, file) -> None:
    (given,) = db.execute("SELECT modelstore.begin_upload(%s)", (file.stat().st_size,)).fetchone()
    db.execute("SELECT modelstore.append_upload(%s, %b)", (given, file.read_bytes()[:1000]))
    progress = Once(0, None)
    client.models.push(file, "m:1", progress=progress, upload_ids={file.name: given})
    assert progress.seen[0] == 1000
    check(client, db, file)
    progress = Once(0, None)
    client.models.push(file, "m:2", progress=progress, upload_ids={file.name: uuid.uuid4()}, state=False)
    assert progress.seen[0] == 0
    check(client, db, file, "m:2")


def test_a_file_that_changed_is_not_resumed(client, db, file, tmp_path) -> None:
    """The same time stamp with other bytes: the SHA-256 tells. Another time stamp: a new upload. Neither leaves one behind."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(file.read_bytes())
    data = bytearray(path.read_bytes())
    data[BATCH // 2] ^= 1

    def interrupt() -> None:
        raise KeyboardInterrupt

    for later in (0, 10**9):
        path.write_bytes(file.read_bytes())
        with pytest.raises(KeyboardInterrupt):
            client.models.push(path, "m:1", progress=Once(2 * BATCH + 1, interrupt))
        stamp = path.stat()
        path.write_bytes(data)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + later))
        progress = Once(0, None)
        if later == 0:
            with pytest.raises(psycopg.DataError, match="other bytes of model.safetensors"):
                client.models.push(path, "m:1", progress=progress)
            assert client.models.list() == []
        else:
            client.models.push(path, "m:1", progress=progress)
            assert client.models.read_file("m", path.name) == bytes(data)
        assert progress.seen[0] == (0 if later else 2 * BATCH)
        assert db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,)


def test_a_state_file_with_something_else(client, db, file) -> None:
    state = file.with_name(f".{file.name}{STATE}")
    for text in ("[]", "null", "{", '{"target": "/m:1", "uploads": []}', '{"target": "/m:1", "uploads": {"model.safetensors": 1}}'):
        state.write_text(text)
        kept = uploads.State(state, "/m:1")
        assert kept.find(file.name, [1]) is None is kept.stale(file.name, [1])
    state.write_text("[]")
    client.models.push(file, "m:1")
    check(client, db, file)


def two_files(folder: pathlib.Path) -> pathlib.Path:
    """4 MB each."""
    folder.mkdir()
    for number, name in enumerate(("a.safetensors", "b.safetensors")):
        (folder / name).write_bytes(safetensors_bytes({f"{number}.weight": random_tensor(number, 2000, 512)}))
    return folder


def sent_anew(client, folder: pathlib.Path, target: str) -> set[str]:
    """Pushes, and says of which files bytes were sent."""
    positions: dict[str, set[int]] = {}
    client.models.push(folder, target, progress=lambda name, at, total: positions.setdefault(name, set()).add(at))
    return {name for name, seen in positions.items() if len(seen) > 1}


def test_a_refusal_keeps_what_is_good(client, db, tmp_path) -> None:
    """Missing privileges can be granted, a wrong file can be replaced: other files are not sent again."""
    folder = two_files(tmp_path / "m")
    condition = "WHEN (NEW.file_name = 'b.safetensors')"
    for number, sqlstate, expected in ((1, "42501", set()), (2, "22023", {"b.safetensors"})):
        statement = FAIL.format(times=1, sqlstate=sqlstate, table="model_files", event="INSERT")
        db.execute(statement.replace("FOR EACH ROW", f"FOR EACH ROW {condition}"))
        with pytest.raises(psycopg.Error, match="forced"):
            client.models.push(folder, f"m:{number}")
        assert sent_anew(client, folder, f"m:{number}") == expected
        db.execute("DROP TRIGGER fail ON store.model_files; DROP FUNCTION fail; DROP SEQUENCE failures")
        assert db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,)
        assert STATE not in os.listdir(folder)


def test_a_file_that_differs_is_forgotten_alone(client, db, tmp_path) -> None:
    folder = two_files(tmp_path / "m")
    db.execute(FAIL.format(times=1, sqlstate="42501", table="model_files", event="INSERT"))
    with pytest.raises(psycopg.Error, match="forced"):
        client.models.push(folder, "m:1")
    path = folder / "a.safetensors"
    stamp, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(psycopg.DataError, match="other bytes of a.safetensors:"):
        client.models.push(folder, "m:1")
    assert sent_anew(client, folder, "m:1") == {"a.safetensors"}
    assert client.models.read_file("m", "a.safetensors") == data
    assert db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,)


def test_a_late_commit_of_a_lost_connection_is_noticed(client, db, connect, file) -> None:
    """The bytes of a transaction whose connection was lost may arrive after upload_offset was asked: they are not sent twice."""
    other = connect()

    def arrive() -> None:
        # Between two batches of the client.
        (upload, received) = other.execute("SELECT upload_id, received_bytes FROM store.uploads").fetchone()
        other.execute("SELECT modelstore.append_upload(%s, %b)", (upload, file.read_bytes()[received : received + 1000]))

    original = uploads._send_batch

    def late(client_, source, upload_id, offset, hashing, progress):
        if offset == BATCH:
            nonlocal arrive
            arrive, now = (lambda: None), arrive
            now()
        return original(client_, source, upload_id, offset, hashing, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "_send_batch", late)
        progress = Once(0, None)
        client.models.push(file, "m:1", progress=progress)
    assert BATCH + 1000 in progress.seen
    check(client, db, file)


FAIL = """
    CREATE SEQUENCE failures;
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('public.failures') <= {times} THEN RAISE EXCEPTION 'forced' USING ERRCODE = '{sqlstate}'; END IF;
            RETURN NEW;
        END $$;
    CREATE TRIGGER fail BEFORE {event} ON store.{table} FOR EACH ROW EXECUTE FUNCTION fail();
"""


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@pytest.mark.parametrize(("table", "event"), [("model_files", "INSERT"), ("uploads", "UPDATE")])
def test_conflicts_are_tried_again(sqlstate: str, table: str, event: str, client, db, file) -> None:
    """Errors that the server raises: three of them are survived."""
    db.execute(FAIL.format(times=3, sqlstate=sqlstate, table=table, event=event))
    client.models.push(file, "m:1")
    assert db.execute("SELECT last_value FROM failures").fetchone()[0] > 3
    check(client, db, file)


def test_a_conflict_that_stays_is_an_error(client, db, file) -> None:
    db.execute(FAIL.format(times=4, sqlstate="40001", table="model_files", event="INSERT"))
    with pytest.raises(psycopg.errors.SerializationFailure, match="forced"):
        client.models.push(file, "m:1")
    assert db.execute("SELECT last_value FROM failures").fetchone() == (4,)
    client.models.push(file, "m:1")  # what was uploaded is still there
    check(client, db, file)


def test_other_errors_are_not_tried_again(client, db, file) -> None:
    db.execute(FAIL.format(times=1, sqlstate="22023", table="model_files", event="INSERT"))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="forced"):
        client.models.push(file, "m:1")
    assert db.execute("SELECT (SELECT count(*) FROM store.uploads), (SELECT count(*) FROM store.models)").fetchone() == (0, 0)
    assert not list(file.parent.glob(".*json"))


def test_deadlocks_between_overlapping_pushes(client, db, url: str, file, monkeypatch) -> None:
    """Two clients send the same new weights in another order, whole files in one transaction."""
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(uploads, "BATCH_BYTES", 100 * MIB)
    # The pauses of the product: without any, the same two transactions meet again each time.
    monkeypatch.setattr(client_module, "_PAUSES", PAUSES)
    arrays = {f"layer.{i}.weight": random_tensor(100 + i, 1100, 512) for i in range(10)}

    def push(number: int) -> None:
        ordered = dict(list(arrays.items())[:: 1 - 2 * number])
        path = file.parent / f"{number}.safetensors"
        path.write_bytes(safetensors_bytes(ordered))
        with pg_modelstore.connect(url) as own:
            own.models.push(path, f"m:{number}", state=False)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(push, range(2)))
    assert problems(db) == [] and len(client.models.list()) == 2


def lost_answer(monkeypatch, statement: str) -> list[int]:
    """The first transaction that runs a statement commits, and its client does not learn of it."""
    count = [0]
    transaction, execute = client_module.Client.transaction, psycopg.Cursor.execute

    @contextlib.contextmanager
    def losing(self):
        with transaction(self) as connection:
            yield connection
        if count[0] == 1:
            count[0] += 1
            raise psycopg.OperationalError("the connection is lost")

    def watching(self, query, *rest, **more):
        if statement in str(query) and count[0] == 0:
            count[0] = 1
        return execute(self, query, *rest, **more)

    monkeypatch.setattr(client_module.Client, "transaction", losing)
    monkeypatch.setattr(psycopg.Cursor, "execute", watching)
    return count


def test_a_lost_answer_to_the_last_commit_of_a_push(client, db, file, monkeypatch) -> None:
    count = lost_answer(monkeypatch, "add_file")
    assert client.models.push(file, "m:1").weights == 10
    assert count == [2]
    check(client, db, file)


def test_a_last_commit_that_arrives_late(client, db, file, monkeypatch) -> None:
    """It is not there when the client asks, and there when it makes the model again."""
    count = lost_answer(monkeypatch, "add_file")
    original, asked = push.Push._done, []

    def late(self, *arguments):
        asked.append(1)
        return None if len(asked) == 1 else original(self, *arguments)

    monkeypatch.setattr(push.Push, "_done", late)
    client.models.push(file, "m:1")
    assert count == [2] and len(asked) == 2
    check(client, db, file)


def test_a_push_that_was_interrupted_after_its_last_commit(client, db, file, tmp_path, monkeypatch) -> None:
    """The next one finds its model; with other bytes, or without uploads that it remembers, the model is another one."""

    def interrupt(_) -> None:
        raise KeyboardInterrupt

    first, path = client.models.push(file, "first:1"), tmp_path / file.name
    path.write_bytes(file.read_bytes())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(uploads.State, "forget", interrupt)
        client.models.push(path, "m:1")
    (state,) = tmp_path.glob(".*json")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(psycopg.errors.UniqueViolation):
        client.models.push(path, "m:1")
    path.write_bytes(file.read_bytes())
    again = client.models.push(path, "m:1")
    assert (again.model_id, again.weights, again.parameters) == (client.models.find("m:1"), 10, first.parameters)
    assert not state.exists()
    with pytest.raises(psycopg.errors.UniqueViolation):
        client.models.push(path, "m:1")
    assert db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,)


def test_a_model_by_somebody_else_is_not_ours(client, db, file, monkeypatch) -> None:
    """The connection is lost before the commit, and another client takes the name."""
    db.execute(FAIL.format(times=1, sqlstate="57P01", table="model_files", event="INSERT"))
    original = push.Push._done

    def other(self, *arguments):
        monkeypatch.setattr(push.Push, "_done", original)
        db.execute("SELECT modelstore.register_model('m', '1')")
        return original(self, *arguments)

    monkeypatch.setattr(push.Push, "_done", other)
    with pytest.raises(psycopg.errors.UniqueViolation, match='"m" version "1"'):
        client.models.push(file, "m:1")
    assert db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,)


def test_a_lost_answer_to_a_checkpoint(client, db, monkeypatch) -> None:
    client.models.push({"w": np.ones(3)}, "m:1")
    count = lost_answer(monkeypatch, "create_checkpoint")
    with client.training("m:1", "run") as run:
        run.checkpoint(1, {"w": np.ones(3) * 2})
    assert count == [2] and db.execute("SELECT count(*) FROM store.model_checkpoints").fetchone() == (1,)


def test_a_lost_answer_to_a_statement_that_writes(client, db, monkeypatch) -> None:
    """What has committed is not executed again: names would mean something else, and answers would be other ones."""
    for version in "12":
        client.models.push({"w": np.ones(3)}, f"m:{version}")
    client.models.alias("m:1", "production")
    client.models.register("draft:1")
    for statement, call, expected in (
        ("delete_model", lambda: client.models.delete("m").weights, 1),
        ("delete_alias", lambda: client.models.delete_alias("m", "production"), True),
        ("put_tensor", lambda: type(client.tensors.put("draft:1", "w", np.ones(3))), uuid.UUID),
        ("finish_model", lambda: client.models.finish("draft:1").weights, 1),
        ("start_training", lambda: type(client.training("m:1").start().session_id), uuid.UUID),
        ("log_metrics", lambda: client.value("SELECT modelstore.log_metrics((SELECT session_id FROM store.training_sessions), 1, '{\"a\": 1}')"), 1),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            count = lost_answer(patch, statement)
            assert call() == expected, statement
        assert count == [2], statement
    assert [(row.model_name, row.version) for row in client.models.list()] == [("draft", "1"), ("m", "1")]
    counts = "SELECT (SELECT count(*) FROM store.training_sessions), (SELECT count(*) FROM store.training_metrics)"
    assert db.execute(counts).fetchone() == (1, 1)


def test_whether_a_transaction_was_committed(client, db, connect) -> None:
    assert client._committed(None)
    other = connect()
    for end, committed in (("COMMIT", True), ("ROLLBACK", False)):
        other.execute("BEGIN")
        (xid,) = other.execute("SELECT pg_current_xact_id()::text").fetchone()
        with pytest.raises(psycopg.OperationalError, match="has not ended") as caught:
            client._committed(xid)
        assert client_module.is_transient(caught.value)
        other.execute(end)
        assert client._committed(xid) is committed
    assert client._committed(str(int(xid) + 1000)) is False


def test_a_connection_lost_before_the_commit(client, db) -> None:
    """The statement is executed again."""
    db.execute(FAIL.format(times=1, sqlstate="57P01", table="models", event="INSERT"))
    client.value("SELECT modelstore.register_model('m', '1')")
    assert db.execute("SELECT last_value FROM failures").fetchone() == (2,)
    assert [row.version for row in client.models.list()] == ["1"]


@pytest.mark.crash
def test_the_pool_recovers_from_a_restart(server, url: str) -> None:
    with pg_modelstore.connect(url, min_size=4, max_size=4) as client:
        with client.transaction(), client.transaction(), client.transaction(), client.transaction():
            pass  # four connections, all of which the restart ends
        server.restart("immediate")
        assert client.models.list() == []


def test_retry_counts(client, monkeypatch) -> None:
    attempts = []

    def fail() -> None:
        attempts.append(1)
        raise psycopg_pool.PoolTimeout("none")

    with pytest.raises(psycopg_pool.PoolTimeout):
        client.retry(fail)
    assert len(attempts) == 4
    attempts.clear()
    with pytest.raises(psycopg_pool.PoolTimeout):
        client.retry(fail, progressed=lambda: min(len(attempts), 5))
    assert len(attempts) == 8, "progress does not start the count anew"
    for transient, error in (
        (False, psycopg.errors.QueryCanceled),
        (False, psycopg.errors.DiskFull),
        (True, psycopg.errors.AdminShutdown),
        (True, psycopg.errors.DeadlockDetected),
    ):
        assert client_module.is_transient(error()) is transient
