"""Sources that change while they are read, and concurrent sessions that write to one model."""

from __future__ import annotations

import hashlib

import pytest
from harness import wait_until
from models import safetensors_bytes
import numpy as np
from observe import aside, exported_sha256, is_blocked, problems

pytestmark = pytest.mark.versioned

MIB = 1 << 20


def a_file() -> bytes:
    rng = np.random.default_rng(1)
    return safetensors_bytes({f"w{i}": rng.integers(0, 256, MIB, dtype="uint8") for i in range(6)})


@pytest.mark.parametrize("source", ["large object", "server file"])
def test_a_source_that_changes_between_two_passes(source: str, server, db, connect) -> None:
    """Line 15, two_pass.sh: it is noticed, or what is stored has the hash it is stored under; and nothing is poisoned.

    A lock lets the import read but not write: it waits at its first chunk, with the hashes of what it has read."""
    data = a_file()
    path = server.scratch / "two-pass.safetensors"
    if source == "large object":
        (oid,) = db.execute("SELECT lo_from_bytea(0, %b)", (data,)).fetchone()
        sql, argument = "SELECT model_id FROM modelstore.import_safetensors_large_object('m', 'raced', %s::oid)", oid
    else:
        path.write_bytes(data)
        path.chmod(0o644)
        sql, argument = "SELECT model_id FROM modelstore.import_safetensors_file('m', 'raced', %s)", str(path)
    importer, locker = connect(), connect()
    importer.execute("SET modelstore.threads = 1")
    locker.execute("BEGIN")
    locker.execute("LOCK TABLE store.tensor_chunks IN SHARE MODE")
    running = aside(importer, sql, (argument,))
    wait_until(lambda: is_blocked(db, importer.info.backend_pid), "the import waits to write")
    changed = bytearray(data)
    start = len(data) - 6 * MIB
    for i in range(6):
        at = start + i * MIB + 500_000
        changed[at : at + 7] = b"CHANGED"
        if source == "large object":
            db.execute("SELECT lo_put(%s::oid, %s, 'CHANGED'::bytea)", (oid, at))
    if source == "server file":
        with path.open("r+b") as file:
            file.write(changed)
    locker.execute("COMMIT")
    running.join()
    assert problems(db) == []
    if running.error is None:
        (model,) = running.rows[0]
        assert exported_sha256(db, model) in (hashlib.sha256(data).hexdigest(), hashlib.sha256(changed).hexdigest())
    else:
        assert running.error.sqlstate in ("55000", "22000", "XX001", "40001", "58030", "55006"), running.error
    # Neither the old bytes nor the new ones are spoilt for whoever comes next.
    for version, content in (("intact", data), ("changed", bytes(changed))):
        (model,) = db.execute("SELECT model_id FROM modelstore.import_safetensors('m', %s, %b::bytea)", (version, content)).fetchone()
        assert exported_sha256(db, model) == hashlib.sha256(content).hexdigest()
    assert problems(db) == []
    path.unlink(missing_ok=True)


def test_an_import_heals_a_chunk_that_does_not_decode_to_its_hash(db) -> None:
    """Line 15: what a role wrote over a chunk is replaced by who has the right bytes."""
    data = safetensors_bytes({"w": np.random.default_rng(3).standard_normal((60, 50)).astype("float32")})
    (model,) = db.execute("SELECT model_id FROM modelstore.import_safetensors('m', '1', %b::bytea)", (data,)).fetchone()
    (other,) = db.execute(
        "SELECT model_id FROM modelstore.import_safetensors('o', '1', %b::bytea)", (safetensors_bytes({"w": np.ones((60, 50), "float32")}),)
    ).fetchone()
    hashes = """SELECT d.chunk_hash FROM store.model_weights w JOIN store.tensor_data d USING (tensor_id) WHERE w.model_id = %s"""
    (good,), (bad,) = db.execute(hashes, (model,)).fetchone(), db.execute(hashes, (other,)).fetchone()
    db.execute("UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks WHERE chunk_hash = %s) WHERE chunk_hash = %s", (bad, good))
    assert problems(db) != []
    (again,) = db.execute("SELECT model_id FROM modelstore.import_safetensors('m', '2', %b::bytea)", (data,)).fetchone()
    assert exported_sha256(db, again) == hashlib.sha256(data).hexdigest()
    assert exported_sha256(db, model) == hashlib.sha256(data).hexdigest()
    assert problems(db) == []


def shard(layer: int) -> bytes:
    rng = np.random.default_rng(layer)
    names = [f"encoder.layer.{layer}.attention.self.{x}.weight" for x in ("query", "key", "value")]
    return safetensors_bytes({n: rng.standard_normal((8, 8)).astype("float32") for n in [*names, f"encoder.layer.{layer}.output.dense.weight"]})


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_two_sessions_add_shards_of_one_model(level: str, db, connect) -> None:
    """Line 16, shards_race.py: what is derived of the model knows both."""
    add = "SELECT * FROM modelstore.add_file(%s, %s, %b::bytea)"
    derived = """SELECT encode(m.content_hash, 'hex'), (SELECT count(*) FROM store.model_weights w WHERE w.model_id = m.model_id),
                 (SELECT array_agg(layer_index ORDER BY 1) FROM store.transformer_layers l WHERE l.model_id = m.model_id)
                 FROM store.models m WHERE model_id = %s"""
    (alone,) = db.execute("SELECT modelstore.register_model('alone', '1')").fetchone()
    for i in range(2):
        db.execute(add, (alone, f"model-{i}.safetensors", shard(i)))
    (model,) = db.execute("SELECT modelstore.register_model('raced', '1')").fetchone()
    first, second = connect(), connect()
    second.execute(f"SET default_transaction_isolation = '{level}'")
    first.execute(f"BEGIN ISOLATION LEVEL {level}")
    first.execute(add, (model, "model-0.safetensors", shard(0)))
    running = aside(second, add, (model, "model-1.safetensors", shard(1)))
    wait_until(lambda: not running.running or is_blocked(db, second.info.backend_pid), "the second waits, or is through")
    first.execute("COMMIT")
    running.join()
    if running.error is not None:
        assert running.error.sqlstate == "40001", running.error
        second.execute(add, (model, "model-1.safetensors", shard(1)))
    assert db.execute(derived, (model,)).fetchone() == db.execute(derived, (alone,)).fetchone()
    assert db.execute("SELECT * FROM modelstore.verify_model(%s)", (model,)).fetchall() == []
    assert problems(db) == []
