"""A training run as a program records it with psycopg: a thousand steps, twenty checkpoints of a real model, and all later
operations on them."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import psycopg
import pytest
from checkpoints import (
    best,
    checkpoint,
    checkpoint_problems,
    chunk_bytes,
    exported,
    exported_sha256,
    file_of_weights,
    latest,
    needed_chunk_bytes,
    start,
    tensors_of_file,
)
from observe import dangling, problems
from observe import exported_sha256 as model_sha256
from psycopg.types.json import Jsonb
from transfer import import_model

STEPS, EVERY = 1000, 50


def loss_at(step: int) -> float:
    """Falls to step 700 and rises again; some steps go wrong."""
    if step % 97 == 96:
        return math.inf
    return math.nan if step % 89 == 88 else 3 - step / 350 + max(0, step - 700) / 200 + math.sin(step) / 50


class Training:
    """Weights that move as those of a fine-tune do: two in a hundred elements a step, some weights not at all."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.rng = np.random.default_rng(1)
        self.frozen = {name for i, name in enumerate(sorted(weights)) if i % 5 == 0}
        self.moments = {f"{n}.{s}": np.zeros_like(a) for n, a in weights.items() for s in ("exp_avg", "exp_avg_sq")}

    def go_on(self) -> None:
        for name, array in self.weights.items():
            if name in self.frozen or array.dtype.kind != "f":
                continue
            chosen = self.rng.random(array.shape, dtype="float32") < 0.02
            gradient = np.where(chosen, self.rng.standard_normal(array.shape, dtype="float32"), 0)
            self.weights[name] = (array * (1 + 1e-3 * gradient)).astype("float32")
            self.moments[f"{name}.exp_avg"] = self.moments[f"{name}.exp_avg"] + np.float32(0.1) * gradient
            self.moments[f"{name}.exp_avg_sq"] = self.moments[f"{name}.exp_avg_sq"] + np.float32(0.01) * gradient**2


@pytest.mark.slow
def test_a_run_from_its_start_to_its_end(db: psycopg.Connection, minilm) -> None:
    every = tensors_of_file(minilm.read_bytes())
    # Half of the model: of its layers the first three, and the embeddings that are not huge.
    weights = {n: a for n, a in every.items() if not n.startswith(tuple(f"encoder.layer.{i}" for i in (3, 4, 5))) and a.size < 5e6}
    weights["embeddings.word_embeddings.weight"] = every["embeddings.word_embeddings.weight"][:4000].copy()
    count = sum(a.size for a in weights.values() if a.dtype.kind == "f")
    config = json.loads(minilm.with_name("config.json").read_text()) | {"num_parameters": count}
    original = file_of_weights(weights)
    model = import_model(db, original, "minilm", "1", config).model_id
    run = start(db, model, "fine-tune", total_steps=STEPS, config={"lr": 5e-5, "batch": 32})

    # The run
    training, made, losses = Training(weights), [], []
    with_moments = {5, 10, 15, 20}
    for step in range(1, STEPS + 1):
        loss = loss_at(step)
        losses.append(loss)
        figures = {"loss": loss if math.isfinite(loss) else str(loss), "lr": 5e-5 * (1 - step / STEPS)}
        with db.transaction():
            db.execute("SELECT modelstore.log_metrics(%s, %s, %s)", (run, step, Jsonb(figures)))
            if step % EVERY:
                continue
            training.go_on()
            moments = file_of_weights(training.moments) if step // EVERY in with_moments else None
            data = file_of_weights(training.weights)
            rng = step.to_bytes(8, "little")
            row = checkpoint(db, model, data, step, run, step / 250, moments, metrics=figures, rng_state=rng)
            files = [hashlib.sha256(file).hexdigest() if file else None for file in (data, moments)]
            made.append({"id": row.checkpoint_id, "step": step, "loss": loss, "new": row.new_bytes, "sha256": files[0], "state": files[1]})
            stored = [*training.weights.values(), *(training.moments.values() if moments else [])]
            assert row.raw_bytes == sum(a.nbytes for a in stored)
    db.execute("SELECT modelstore.finish_training(%s)", (run,))
    plain = [m["new"] for i, m in enumerate(made, 1) if i not in with_moments]
    print(f"\n{len(original):,} bytes a file; new bytes of checkpoints without moments: {min(plain):,} to {max(plain):,}")

    # Metrics
    rows = db.execute("SELECT value FROM store.training_metrics WHERE session_id = %s AND metric_name = 'loss' ORDER BY step", (run,))
    np.testing.assert_array_equal([v for (v,) in rows], losses)
    assert db.execute("SELECT count(*) FROM store.training_metrics").fetchone() == (2 * STEPS,)
    finite = {i + 1: v for i, v in enumerate(losses) if not math.isnan(v)}
    columns = "status, step, progress, best_step, best_loss, last_checkpoint_id, last_checkpoint_step"
    progress = db.execute(f"SELECT {columns} FROM store.v_training_progress").fetchone()
    lowest = min(finite, key=finite.get)
    assert progress == ("completed", STEPS, 1.0, lowest, finite[lowest], made[-1]["id"], STEPS)
    assert "<svg" in db.execute("SELECT modelstore.metric_plot(%s, 'loss')", (run,)).fetchone()[0]

    # The newest and the best
    assert latest(db, model) == made[-1]["id"]
    scored = [m for m in made if not math.isnan(m["loss"])]
    assert best(db, model) == min(scored, key=lambda m: m["loss"])["id"]
    assert best(db, model, "loss", "max") == max(scored, key=lambda m: m["loss"])["id"]
    assert best(db, model, "lr") == made[-1]["id"]

    # Differences between the first and the last, as numpy sees them
    first = tensors_of_file(exported(db, made[0]["id"]))
    compared = {}
    for name, status, *figures in db.execute(
        "SELECT weight_name, status, l2, max_abs, cosine, shared_bytes FROM modelstore.diff_checkpoints(%s, %s)",
        (made[0]["id"], made[-1]["id"]),
    ):
        compared[name] = status
        a, b = (w[name].astype("float64").ravel() for w in (first, training.weights))
        if status == "same":
            np.testing.assert_array_equal(first[name], training.weights[name])
            assert figures[-1] == first[name].nbytes
            continue
        expected = [np.linalg.norm(a - b), np.abs(a - b).max(), a @ b / np.linalg.norm(a) / np.linalg.norm(b)]
        np.testing.assert_allclose(figures[:3], expected, rtol=1e-6)
    assert compared.keys() == weights.keys()
    assert {n for n, s in compared.items() if s == "same"} >= training.frozen
    assert list(compared.values()).count("changed") > len(weights) / 2

    # Restored, it is a version as any
    before = chunk_bytes(db)
    (version,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, 'step-500')", (made[9]["id"],)).fetchone()
    assert chunk_bytes(db) == before
    assert model_sha256(db, version) == made[9]["sha256"]
    assert db.execute("SELECT modelstore.find_model('minilm', 'step-500')").fetchone() == (version,)
    (layers,) = db.execute("SELECT layers FROM store.v_model_architecture WHERE model_id = %s", (version,)).fetchone()
    assert layers == 3

    # Pruned: bytes are those of what is left
    decided = db.execute("SELECT checkpoint_id, kept FROM modelstore.prune_checkpoints(%s, 2, 250, 1, dry_run => false)", (model,)).fetchall()
    kept = {id for id, is_kept in decided if is_kept}
    best_one = min(scored, key=lambda m: m["loss"])["step"]
    assert {m["step"] for m in made if m["id"] in kept} == {250, 500, 750, 950, 1000, best_one}
    assert needed_chunk_bytes(db)[1] < before[1]
    assert db.execute("SELECT tensors > 0, stored_bytes > 0 FROM modelstore.gc()").fetchone() == (True, True)
    assert chunk_bytes(db) == needed_chunk_bytes(db)
    stored = chunk_bytes(db)[1]
    db.execute("VACUUM FULL store.tensor_chunks")
    (on_disk,) = db.execute("SELECT pg_total_relation_size('store.tensor_chunks')").fetchone()
    print(f"stored {before[1]:,} bytes before, {stored:,} after pruning to {len(kept)} of {len(made)}; {on_disk:,} on disk")
    assert stored <= on_disk < 1.06 * stored

    # Nothing of what is kept has changed
    for m in made:
        if m["id"] in kept:
            assert checkpoint_problems(db, m["id"]) == []
            assert exported_sha256(db, m["id"]) == m["sha256"]
            if m["state"]:
                assert exported_sha256(db, m["id"], "optimizer.safetensors") == m["state"]
            (rng,) = db.execute("SELECT rng_state FROM store.model_checkpoints WHERE checkpoint_id = %s", (m["id"],)).fetchone()
            assert int.from_bytes(rng, "little") == m["step"]
    assert model_sha256(db, version) == made[9]["sha256"]
    assert model_sha256(db, model) == hashlib.sha256(original).hexdigest()
    assert dangling(db) == 0
    assert problems(db) == []
    assert db.execute("SELECT max(delta_depth) FROM store.tensor_chunks").fetchone()[0] in range(1, 5)


