"""Checkpoints by killed and by concurrent sessions: stored completely or not at all, no deadlock, no unreferenced data."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import threading
import time

import numpy as np
import psycopg
import pytest
from checkpoints import (
    checkpoint,
    checkpoint_problems,
    chunk_bytes,
    exported,
    exported_sha256,
    latest,
    needed_chunk_bytes,
    register,
    start,
)
from harness import Server, wait_until
from models import random_tensor, safetensors_bytes
from observe import aside, dangling, has_come, is_blocked, problems, row_counts, wait_for_progress


def step_on(weights: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """The next state: two in a hundred elements of each weight a little further, some weights as they were."""
    rng, result = np.random.default_rng(seed), {}
    for number, (name, array) in enumerate(weights.items()):
        if (number + seed) % 4 == 0:
            result[name] = array
            continue
        factors = 1 + 1e-3 * rng.standard_normal(array.shape) * (rng.random(array.shape) < 0.02)
        result[name] = (array * factors).astype("float32")
    return result


def weights_of(seed: int, count: int = 8, rows: int = 600) -> dict[str, np.ndarray]:
    return {f"layer.{i}.weight": random_tensor(seed + i, rows, 512) for i in range(count)}


def moments_of(weights: dict[str, np.ndarray]) -> bytes:
    return safetensors_bytes({f"{name}.exp_avg": array * np.float32(0.01) for name, array in weights.items()})


def check(db: psycopg.Connection, sha256: dict[object, str]) -> None:
    """What was committed is there and right, and after a collection nothing else."""
    assert problems(db) == []
    assert dangling(db) == 0
    for id, expected in sha256.items():
        assert exported_sha256(db, id) == expected
        assert checkpoint_problems(db, id) == []
    db.execute("SELECT modelstore.gc()")
    assert chunk_bytes(db) == needed_chunk_bytes(db)
    assert problems(db) == []
    tensors = """SELECT (SELECT count(*) FROM store.tensor_metadata), (SELECT count(DISTINCT tensor_id) FROM (
        SELECT tensor_id FROM store.checkpoint_weights UNION SELECT tensor_id FROM store.optimizer_state
        UNION SELECT tensor_id FROM store.model_weights) AS needed)"""
    have, needed = db.execute(tensors).fetchone()
    assert have == needed


@pytest.mark.crash
@pytest.mark.slow
def test_killed_at_random_points_of_a_checkpoint(server: Server, dbname: str) -> None:
    """Ten times the backend is killed while it makes a checkpoint; the one before stays the newest."""
    generator = random.Random(11)
    weights, sha256 = weights_of(1, count=16), {}
    with server.connect(dbname, autocommit=True) as db:
        model = register(db)
        run = start(db, model)
        data = safetensors_bytes(weights)
        newest = checkpoint(db, model, data, 0, run, optimizer=moments_of(weights)).checkpoint_id
        sha256[newest] = hashlib.sha256(data).hexdigest()
    killed = 0
    for round_ in range(10):
        # Now a small step, now everything anew, which takes longer.
        weights = step_on(weights, round_) if round_ % 2 else weights_of(1000 * (round_ + 1), count=16)
        data, optimizer = safetensors_bytes(weights), moments_of(weights)
        with server.crash_expected():
            session, bystander = (server.connect(dbname, autocommit=True) for _ in range(2))
            pid = session.info.backend_pid
            session.execute("SELECT modelstore.store_version()")
            sql = "SELECT checkpoint_id FROM modelstore.create_checkpoint(%s, session_id => %s, step => %s, weights => %b::bytea, optimizer => %b::bytea)"
            running = aside(session, sql, (model, run, round_ + 1, data, optimizer))
            there = functools.partial(has_come, bystander, pid, generator.uniform(0.01, 0.95))
            wait_until(lambda there=there, running=running: there() or not running.running, "it has come that far")
            server.kill_backend(pid)
            running.join()
            # The server has noticed when it ends the others.
            with contextlib.suppress(psycopg.OperationalError):
                bystander.execute("SELECT pg_sleep(60)")
            for c in (session, bystander):
                c.close()
        with server.connect(dbname, autocommit=True) as db:
            if running.error is None:
                # It was quicker than the signal.
                newest = running.rows[0][0]
                sha256[newest] = hashlib.sha256(data).hexdigest()
            else:
                killed += 1
            assert latest(db, model) == newest
            assert {id for (id,) in db.execute("SELECT checkpoint_id FROM store.model_checkpoints")} == set(sha256)
            check(db, sha256)
    print(f"killed {killed} of 10")
    assert killed >= 5


@pytest.mark.parametrize("way", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_checkpoint_that_is_stopped_leaves_nothing(way: str, db, connect) -> None:
    model = register(db)
    before = row_counts(db)
    session = connect()
    pid = session.info.backend_pid
    data = safetensors_bytes(weights_of(5, count=24, rows=1500))
    running = aside(session, "SELECT modelstore.create_checkpoint(%s, 1, %b::bytea)", (model, data))
    wait_for_progress(db, pid, 0.55)
    asked = time.monotonic()
    db.execute(f"SELECT {way}(%s)", (pid,))
    running.join()
    assert running.error is not None
    assert running.ended - asked < 1.0
    wait_until(lambda: row_counts(db) == before, "nothing is left", 5)


@pytest.mark.slow
def test_two_runs_and_a_collector_at_once(db, connect) -> None:
    """Ten seconds of checkpoints of one model by two runs, of pruning, and of collections, which want the same chunks."""
    model = register(db)
    common = weights_of(70)
    sha256: dict[object, str] = {}
    counts = {"made": 0, "pruned": 0, "collections": 0, "collected": 0}
    errors: list[BaseException] = []
    until = time.monotonic() + 10
    lock = threading.Lock()

    def guarded(work, *arguments) -> threading.Thread:
        def run() -> None:
            try:
                while time.monotonic() < until:
                    work(*arguments)
            except BaseException as e:
                errors.append(e)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def train(session: psycopg.Connection, run: object, state: dict, shared: random.Random) -> None:
        # Both runs go through the same states now and then: they add the same chunks at the same time.
        state["step"] += 1
        if shared.random() < 0.2:
            state["weights"] = dict(reversed(common.items())) if run == runs[1] else common
        state["weights"] = step_on(state["weights"], state["step"])
        data = safetensors_bytes(state["weights"])
        made = checkpoint(session, model, data, state["step"], run, optimizer=moments_of(state["weights"])).checkpoint_id
        with lock:
            sha256[made] = hashlib.sha256(data).hexdigest()
            counts["made"] += 1

    def prune(session: psycopg.Connection) -> None:
        time.sleep(0.3)
        rows = session.execute("SELECT kept FROM modelstore.prune_checkpoints(%s, 6, keep_best => 0, dry_run => false)", (model,)).fetchall()
        counts["pruned"] += sum(not kept for (kept,) in rows)

    def collect(session: psycopg.Connection) -> None:
        time.sleep(0.05)
        (tensors, *_) = session.execute("SELECT * FROM modelstore.gc()").fetchone()
        counts["collections"] += 1
        counts["collected"] += tensors

    runs = [start(db, model, name) for name in ("first", "second")]
    threads = [guarded(train, connect(), run, {"step": 0, "weights": common}, random.Random(3)) for run in runs]
    threads += [guarded(prune, connect()), guarded(collect, connect())]
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a session hangs"
    print(counts)
    assert not errors, errors
    assert min(counts.values()) > 0
    left = {id for (id,) in db.execute("SELECT checkpoint_id FROM store.model_checkpoints")}
    assert len(left) >= 6
    check(db, {id: hash for id, hash in sha256.items() if id in left})


def test_a_checkpoint_that_goes_while_the_next_is_made(db, connect) -> None:
    """The checkpoint before is kept until the new one is there: its tensors are what that is a difference to."""
    model = register(db)
    weights = weights_of(3)
    first = checkpoint(db, model, safetensors_bytes(weights), 1).checkpoint_id
    later = safetensors_bytes(step_on(weights, 1))
    maker, remover = connect(), connect()
    maker.execute("BEGIN")
    second = checkpoint(maker, model, later, 2).checkpoint_id
    removing = aside(remover, "DELETE FROM store.model_checkpoints WHERE checkpoint_id = %s", (first,))
    wait_until(lambda: is_blocked(db, remover.info.backend_pid), "the deletion waits", 10)
    maker.execute("COMMIT")
    assert removing.join().error is None
    db.execute("SELECT modelstore.gc()")
    assert exported(db, second) == later
    assert db.execute("SELECT parent_checkpoint_id FROM store.model_checkpoints").fetchall() == [(None,)]
    check(db, {second: hashlib.sha256(later).hexdigest()})


def test_a_model_that_goes_while_a_checkpoint_is_made(db, connect) -> None:
    model = register(db)
    maker, remover = connect(), connect()
    maker.execute("BEGIN")
    checkpoint(maker, model, safetensors_bytes(weights_of(3, 2)), 1)
    removing = aside(remover, "SELECT modelstore.delete_model(%s, true)", (model,))
    wait_until(lambda: is_blocked(db, remover.info.backend_pid), "the deletion waits", 10)
    maker.execute("COMMIT")
    assert removing.join().error is None
    db.execute("SELECT modelstore.gc()")
    assert row_counts(db) == {}


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_stricter_isolation(isolation: str, db, connect) -> None:
    """A transaction that sees an older state adds the same chunks as one that has committed meanwhile."""
    model = register(db)
    first, second = connect(), connect()
    weights = weights_of(9, 3)
    data = safetensors_bytes(weights)
    for session in (first, second):
        session.execute(f"BEGIN ISOLATION LEVEL {isolation.upper()}")
        session.execute("SELECT count(*) FROM store.model_checkpoints")
    made = [checkpoint(first, model, data, 1).checkpoint_id]
    first.execute("COMMIT")
    try:
        made.append(checkpoint(second, model, data, 1).checkpoint_id)
        second.execute("COMMIT")
    except psycopg.errors.SerializationFailure:
        second.execute("ROLLBACK")
        made = made[:1]
    check(db, dict.fromkeys(made, hashlib.sha256(data).hexdigest()))
