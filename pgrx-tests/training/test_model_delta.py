"""Transfers a model to another database as a delta against a model it has."""

from __future__ import annotations

import uuid

import numpy as np
import psycopg
import pytest
from checkpoints import checkpoint, file_of_weights, register
from models import random_tensor, safetensors_bytes
from observe import problems, row_counts
from psycopg.rows import namedtuple_row
from safetensors.numpy import load, save
from transfer import export_model, import_model, refusal


def publish(db: psycopg.Connection, base: uuid.UUID, target: uuid.UUID, of: str = "") -> bytes:
    with db.cursor() as cursor:
        return b"".join(part for (part,) in cursor.stream(f"SELECT modelstore.publish_{of}delta(%s, %s)", (base, target), binary=True))


def apply(db: psycopg.Connection, base: uuid.UUID, delta: bytes, version: str | None = None, of: str = ""):
    with db.cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute(f"SELECT * FROM modelstore.apply_{of}delta(%s, %b::bytea, version => %s)", (base, delta, version))
        return cursor.fetchone()


@pytest.fixture
def elsewhere(connect, new_database, template) -> psycopg.Connection:
    """Another database with a store."""
    return connect(dbname=new_database(template))


def fine_tuned(weights: dict[str, np.ndarray], seed: int, share: float) -> dict[str, np.ndarray]:
    """The same with a share of the elements of every second weight changed a little."""
    rng = np.random.default_rng(seed)
    tuned = {name: array.copy() for name, array in weights.items()}
    for name in sorted(tuned)[::2]:
        array = tuned[name]
        if array.dtype == np.float32 and array.size > 1:
            array[rng.random(array.shape) < share] *= np.float32(1.0005)
    return tuned


def test_a_real_model_moves(db, elsewhere, minilm) -> None:
    """The delta is a small part of the model, and what it makes exports as the file it was published from."""
    original = minilm.read_bytes()
    tuned = save(fine_tuned(load(original), seed=1, share=0.05))
    base = import_model(db, original).model_id
    target = import_model(db, tuned, version="2", parent=base).model_id
    delta = publish(db, base, target)
    assert len(delta) < len(tuned) / 30
    there = import_model(elsewhere, original).model_id
    applied = apply(elsewhere, there, delta, "tuned")
    assert export_model(elsewhere, applied.model_id) == tuned
    assert applied.new_bytes < len(delta)
    names = "SELECT model_name, version, parent_model_id, derivation, content_hash FROM {} WHERE model_id = %s"
    _, version, parent, derivation, content = elsewhere.execute(names.format("store.models"), (applied.model_id,)).fetchone()
    assert (version, parent, derivation) == ("tuned", there, "delta")
    assert content == db.execute(names.format("store.models"), (target,)).fetchone()[4]
    assert problems(elsewhere) == []


def test_a_delta_that_is_not_kept_in_memory(db, elsewhere, minilm) -> None:
    """What takes more than 64 MiB encoded is encoded once more while it is written, the same way."""
    original = minilm.read_bytes()
    small = safetensors_bytes({"other": random_tensor(1, 4, 4)})
    base, target = import_model(db, small).model_id, import_model(db, original, version="2").model_id
    delta = publish(db, base, target)
    assert len(delta) > 70 << 20
    applied = apply(elsewhere, import_model(elsewhere, small).model_id, delta)
    assert export_model(elsewhere, applied.model_id) == original


@pytest.mark.parametrize("chunk_size", ["256kB", "1MB", "4MB"])
def test_chunks_may_be_cut_elsewhere(chunk_size: str, db, elsewhere) -> None:
    """Publisher and receiver need not cut tensors at the same places."""
    weights = {"a": np.arange(1_000_000, dtype=np.float32).reshape(1000, 1000), "b": np.zeros((3, 0), np.float32)}
    weights["c"] = np.array([1, 2, 3], np.int64)
    base_file, target_file = save(weights), save({**weights, "a": weights["a"] + np.float32(0.5), "c": weights["c"] + 1})
    base, target = import_model(db, base_file).model_id, import_model(db, target_file, version="2").model_id
    delta = publish(db, base, target)
    elsewhere.execute(f"SET modelstore.chunk_size = '{chunk_size}'")
    applied = apply(elsewhere, import_model(elsewhere, base_file).model_id, delta)
    assert export_model(elsewhere, applied.model_id) == target_file


def test_weights_come_and_go(db, elsewhere) -> None:
    """Added, removed, reshaped and retyped weights travel whole; tied and empty ones as well."""
    base_weights = {"kept": random_tensor(1, 64, 64), "gone": random_tensor(2, 8), "reshaped": random_tensor(3, 4, 6)}
    target_weights = {
        "kept": base_weights["kept"],
        "tied": base_weights["kept"],
        "reshaped": base_weights["reshaped"].reshape(6, 4),
        "new": random_tensor(4, 300, 300),
        "scalar": np.float32(7).reshape(()),
        "empty": np.zeros((0, 3), np.float16),
    }
    base_file, target_file = safetensors_bytes(base_weights), safetensors_bytes(target_weights)
    base, target = import_model(db, base_file).model_id, import_model(db, target_file, version="2").model_id
    delta = publish(db, base, target)
    applied = apply(elsewhere, import_model(elsewhere, base_file).model_id, delta)
    assert export_model(elsewhere, applied.model_id) == target_file


def test_between_checkpoints(db, elsewhere) -> None:
    """Checkpoints are published as models are, and applied to either."""
    model = register(db)
    files = [file_of_weights({"w": random_tensor(7, 100, 100) + np.float32(i) / 8}) for i in range(3)]
    made = [checkpoint(db, model, file, step).checkpoint_id for step, file in enumerate(files)]
    there = import_model(elsewhere, files[0]).model_id
    first = apply(elsewhere, there, publish(db, made[0], made[1], "checkpoint_"))
    assert export_model(elsewhere, first.model_id) == files[1]
    version = elsewhere.execute("SELECT version FROM store.models WHERE model_id = %s", (first.model_id,)).fetchone()[0]
    assert version == "1-step-1"
    second = apply(elsewhere, first.model_id, publish(db, made[1], made[2], "checkpoint_"), "3")
    assert export_model(elsewhere, second.model_id) == files[2]
    copied = checkpoint(elsewhere, there, files[1], 1).checkpoint_id
    third = apply(elsewhere, copied, publish(db, made[1], made[2], "checkpoint_"), "4", "checkpoint_")
    oid = elsewhere.execute("SELECT lo_from_bytea(0, %b::bytea)", (publish(db, made[1], made[2], "checkpoint_"),)).fetchone()[0]
    fourth = elsewhere.execute("SELECT model_id FROM modelstore.apply_checkpoint_delta_large_object(%s, %s::oid, version => '5')", (copied, oid)).fetchone()[0]
    assert export_model(elsewhere, fourth) == files[2]
    elsewhere.execute("SELECT lo_unlink(%s)", (oid,))
    # Each form takes its own kind.
    assert refusal(db, "SELECT modelstore.publish_delta(%s, %s)", made[0], made[1]).sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.publish_checkpoint_delta(%s, %s)", model, made[1]).sqlstate == "42704"
    assert export_model(elsewhere, third.model_id) == files[2]


def test_nothing_changed(db, elsewhere) -> None:
    file = safetensors_bytes({"w": random_tensor(1, 50, 50)})
    base = import_model(db, file).model_id
    delta = publish(db, base, base)
    assert len(delta) < 1000
    applied = apply(elsewhere, import_model(elsewhere, file).model_id, delta, "copy")
    assert (applied.new_bytes, export_model(elsewhere, applied.model_id)) == (0, file)


def test_from_a_large_object(db) -> None:
    files = [safetensors_bytes({"w": random_tensor(i, 50, 50)}) for i in range(2)]
    base, target = import_model(db, files[0]).model_id, import_model(db, files[1], version="2").model_id
    oid = db.execute("SELECT lo_from_bytea(0, %b)", (publish(db, base, target),)).fetchone()[0]
    applied = db.execute("SELECT model_id FROM modelstore.apply_delta_large_object(%s, %s::oid, version => '3')", (base, oid)).fetchone()
    assert export_model(db, applied[0]) == files[1]


APPLY = "SELECT * FROM modelstore.apply_delta(%s, %b::bytea, version => 'x')"


def test_a_wrong_base_is_refused(db) -> None:
    files = [safetensors_bytes({"w": random_tensor(i, 50, 50)}) for i in range(3)]
    base, target, other = (import_model(db, file, version=str(i)).model_id for i, file in enumerate(files))
    delta = publish(db, base, target)
    without_file = register(db, "empty")
    before = row_counts(db)
    diag = refusal(db, APPLY, other, delta)
    assert (diag.sqlstate, diag.message_primary) == ("55000", f"model {other} is not the base of this delta")
    assert refusal(db, APPLY, uuid.uuid4(), delta).sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.publish_delta(%s, %s)", base, uuid.uuid4()).sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.publish_delta(NULL, %s)", base).sqlstate == "22004"
    assert refusal(db, "SELECT modelstore.publish_delta(%s, %s)", base, without_file).sqlstate == "55000"
    assert row_counts(db) == before


def test_a_damaged_delta_leaves_nothing(db) -> None:
    """Cut anywhere, or with any byte changed, it is refused, or it makes exactly the file it was published from."""
    weights = [{"w": random_tensor(1, 40, 40), "v": random_tensor(2, 30)}]
    weights.append({"w": weights[0]["w"] + np.float32(0.25), "v": weights[0]["v"]})
    files = [safetensors_bytes(w) for w in weights]
    base, target = import_model(db, files[0]).model_id, import_model(db, files[1], version="2").model_id
    delta = publish(db, base, target)
    db.execute("SELECT modelstore.delete_model(%s)", (target,))
    db.execute("SELECT modelstore.gc()")
    before = row_counts(db)
    for length in [0, 1, 8, 15, 16, 17, 100, *range(200, len(delta), 97), len(delta) - 1]:
        refusal(db, APPLY, base, delta[:length])
    assert refusal(db, APPLY, base, delta + b"\0").sqlstate == "22001"
    refused = 0
    for place in range(0, len(delta), 13):
        changed = bytearray(delta)
        changed[place] ^= 1 << (place % 8)
        try:
            with db.transaction(force_rollback=True):
                made = apply(db, base, bytes(changed), "x").model_id
                assert export_model(db, made) == files[1], place
        except psycopg.Error as e:
            assert e.sqlstate not in {"XX000", None}, (place, str(e))
            refused += 1
    # All but a letter of a name, a version or a hash that nothing depends on.
    assert refused > len(delta) / 13 * 0.9
    assert row_counts(db) == before
