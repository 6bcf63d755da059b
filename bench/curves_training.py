"""Cost curves of training: chains of checkpoints, metrics, runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np
from growth import Curve, Figures
from safetensors.numpy import save

MATRICES, SIDE = 8, 256


def checkpoints(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """A chain of checkpoints of a model of 2 MB. At each step a fiftieth of the elements change by about a thousandth."""
    rng = np.random.default_rng(7)
    weights = {f"layer.{n}": rng.standard_normal((SIDE, SIDE), dtype="float32") for n in range(MATRICES)}
    create = "SELECT checkpoint_id, new_bytes FROM modelstore.create_checkpoint(%s, %s, %b::bytea)"
    model = b.value("SELECT modelstore.register_model('m', '1')")
    step, seconds, new, id = 0, [], [], None
    for size in sizes:
        while step < size:
            step += 1
            for array in weights.values():
                where = rng.integers(0, SIDE * SIDE, SIDE * SIDE // 50)
                array.reshape(-1)[where] *= 1 + 1e-3 * rng.standard_normal(len(where), dtype="float32")
            data = save(weights)
            begun = time.perf_counter()
            id, bytes = b.db.execute(create, (model, step, data)).fetchone()
            seconds.append(time.perf_counter() - begun)
            new.append(bytes)
        figures = {
            "one checkpoint [s]": statistics.median(seconds[-10:]),
            # Some are a new root, others a delta: of the mean of a few.
            "one checkpoint, new bytes [B]": statistics.mean(new[-10:]),
            "all, bytes stored [B]": float(b.value("SELECT sum(stored_bytes)::bigint FROM store.tensor_chunks")),
            "get_checkpoint_tensor [s]": b.median("SELECT modelstore.get_checkpoint_tensor(%s, 'layer.3')", [(id,)] * 13),
            "export_checkpoint [s]": b.median("SELECT modelstore.export_checkpoint(%s)", [(id,)] * 6, warm=1),
            "restore_checkpoint [s]": b.median("SELECT modelstore.restore_checkpoint(%s, 'restored', %s)", [(id, f"{size} {n}") for n in range(6)], warm=1),
            "verify_checkpoint [s]": b.median("SELECT count(*) FROM modelstore.verify_checkpoint(%s)", [(id,)] * 6, warm=1),
            "get_latest_checkpoint [s]": b.median("SELECT modelstore.get_latest_checkpoint(%s)", [(model,)] * 13),
            "prune_checkpoints(dry_run) [s]": b.median("SELECT count(*) FROM modelstore.prune_checkpoints(%s)", [(model,)] * 4, warm=1),
        }
        figures |= b.once("verify_store", "SELECT count(*) FROM modelstore.verify_store()")
        yield size, figures


def metrics(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """One metric of a run at many steps; a run for each size, which is deleted."""
    model = b.value("SELECT modelstore.register_model('m', '1')")
    for size in sizes:
        run = b.value("SELECT modelstore.start_training(%s)", model)
        log = "SELECT modelstore.log_metric(%s, 'loss', array_agg(i), array_agg(1 / (1.0 + i) + random())) FROM generate_series(%s::bigint, %s) i"
        begun, at = time.perf_counter(), 0
        while at < size:
            b.db.execute(log, (run, at + 1, min(at + 10_000, size)))
            at += 10_000
        figures = {
            "log_metric, 10 000 a call [s]": time.perf_counter() - begun,
            "one more [s]": b.median("SELECT modelstore.log_metric(%s, 'loss', ARRAY[%s::bigint], ARRAY[0.5])", [(run, size + 2 + n) for n in range(23)]),
            "v_training_progress [s]": b.median("SELECT * FROM store.v_training_progress WHERE session_id = %s", [(run,)] * 6, warm=1),
            "the last 100 steps [s]": b.median(
                "SELECT step, value FROM store.training_metrics WHERE session_id = %s AND metric_name = 'loss' ORDER BY recorded_at DESC LIMIT 100", [(run,)] * 13
            ),
        }
        figures |= b.once("metric_plot", "SELECT octet_length(modelstore.metric_plot(%s, 'loss'))", run)
        figures |= b.once("delete_metrics", "SELECT modelstore.delete_metrics(%s)", run)
        b.db.execute("TRUNCATE store.training_metrics")
        yield size, figures


def runs(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Runs of a model, each with 200 metrics."""
    model, done = b.value("SELECT modelstore.register_model('m', '1')"), 0
    for size in sizes:
        while done < size:
            with b.db.transaction():
                for done in range(done + 1, min(done + 100, size) + 1):
                    run = b.value("SELECT modelstore.start_training(%s)", model)
                    b.db.execute("SELECT modelstore.log_metric(%s, 'loss', array_agg(i), array_agg(1.0 / i)) FROM generate_series(1::bigint, 200) i", (run,))
        yield size, {
            "start_training [s]": b.median("SELECT modelstore.start_training(%s)", [(model,)] * 13),
            "v_training_progress of one [s]": b.median("SELECT * FROM store.v_training_progress WHERE session_id = %s", [(run,)] * 13),
            "v_training_progress of all [s]": b.median("SELECT * FROM store.v_training_progress", [()] * 4, warm=1),
            "log_metrics [s]": b.median("SELECT modelstore.log_metrics(%s, %s, '{\"loss\": 1, \"lr\": 2}')", [(run, n) for n in range(23)]),
        }


CURVES = [
    Curve("checkpoints", "checkpoints", (16, 32, 64, 128, 256), (32, 125, 500, 2000), checkpoints),
    Curve("metrics", "rows", (10_000, 40_000, 160_000, 320_000), (10_000, 100_000, 1_000_000, 10_000_000), metrics),
    Curve("runs", "runs", (50, 100, 200, 400), (100, 400, 1600, 6400), runs),
]
