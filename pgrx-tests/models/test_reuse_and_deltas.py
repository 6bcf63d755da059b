"""Deduplication and deltas: existing weights take no space, those of a child little more than their differences."""

from __future__ import annotations

import uuid

import models
import numpy as np
import pytest
from models import random_tensor, raw_file, safetensors_bytes
from observe import problems, row_counts
from transfer import export_model, import_model, refusal


@pytest.mark.any_server
def test_the_same_model_again_and_with_a_few_tensors_changed(db) -> None:
    tensors = {f"layer.{i}.weight": random_tensor(100 + i, 200, 300) for i in range(40)}
    first = import_model(db, safetensors_bytes(tensors), version="1")
    assert first.raw_bytes == 40 * 200 * 300 * 4 and first.reused_bytes == 0
    assert 0 < first.new_bytes <= 0.9 * first.raw_bytes
    again = import_model(db, safetensors_bytes(tensors), version="2")
    assert (again.new_chunks, again.new_bytes, again.reused_bytes) == (0, 0, first.raw_bytes)
    changed = tensors | {f"layer.{i}.weight": random_tensor(200 + i, 200, 300) for i in (3, 30)}
    third = import_model(db, safetensors_bytes(changed), version="3")
    assert third.new_chunks == 2 and third.new_bytes < 0.05 * third.raw_bytes
    assert third.reused_bytes == first.raw_bytes * 38 // 40
    assert export_model(db, third.model_id) == safetensors_bytes(changed)


def slightly_changed(array: np.ndarray, seed: int) -> np.ndarray:
    """The same numbers but for one in a hundred, which differs by a thousandth."""
    rng = np.random.default_rng(seed)
    child = array.copy().reshape(-1)
    picked = rng.choice(child.size, child.size // 100, replace=False)
    child[picked] *= np.float32(1.001)
    return child.reshape(array.shape)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_child_is_stored_as_differences(dtype, db) -> None:
    weights = [random_tensor(50, 900, 600)]
    for generation in range(6):
        weights.append(slightly_changed(weights[-1], generation))
    bits = [models.to_bf16(w) if dtype == "BF16" else w for w in weights]
    files = [raw_file({"w": (dtype, w.shape, b.tobytes())}) for w, b in zip(weights, bits, strict=True)]
    family, parent = [], None
    for version, data in enumerate(files):
        family.append(import_model(db, data, version=str(version), parent=parent))
        parent = family[-1].model_id
    depths = db.execute("""
        SELECT m.version::int, c.delta_depth, modelstore.codec(c.chunk), (c.base_hash IS NOT NULL), sum(c.stored_bytes), sum(c.raw_bytes)
        FROM store.models m JOIN store.model_weights USING (model_id) JOIN store.tensor_data USING (tensor_id)
        JOIN store.tensor_chunks c USING (chunk_hash) GROUP BY 1, 2, 3, 4 ORDER BY 1""").fetchall()
    # Four differences on top of one another; the next is one to a chunk below them.
    chains = [(v, depth, codec) for v, depth, codec, *_ in depths]
    assert chains[:5] == [(0, 0, "planes"), (1, 1, "delta"), (2, 2, "delta"), (3, 3, "delta"), (4, 4, "delta")]
    assert {(v, codec) for v, _, codec in chains[5:]} == {(5, "delta"), (6, "delta")}
    assert all(1 <= depth <= 4 for _, depth, _ in chains[5:])
    assert all((codec == "delta") == has_base for _, _, codec, has_base, _, _ in depths)
    for _, depth, _, _, stored, raw in depths:
        assert stored < (0.3 if depth else 0.95) * raw
    for imported, data in zip(family, files, strict=True):
        assert export_model(db, imported.model_id) == data
    rows = db.execute("SELECT version, delta_bytes > 0, stored_bytes FROM modelstore.space_report() ORDER BY version").fetchall()
    assert [has_delta for _, has_delta, _ in rows] == [False, True, True, True, True, True, True]
    # Ancestors go, the bases that their descendants stand on stay.
    for imported in family[:4]:
        db.execute("SELECT modelstore.delete_model(%s, true)", (imported.model_id,))
    preview = db.execute("SELECT * FROM modelstore.gc(dry_run => true)").fetchone()
    assert preview[:2] == (4, 0)
    assert db.execute("SELECT * FROM modelstore.gc()").fetchone() == preview
    assert problems(db) == []
    for imported, data in zip(family[4:], files[4:], strict=True):
        assert export_model(db, imported.model_id) == data
    # What has nothing to do with its parent stands by itself, and begins a chain.
    other = raw_file({"w": (dtype, (900, 600), random_tensor(51, 900, 300 if dtype == "BF16" else 600).tobytes())})
    imported = import_model(db, other, version="7", parent=family[6].model_id)
    query = "SELECT max(c.delta_depth) FROM store.model_weights JOIN store.tensor_data USING (tensor_id) JOIN store.tensor_chunks c USING (chunk_hash) WHERE model_id = %s"  # noqa: E501
    assert db.execute(query, (imported.model_id,)).fetchone() == (0,)
    db.execute("SELECT modelstore.delete_model(%s)", (imported.model_id,))
    db.execute("SELECT modelstore.gc()")
    # The last users of the chain go, and all of the chain with them.
    for imported in family[4:6]:
        db.execute("SELECT modelstore.delete_model(%s, true)", (imported.model_id,))
    assert export_model(db, family[6].model_id) == files[6]
    db.execute("SELECT modelstore.gc()")
    query = "SELECT sum(delta_depth + 1) FROM store.tensor_chunks WHERE chunk_hash NOT IN (SELECT base_hash FROM store.tensor_chunks WHERE base_hash IS NOT NULL)"  # noqa: E501
    (chunks,) = db.execute(query).fetchone()
    db.execute("SELECT modelstore.delete_model(%s)", (family[6].model_id,))
    preview = db.execute("SELECT * FROM modelstore.gc(dry_run => true)").fetchone()
    assert preview[:2] == (1, chunks)
    assert db.execute("SELECT * FROM modelstore.gc()").fetchone() == preview
    assert row_counts(db) == {}


def test_a_parent_of_other_shapes_and_dtypes_is_no_base(db) -> None:
    first = import_model(db, safetensors_bytes({"w": random_tensor(1, 90, 60), "x": random_tensor(2, 90, 60)}))
    data = safetensors_bytes({"w": random_tensor(1, 90, 60, dtype="float16"), "x": random_tensor(2, 60, 90), "y": random_tensor(2, 60, 91)})
    child = import_model(db, data, version="2", parent=first.model_id)
    assert export_model(db, child.model_id) == data
    assert db.execute("SELECT count(*) FROM store.tensor_chunks WHERE base_hash IS NOT NULL").fetchone() == (0,)
    assert refusal(db, "SELECT modelstore.import_safetensors('m', '3', %b::bytea, parent => %s)", data, uuid.uuid4()).sqlstate == "42704"


def test_thousands_of_small_weights(db) -> None:
    """More than one statement's worth of each kind of row, some of them equal, some large, and the same as a child."""
    rng = np.random.default_rng(5)
    tensors: dict[str, np.ndarray] = {}
    for i in range(2600):
        match i % 4:
            case 0:
                tensors[f"scalar.{i}"] = np.float32(i // 8).reshape(())
            case 1:
                tensors[f"bias.{i}"] = random_tensor(i, 1 + i % 50)
            case 2:
                tensors[f"table.{i}"] = rng.integers(0, 3, (2, 1 + i % 7), dtype=np.int64)
            case _:
                tensors[f"half.{i}"] = random_tensor(i, 3, 40, dtype="float16")
        if i % 500 == 0:
            tensors[f"large.{i}"] = random_tensor(i, 300, 1000)
            tensors[f"empty.{i}"] = np.zeros((0, i + 1), "float32")
    data = safetensors_bytes(tensors)
    first = import_model(db, data)
    assert export_model(db, first.model_id) == data
    assert problems(db) == []
    once = """SELECT (SELECT count(*) FROM store.tensor_metadata), (SELECT count(*) FROM store.tensor_chunks),
                     (SELECT count(*) FROM (SELECT FROM store.tensor_metadata GROUP BY content_hash, dtype, shape) t)"""
    distinct = {(str(t.dtype), t.shape, t.tobytes()) for t in tensors.values()}
    chunks = {t.tobytes() for t in tensors.values() if t.size and t.nbytes < 1 << 20}
    stored, pieces, identities = db.execute(once).fetchone()
    assert stored == identities == len(distinct)
    assert pieces == len(chunks) + 2 * 6
    again = import_model(db, data, version="2")
    assert (again.new_chunks, again.reused_bytes) == (0, again.raw_bytes)
    changed = {n: t.copy() for n, t in tensors.items()}
    for name, tensor in changed.items():
        if name.startswith(("bias", "large")):
            tensor.reshape(-1)[0] += 1
    child_data = safetensors_bytes(changed)
    child = import_model(db, child_data, version="3", parent=first.model_id)
    assert child.new_chunks == 650 + 6
    assert db.execute("SELECT count(*) FROM store.tensor_chunks WHERE base_hash IS NOT NULL").fetchone()[0] >= 6
    for model, file in ((first, data), (again, data), (child, child_data)):
        assert export_model(db, model.model_id) == file
    assert problems(db) == []
