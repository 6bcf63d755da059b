"""The size of the next checkpoint: unchanged weights take no space, small changes little more than their entropy, and never
more than the weights on their own. Chains of deltas are short, and their bases are kept."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from checkpoints import (
    checkpoint,
    checkpoint_problems,
    chunk_bytes,
    exported,
    exported_sha256,
    file_of_weights,
    latest,
    needed_chunk_bytes,
    register,
)
from models import random_tensor, to_bf16
from observe import dangling, problems
from transfer import import_model

SHAPES = {"embeddings.weight": (3000, 384), "layer.weight": (1536, 384), "layer.bias": (1536,)}


def entropy(counts: np.ndarray) -> float:
    """Bits a symbol, of symbols that occur so often."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def entropy_of_change(before: np.ndarray, after: np.ndarray) -> float:
    """Bytes to say where the elements differ, and by order-0 entropy of each plane of bytes in what way."""
    a, b = (np.ascontiguousarray(x).reshape(-1).view("uint8").reshape(x.size, x.itemsize) for x in (before, after))
    changed = (a != b).any(axis=1)
    share = changed.mean()
    if share == 0:
        return 0.0
    bits = a.shape[0] * entropy(np.array([share, 1 - share]))
    xor = (a ^ b)[changed]
    bits += sum(len(xor) * entropy(np.bincount(xor[:, plane], minlength=256)) for plane in range(xor.shape[1]))
    return bits / 8


def base_weights(dtype: str) -> dict[str, np.ndarray]:
    arrays = {n: random_tensor(i, *shape) for i, (n, shape) in enumerate(SHAPES.items())}
    return {n: to_bf16(a) for n, a in arrays.items()} if dtype == "bf16" else arrays


def changed_a_little(weights: dict[str, np.ndarray], share: float, seed: int) -> dict[str, np.ndarray]:
    """That share of the elements: of f32 by a thousandth, of bf16 by one unit in the last place."""
    rng, result = np.random.default_rng(seed), {}
    for name, array in weights.items():
        array = array.copy().reshape(-1)
        chosen = rng.random(array.size) < share
        if array.dtype == np.uint16:
            array[chosen] += rng.choice(np.array([1, 0xFFFF], "uint16"), chosen.sum())
        else:
            array[chosen] *= (1 + 1e-3 * rng.standard_normal(chosen.sum())).astype("float32")
        result[name] = array.reshape(weights[name].shape)
    return result


@pytest.fixture
def model(db):
    return register(db)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_small_change_costs_little_more_than_its_entropy(dtype: str, share: float, db, model) -> None:
    before = base_weights(dtype)
    after = changed_a_little(before, share, 7)
    first = checkpoint(db, model, file_of_weights(before, dtype == "bf16"), 1)
    data = file_of_weights(after, dtype == "bf16")
    second = checkpoint(db, model, data, 2)
    bound = sum(entropy_of_change(before[n], after[n]) for n in before)
    ratio = second.new_bytes / bound
    print(
        f"\n{dtype}, {share:.0%} changed: {second.new_bytes:,} new bytes of {second.raw_bytes:,}, "
        f"entropy {bound:,.0f}, ratio {ratio:.3f}; the first took {first.new_bytes:,}"
    )
    assert ratio <= 1.4
    assert db.execute("SELECT sum(stored_bytes) FROM store.tensor_chunks WHERE delta_depth > 0").fetchone()[0] is not None
    assert chunk_bytes(db)[1] == first.new_bytes + second.new_bytes
    assert exported(db, second.checkpoint_id) == data


def test_what_is_equal_costs_nothing(db, model) -> None:
    weights = base_weights("f32")
    checkpoint(db, model, file_of_weights(weights), 1)
    chunks = chunk_bytes(db)
    again = checkpoint(db, model, file_of_weights(weights), 2)
    assert (again.new_chunks, again.new_bytes, again.reused_bytes) == (0, 0, again.raw_bytes)
    assert chunk_bytes(db) == chunks
    one = weights | {"layer.bias": weights["layer.bias"] + 1}
    other = checkpoint(db, model, file_of_weights(one), 3)
    assert other.new_chunks == 1
    assert other.reused_bytes == other.raw_bytes - 4 * 1536


def test_the_optimizer_is_a_difference_to_the_optimizer_before(db, model) -> None:
    weights = base_weights("f32")
    moments = {f"{n}.exp_avg": a for n, a in weights.items()}
    later = changed_a_little(moments, 0.01, 3)
    data = file_of_weights({"w": weights["layer.bias"]})
    first = checkpoint(db, model, data, 1, optimizer=file_of_weights(moments))
    second = checkpoint(db, model, data, 2, optimizer=file_of_weights(later))
    bound = sum(entropy_of_change(moments[n], later[n]) for n in moments)
    assert second.new_bytes <= 1.4 * bound < first.new_bytes / 10
    assert exported(db, second.checkpoint_id, "optimizer.safetensors") == file_of_weights(later)


def test_the_first_checkpoint_is_a_difference_to_the_model(db) -> None:
    before = base_weights("f32")
    after = changed_a_little(before, 0.01, 5)
    model = import_model(db, file_of_weights(before)).model_id
    made = checkpoint(db, model, file_of_weights(after), 1)
    assert made.new_bytes <= 1.4 * sum(entropy_of_change(before[n], after[n]) for n in before)


def test_state_put_by_hand_is_a_difference_too(db, model) -> None:
    moments = {"m": base_weights("f32")["layer.weight"]}
    later = changed_a_little(moments, 0.01, 3)
    data, sizes = file_of_weights({"w": np.ones(3, "float32")}), []
    for step, value in enumerate((moments, later)):
        # The value alone, without its bytes in the store.
        source = import_model(db, file_of_weights(value), "source", str(step)).model_id
        db.execute("CREATE TEMP TABLE value AS SELECT modelstore.get_tensor(%s, 'm') AS tensor", (source,))
        db.execute("SELECT modelstore.delete_model(%s)", (source,))
        db.execute("SELECT modelstore.gc()")
        id = checkpoint(db, model, data, step).checkpoint_id
        before = chunk_bytes(db)[1]
        db.execute("SELECT modelstore.put_optimizer_state(%s, 'w', 'm', tensor) FROM value", (id,))
        sizes.append(chunk_bytes(db)[1] - before)
        db.execute("DROP TABLE value")
        found = db.execute("SELECT modelstore.tobytes(modelstore.get_optimizer_state(%s, 'w', 'm'))", (id,)).fetchone()[0]
        assert found == value["m"].tobytes()
    assert sizes[1] <= 1.4 * entropy_of_change(moments["m"], later["m"]) < sizes[0] / 10


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_dense_change_never_costs_more_than_afresh(dtype: str, db, model) -> None:
    """Fine-tuning moves every element: by little, where a difference is worth while, and by much, where it is not."""
    db.execute("SELECT modelstore.create_store('fresh')")
    rng = np.random.default_rng(4)
    exact = {n: random_tensor(i, *shape) for i, (n, shape) in enumerate(SHAPES.items())}
    pack = (lambda w: file_of_weights({n: to_bf16(a) for n, a in w.items()}, True)) if dtype == "bf16" else file_of_weights
    checkpoint(db, model, pack(exact), 0)
    for step, scale in enumerate([1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0], 1):
        exact = {n: (a * (1 + scale * rng.standard_normal(a.shape))).astype("float32") for n, a in exact.items()}
        data = pack(exact)
        made = checkpoint(db, model, data, step)
        db.execute("SET modelstore.store = 'fresh'")
        fresh = import_model(db, data, "fresh", str(step)).new_bytes
        db.execute("RESET modelstore.store")
        print(f"\n{dtype}, all elements by {scale:g}: {made.new_bytes:,}, afresh {fresh:,}, {made.new_bytes / fresh:.3f}")
        assert made.new_bytes <= fresh
    assert exported(db, made.checkpoint_id) == data


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_long_run_of_small_steps(dtype: str, db, model) -> None:
    """Fourteen checkpoints, each a little further: chains stay short, and each checkpoint is what it was."""
    weights, made = base_weights(dtype), []
    first = 0
    for step in range(14):
        data = file_of_weights(weights, dtype == "bf16")
        row = checkpoint(db, model, data, step)
        first = first or row.new_bytes
        made.append((row.checkpoint_id, hashlib.sha256(data).hexdigest()))
        assert step == 0 or row.new_bytes < first / 2, f"step {step} is not stored as a difference"
        weights = changed_a_little(weights, 0.02, 100 + step)
    depth, lengths = db.execute("""
        WITH RECURSIVE chain AS (
            SELECT chunk_hash, base_hash, 0 AS length FROM store.tensor_chunks
            UNION ALL
            SELECT chain.chunk_hash, c.base_hash, length + 1
            FROM chain JOIN store.tensor_chunks c ON c.chunk_hash = chain.base_hash)
        SELECT (SELECT max(delta_depth) FROM store.tensor_chunks), max(length) FROM chain
    """).fetchone()  # fmt: skip
    assert depth == lengths
    assert 1 <= depth <= 4
    for id, sha256 in made:
        assert exported_sha256(db, id) == sha256
    assert chunk_bytes(db) == needed_chunk_bytes(db)
    assert problems(db) == []


def test_a_base_stays_while_a_difference_needs_it(db, model) -> None:
    """Checkpoints go, from the first on and from the middle; what is a difference to them still is right."""
    weights, made = base_weights("f32"), []
    for step in range(8):
        data = file_of_weights(weights)
        made.append((checkpoint(db, model, data, step).checkpoint_id, hashlib.sha256(data).hexdigest()))
        weights = changed_a_little(weights, 0.02, 200 + step)
    for gone in (0, 3, 4, 1, 6, 2, 5):
        db.execute("DELETE FROM store.model_checkpoints WHERE checkpoint_id = %s", (made[gone][0],))
        db.execute("SELECT modelstore.gc()")
        assert dangling(db) == 0
        assert chunk_bytes(db) == needed_chunk_bytes(db)
        left = {id for (id,) in db.execute("SELECT checkpoint_id FROM store.model_checkpoints")}
        for id, sha256 in made:
            if id in left:
                assert checkpoint_problems(db, id) == []
                assert exported_sha256(db, id) == sha256
    assert latest(db, model) == made[7][0]
    # The last is a difference, and its bases are of checkpoints that are gone.
    assert db.execute("SELECT count(*) FROM store.tensor_chunks WHERE base_hash IS NOT NULL").fetchone()[0] > 0
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, 'last')", (made[7][0],)).fetchone()
    db.execute("SELECT modelstore.prune_checkpoints(%s, 0, keep_best => 0, dry_run => false)", (model,))
    db.execute("SELECT modelstore.gc()")
    parts = db.execute("SELECT modelstore.export_safetensors(%s)", (restored,)).fetchall()
    assert hashlib.sha256(b"".join(part for (part,) in parts)).hexdigest() == made[7][1]
    assert problems(db) == []
