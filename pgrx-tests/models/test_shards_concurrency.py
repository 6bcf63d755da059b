"""Concurrent sessions that add files to one model or import overlapping sharded models, also at REPEATABLE READ."""

from __future__ import annotations

import itertools
import json
import threading
import uuid

import numpy as np
import psycopg
import pytest
from harness import wait_until
from models import random_tensor, safetensors_bytes, tiny_llama
from observe import aside, is_blocked, problems
from transfer import export_model, import_model

pytestmark = pytest.mark.versioned

ADD = "SELECT * FROM modelstore.add_file(%s, %s::text, %b::bytea)"
INDEX = "model.safetensors.index.json"


def halves(tensors: dict[str, np.ndarray]) -> list[bytes]:
    """Two shards, by layers."""
    first = {n: t for n, t in tensors.items() if ".layers.0." in n}
    return [safetensors_bytes(first), safetensors_bytes({n: t for n, t in tensors.items() if n not in first})]


def derived(db: psycopg.Connection, model: object) -> tuple[object, ...]:
    """What is derived from all weights of a model."""
    return db.execute(
        """SELECT m.content_hash, m.architecture, v.layers, v.parameters,
                  (SELECT array_agg(layer_index ORDER BY weight_name) FROM store.model_weights WHERE model_id = m.model_id)
           FROM store.models m JOIN store.v_model_architecture v USING (model_id) WHERE m.model_id = %s""",
        (model,),
    ).fetchone()


@pytest.mark.parametrize("kind", ["bytea", "large object", "upload"])
def test_two_sessions_add_shards_to_one_model(kind: str, db, connect) -> None:
    tensors = tiny_llama()
    shards = halves(tensors)
    (model,) = db.execute("SELECT modelstore.register_model('sharded', '1')").fetchone()
    first, second = connect(), connect()
    query, argument = ADD, shards[1]
    if kind == "large object":
        (argument,) = db.execute("SELECT lo_from_bytea(0, %b)", (shards[1],)).fetchone()
        query = "SELECT * FROM modelstore.add_file_large_object(%s, %s, %s)"
    elif kind == "upload":
        (argument,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
        db.execute("SELECT modelstore.append_upload(%s, %b)", (argument, shards[1]))
        query = "SELECT * FROM modelstore.add_file_upload(%s, %s, %s)"
    first.execute("BEGIN")
    first.execute(ADD, (model, "1.safetensors", shards[0]))
    running = aside(second, query, (model, "2.safetensors", argument))
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the second waits")
    first.execute("COMMIT")
    running.join()
    assert running.error is None, running.error
    whole = import_model(db, safetensors_bytes(tensors), "whole").model_id
    assert derived(db, model) == derived(db, whole)
    for m in (model, whole):
        assert db.execute("SELECT * FROM modelstore.verify_model(%s)", (m,)).fetchall() == []


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_shard_added_since_the_snapshot_is_a_serialization_failure(level: str, db, connect) -> None:
    shards = halves(tiny_llama())
    (model,) = db.execute("SELECT modelstore.register_model('sharded', '1')").fetchone()
    late = connect()
    late.execute(f"BEGIN ISOLATION LEVEL {level}")
    late.execute("SELECT count(*) FROM store.models")
    db.execute(ADD, (model, "1.safetensors", shards[0]))
    with pytest.raises(psycopg.errors.SerializationFailure):
        late.execute(ADD, (model, "2.safetensors", shards[1]))
    late.execute("ROLLBACK")
    late.execute(ADD, (model, "2.safetensors", shards[1]))
    assert problems(db) == []
    assert db.execute("SELECT * FROM modelstore.verify_model(%s)", (model,)).fetchall() == []


def test_a_parent_is_deleted_while_shards_are_added(db, connect) -> None:
    """The child's row is locked after its parent's, as the deletion has it."""
    parent = import_model(db, safetensors_bytes({"a": random_tensor(1, 9)}), "parent").model_id
    (child,) = db.execute("SELECT modelstore.register_model('child', '1', parent => %s)", (parent,)).fetchone()
    deleting, adding = connect(), connect()
    deleting.execute("BEGIN")
    deleting.execute("SELECT 1 FROM store.models WHERE model_id = %s FOR UPDATE", (parent,))
    running = aside(adding, ADD, (child, "1.safetensors", safetensors_bytes({"a": random_tensor(2, 9)})))
    wait_until(lambda: is_blocked(db, adding.info.backend_pid), "adding waits")
    deleting.execute("DELETE FROM store.model_weights WHERE model_id = %s", (parent,))
    deleting.execute("DELETE FROM store.models WHERE model_id = %s", (parent,))
    deleting.execute("COMMIT")
    running.join()
    assert running.error is None, running.error
    assert problems(db) == []


# Models in shards that overlap: chunks are inserted in one order


def write_sharded(folder, shards: dict[str, dict[str, np.ndarray]], index: str = INDEX) -> str:
    folder.mkdir()
    folder.chmod(0o755)
    for name, tensors in shards.items():
        (folder / name).write_bytes(safetensors_bytes(tensors))
    weight_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    (folder / index).write_text(json.dumps({"weight_map": weight_map}))
    return str(folder / index)


IMPORT = "SELECT model_id FROM modelstore.import_safetensors_file(%s, %s, %s)"


def test_two_models_with_their_shards_in_opposite_order(server, db, connect) -> None:
    """Each has stored its first shard when it comes to its second, which is the other's first. A shard at a time, they
    would wait for each other in a circle."""
    x, y = ({f"{name}{i}": random_tensor(seed + i, 200, 300) for i in range(4)} for name, seed in (("x", 0), ("y", 50)))
    root = server.scratch / str(uuid.uuid4())
    root.mkdir()
    root.chmod(0o755)
    paths = [
        write_sharded(root / "one", {"a.safetensors": x, "b.safetensors": y}),
        write_sharded(root / "two", {"a.safetensors": y, "b.safetensors": x}),
    ]
    db.execute("""
        CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_lock(77); PERFORM pg_advisory_unlock(77); RETURN NEW; END';
        CREATE TRIGGER linger BEFORE INSERT ON store.model_files FOR EACH ROW EXECUTE FUNCTION public.linger();""")
    db.execute("SELECT pg_advisory_lock(77)")
    sessions = [connect() for _ in paths]
    running = [aside(session, IMPORT, (f"m{i}", "1", path)) for i, (session, path) in enumerate(zip(sessions, paths, strict=True))]
    wait_until(lambda: all(is_blocked(db, session.info.backend_pid) for session in sessions), "both have come as far as they can")
    db.execute("SELECT pg_advisory_unlock(77)")
    errors = [r.join().error for r in running]
    assert errors == [None, None]
    assert problems(db) == []
    (chunks,) = db.execute("SELECT count(*) FROM store.tensor_chunks").fetchone()
    assert chunks == 8


def test_many_sharded_imports_that_overlap(server, db, connect) -> None:
    pool = [random_tensor(i, 40 + 50 * i % 300, 512) for i in range(12)]
    root = server.scratch / str(uuid.uuid4())
    root.mkdir()
    root.chmod(0o755)
    errors: list[psycopg.Error] = []

    def importer(number: int) -> None:
        session = connect()
        for turn in range(4):
            order = np.random.default_rng(number * 10 + turn).permutation(12)
            shards = {f"{k}.safetensors": {f"w{i}": pool[i] for i in order[4 * k : 4 * k + 4]} for k in range(3)}
            path = write_sharded(root / f"{number}-{turn}", shards)
            try:
                (model,) = session.execute(IMPORT, (f"m{number}", str(turn), path)).fetchone()
                for name, tensors in shards.items():
                    assert export_model(session, model, name) == safetensors_bytes(tensors)
                # Shard by shard, each in a transaction of its own.
                (model,) = session.execute("SELECT modelstore.register_model(%s, %s)", (f"s{number}", str(turn))).fetchone()
                for name, tensors in shards.items():
                    session.execute(ADD, (model, name, safetensors_bytes(tensors)))
                session.execute("SELECT modelstore.delete_model(%s)", (model,))
                session.execute("SELECT modelstore.gc()")
            except psycopg.Error as e:
                errors.append(e)

    threads = [threading.Thread(target=importer, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a session hangs"
    assert not errors, errors
    assert db.execute("SELECT count(*) FROM store.models").fetchone() == (16,)
    assert problems(db) == []


@pytest.mark.parametrize("index", ["model.safetensors.index.fp16.json", "model.fp16.index.json"])
def test_an_index_with_a_variant_in_its_name(index: str, server, db) -> None:
    shards = {"model-1.fp16.safetensors": {"a": random_tensor(1, 5)}, "model-2.fp16.safetensors": {"b": random_tensor(2, 5)}}
    path = write_sharded(server.scratch / str(uuid.uuid4()), shards, index)
    (model,) = db.execute(IMPORT, ("m", "1", path)).fetchone()
    files = dict(db.execute("SELECT file_name, format FROM store.model_files WHERE model_id = %s", (model,)).fetchall())
    assert files == dict.fromkeys(shards, "safetensors") | {index: "safetensors_index"}
    (added,) = db.execute("SELECT modelstore.register_model('m', '2')").fetchone()
    for name, tensors in shards.items():
        db.execute(ADD, (added, name, safetensors_bytes(tensors)))
    db.execute(ADD, (added, index, export_model(db, model, index)))
    assert export_model(db, added, index) == export_model(db, model, index)


def test_a_weight_in_two_shards(server, db) -> None:
    root = server.scratch / str(uuid.uuid4())
    path = write_sharded(root, {"a.safetensors": {"w": random_tensor(1, 5)}, "b.safetensors": {"w": random_tensor(2, 5), "v": random_tensor(3, 5)}})
    weight_map = {"w": "a.safetensors", "v": "b.safetensors"}
    (root / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(psycopg.errors.UniqueViolation, match="b.safetensors"):
        db.execute(IMPORT, ("m", "1", path))
    assert db.execute("SELECT count(*) FROM store.models").fetchone() == (0,)


# Transactions that keep one snapshot

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
DATA = safetensors_bytes({"a": random_tensor(1, 50)})


def late(connect, level: str) -> psycopg.Connection:
    """A transaction that has its snapshot."""
    session = connect()
    session.execute(f"BEGIN ISOLATION LEVEL {level}")
    session.execute("SELECT count(*) FROM store.uploads")
    return session


CALLS = {
    # What it gives, and the bytes of DATA that are there before it.
    "append": ("SELECT modelstore.append_upload(%(upload)s, 'xyz')", len(DATA), len(DATA) - 3),
    "append at the offset": ("SELECT modelstore.append_upload(%(upload)s, 'xyz', %(end)s)", len(DATA), len(DATA) - 3),
    "append nothing": ("SELECT modelstore.append_upload(%(upload)s, '')", len(DATA), len(DATA)),
    "abort": ("SELECT modelstore.abort_upload(%(upload)s)", len(DATA) - 3, len(DATA) - 3),
    "finish": ("SELECT raw_bytes FROM modelstore.finish_upload(%(upload)s, 'm', '1')", 200, len(DATA)),
}


@pytest.mark.parametrize(("call", "level"), list(itertools.product(CALLS, LEVELS)))
def test_parts_appended_since_the_snapshot(call: str, level: str, db, connect) -> None:
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    db.execute("SELECT modelstore.append_upload(%s, %b)", (upload, DATA[:100]))
    session = late(connect, level)
    query, expected, end = CALLS[call]
    db.execute("SELECT modelstore.append_upload(%s, %b)", (upload, DATA[100:end]))
    arguments = {"upload": upload, "end": end}
    if level == "READ COMMITTED":
        assert session.execute(query, arguments).fetchone() == (expected,)
        session.execute("COMMIT")
    else:
        with pytest.raises(psycopg.errors.SerializationFailure):
            session.execute(query, arguments)
        session.execute("ROLLBACK")
        assert db.execute(query, arguments).fetchone() == (expected,)
    assert problems(db) == []


@pytest.mark.parametrize("level", LEVELS)
def test_an_upload_within_one_transaction(level: str, db, connect) -> None:
    session = late(connect, level)
    (upload,) = session.execute("SELECT modelstore.begin_upload()").fetchone()
    for at in range(0, len(DATA), 70):
        session.execute("SELECT modelstore.append_upload(%s, %b, %s)", (upload, DATA[at : at + 70], at))
    assert session.execute("SELECT modelstore.append_upload(%s, '')", (upload,)).fetchone() == (len(DATA),)
    (model,) = session.execute("SELECT model_id FROM modelstore.finish_upload(%s, 'm', '1')", (upload,)).fetchone()
    session.execute("COMMIT")
    assert export_model(db, model) == DATA
    assert db.execute("SELECT count(*) FROM store.upload_parts").fetchone() == (0,)


@pytest.mark.parametrize("level", LEVELS)
def test_an_upload_that_is_too_short_is_not_complete(level: str, db, connect) -> None:
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    db.execute("SELECT modelstore.append_upload(%s, %b)", (upload, DATA[:-1]))
    session = late(connect, level)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is not complete"):
        session.execute("SELECT modelstore.finish_upload(%s, 'm', '1')", (upload,))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seen", [True, False])
def test_a_name_that_is_taken(level: str, seen: bool, db, connect) -> None:
    if seen:
        import_model(db, DATA)
    session = late(connect, level)
    if not seen:
        import_model(db, DATA)
    expected = psycopg.errors.UniqueViolation if seen or level == "READ COMMITTED" else psycopg.errors.SerializationFailure
    with pytest.raises(expected):
        import_model(session, DATA)
