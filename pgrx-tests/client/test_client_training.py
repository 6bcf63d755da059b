"""Training runs: metrics in batches, state_dicts of model and optimizer, resuming, failing."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pg_modelstore
import psycopg
import pytest
from models import random_tensor
from observe import problems
from pg_modelstore import training


def weights(step: int = 0) -> dict[str, np.ndarray]:
    return {
        "layer.weight": random_tensor(1, 30, 20) + np.float32(step),
        "layer.bias": np.full(20, step, "f4"),
        "steps": np.array(step),
    }


def adamw(step: int = 1) -> dict[str, Any]:
    """The state_dict of a torch optimizer, with arrays in place of tensors: parameters by number, scalars, groups with tuples."""
    return {
        "state": {
            n: {
                "step": np.array(step, "f4"),
                "exp_avg": random_tensor(n, *shape),
                "exp_avg_sq": random_tensor(n + 10, *shape) ** 2,
            }
            for n, shape in enumerate([(30, 20), (20,)])
        },
        "param_groups": [
            {
                "lr": 0.1 + 0.2,
                "betas": (0.9, 0.999),
                "eps": 1e-08,
                "weight_decay": 0.01,
                "amsgrad": False,
                "foreach": None,
                "params": [0],
            },
            {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-08, "weight_decay": 0, "amsgrad": False, "foreach": None, "params": [1]},
        ],
    }


def equal(a: Any, b: Any) -> bool:
    """Deep, with types; arrays bit for bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return type(a) is type(b) and (a == b or a != a and b != b)


@pytest.fixture
def model(client) -> str:
    client.models.push({"layer.weight": random_tensor(0, 30, 20), "layer.bias": np.zeros(20, "f4"), "steps": np.array(0)}, "m:1")
    return "m:1"


def test_a_version_that_is_pushed_during_a_run(client, db, model) -> None:
    """"m" meant m:1 when the run began."""
    with client.training("m", "run") as run:
        client.models.push({"other": np.ones(2)}, "m:2")
        first = run.checkpoint(1, weights(1), adamw(1))
        assert run.latest() == first == client.training("m:1").latest() and run.restore().step == 1
    stored = db.execute("SELECT DISTINCT model_id FROM store.model_checkpoints").fetchall()
    assert stored == [(client.models.find("m:1"),)]


def runs(db) -> list[tuple]:
    return db.execute("SELECT session_name, status, error FROM store.training_sessions ORDER BY created_at").fetchall()


def test_a_run(client, db, model) -> None:
    with client.training(model, "first", config={"lr": 0.1, "layers": (1, 2), "inf": math.inf}, total_steps=5) as run:
        assert not run.resumed and run.restore() is None
        for step in range(1, 6):
            run.log(step, {"loss/train": 1 / step}, lr=np.float32(0.5), epoch=step / 5)
        run.log(6, loss=math.nan, big=math.inf, count=np.int64(3), flag=True)
        assert runs(db) == [("first", "running", None)]
        first = run.checkpoint(
            5, weights(5), adamw(5), epoch=1.0, metrics={"loss": 0.2}, rng_state=b"seed", metadata={"note": "x"}
        )
        assert run.latest() == first
    assert runs(db) == [("first", "completed", None)]
    assert db.execute("SELECT config, total_steps FROM store.training_sessions").fetchone() == (
        {"lr": 0.1, "layers": [1, 2], "inf": "Infinity"},
        5,
    )
    logged = db.execute("SELECT step, metric_name, value, epoch FROM store.training_metrics ORDER BY 1, 2").fetchall()
    expected = [(step, *rest) for step in range(1, 6) for rest in (("loss/train", 1 / step, step / 5), ("lr", 0.5, step / 5))]
    assert logged[:10] == expected
    assert [(m, v) for _, m, v, _ in logged[10:] if v == v] == [("big", math.inf), ("count", 3), ("flag", 1)] and len(
        logged
    ) == 14
    assert problems(db) == []


def test_state_dicts_come_back(client, db, model) -> None:
    with client.training(model, "r") as run:
        run.checkpoint(1, weights(1), adamw(1), epoch=0.5, metrics={"loss": 3}, rng_state=b"seed", metadata={"note": "x"})
        second = run.checkpoint(2, weights(2), adamw(2))
    assert db.execute(
        "SELECT parameter_name, state_name FROM store.optimizer_state WHERE checkpoint_id = %s ORDER BY 1, 2", (second,)
    ).fetchall() == [(n, s) for n in "01" for s in ("exp_avg", "exp_avg_sq", "step")]
    assert db.execute("SELECT param_groups -> 0 ->> 'lr' FROM store.model_checkpoints").fetchone() == (repr(0.1 + 0.2),)
    with client.training(model, "r") as run:
        assert run.resumed
        state = run.restore()
        assert (state.checkpoint_id, state.step, state.epoch, state.rng_state, state.metadata) == (second, 2, None, None, None)
        assert equal(dict(sorted(weights(2).items())), dict(sorted(state.model_state.items())))
        assert equal(
            {k: dict(sorted(v.items())) for k, v in adamw(2)["state"].items()},
            {k: dict(sorted(v.items())) for k, v in state.optimizer_state["state"].items()},
        )
        assert equal(adamw(2)["param_groups"], sorted_like(adamw(2)["param_groups"], state.optimizer_state["param_groups"]))
        state.model_state["layer.bias"] += 1  # memory of its own
        one = run.restore("m:1#1")
        assert (one.step, one.epoch, one.rng_state, one.metrics, one.metadata) == (1, 0.5, b"seed", {"loss": 3}, {"note": "x"})
    assert np.array_equal(client.tensors.get_checkpoint("m:1#latest", "layer.bias"), weights(2)["layer.bias"])
    assert np.array_equal(client.tensors.get_checkpoint(second, "layer.bias"), weights(2)["layer.bias"])


def sorted_like(expected: list[dict], got: list[dict]) -> list[dict]:
    """jsonb does not keep the order of keys."""
    return [{key: b[key] for key in a} | {key: b[key] for key in b.keys() - a.keys()} for a, b in zip(expected, got)]


def test_unusual_optimizers(client, model) -> None:
    states = {
        "scalars": {
            "state": {0: {"step": 7, "momentum_buffer": None, "ratio": math.inf}},
            "param_groups": [{"lr": 1.0, "params": [0]}],
        },
        "names": {
            "state": {"layer.weight": {"exp_avg": np.ones(3)}, "3": {"exp_avg": np.zeros(2)}},
            "param_groups": [{"params": ["layer.weight", "3"]}],
        },
        "many": {"state": {n: {"s": np.array(float(n))} for n in range(12)}, "param_groups": [{"params": list(range(12))}]},
        "nothing yet": {"state": {}, "param_groups": [{"lr": 0.5, "betas": (0.9, math.nan), "params": [0]}]},
        "more": {"state": {}, "param_groups": [], "extra": {"a": 1}},
    }
    with client.training(model) as run:
        for step, (name, state) in enumerate(states.items()):
            run.checkpoint(step, weights(step), state)
            got = run.restore().optimizer_state
            got["param_groups"] = sorted_like(state["param_groups"], got["param_groups"])
            got["state"] = {key: {name: got["state"][key].pop(name) for name in values} | got["state"][key] for key, values in state["state"].items()}
            assert equal(state, got), name
        run.checkpoint(99, weights(99))
        assert run.restore().optimizer_state is None
        assert list(run.restore("m:1#2").optimizer_state["state"]) == list(range(12)), (
            "numbered parameters are not in their order"
        )
    with pytest.raises(ValueError, match="full stop"):
        training.flatten_optimizer({"state": {0: {"a.b": np.ones(1)}}, "param_groups": []})


def test_large_checkpoints_are_uploaded(client, db, model, monkeypatch) -> None:
    monkeypatch.setattr(training, "SMALL", 0)
    with client.training(model, "r") as run:
        for step in (1, 2):
            run.checkpoint(step, weights(step), adamw(step))
            assert equal(dict(sorted(weights(step).items())), dict(sorted(run.restore().model_state.items())))
        with pytest.raises(psycopg.errors.CheckViolation):
            run.checkpoint(3, weights(3) | {"layer.bias": np.full(20, np.nan, "f4")})
    assert db.execute(
        "SELECT (SELECT count(*) FROM store.uploads), (SELECT count(*) FROM store.model_checkpoints)"
    ).fetchone() == (0, 2)
    assert problems(db) == []


def test_exceptions_end_the_run_as_failed(client, db, model) -> None:
    with pytest.raises(ZeroDivisionError), client.training(model, "a") as run:
        run.log(1, loss=0.5)
        1 / 0
    with pytest.raises(KeyboardInterrupt), client.training(model, "b"):
        raise KeyboardInterrupt
    assert runs(db) == [("a", "failed", "ZeroDivisionError: division by zero"), ("b", "cancelled", "KeyboardInterrupt: ")]
    assert db.execute("SELECT count(*) FROM store.training_metrics").fetchone() == (1,), "metrics before the error are lost"
    with client.training(model, "a") as run:
        assert run.resumed and runs(db)[0][1:] == ("running", None)
    # An error of the training is the one that is raised, even if the run cannot be ended.
    with pytest.raises(ZeroDivisionError) as raised, client.training(model, "c") as run:
        db.execute("SELECT modelstore.delete_training(%s)", (run.session_id,))
        1 / 0
    assert not hasattr(raised.value, "add_note") or "could not be ended" in raised.value.__notes__[0]


def test_batches(client, db, model) -> None:
    count = "SELECT count(*) FROM store.training_metrics"
    with client.training(model, flush_every=3, flush_seconds=1e9) as run:
        for step in range(1, 6):
            run.log(step, loss=step)
        assert db.execute(count).fetchone() == (3,)
        run.flush()
        assert db.execute(count).fetchone() == (5,)
        run.log(6, loss=1)
    assert db.execute(count).fetchone() == (6,)
    with client.training(model, flush_every=1000, flush_seconds=0) as run:
        run.log(1, loss=1)
        assert db.execute(count).fetchone() == (7,)
        with pytest.raises(ValueError):
            run.log(2, loss="much")


def test_branches(client, db, model) -> None:
    with client.training(model, "trunk") as run:
        first = run.checkpoint(10, weights(1))
        run.checkpoint(20, weights(2))
    with client.training(model, "branch", resume_from=first) as run:
        assert run.restore().step == 10
        branched = run.checkpoint(11, weights(3))
    assert db.execute(
        "SELECT parent_checkpoint_id FROM store.model_checkpoints WHERE checkpoint_id = %s", (branched,)
    ).fetchone() == (first,)


def test_random_numbers() -> None:
    random.seed(1), np.random.seed(1), np.random.standard_normal()
    state = pg_modelstore.rng_state_now()
    json.loads(state)
    expected = [random.gauss(0, 1), random.random(), np.random.standard_normal(), np.random.random()]
    random.seed(2), np.random.seed(2)
    pg_modelstore.set_rng_state(state)
    assert [random.gauss(0, 1), random.random(), np.random.standard_normal(), np.random.random()] == expected


def test_torch(client, db) -> None:
    """A training that is interrupted and continued ends with the bits of one that is not."""
    torch = pytest.importorskip("torch")

    def make():
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 1)
        )
        return module, torch.optim.AdamW(module.parameters(), lr=1e-2, betas=(0.8, 0.99))

    def step(module, optimizer) -> float:
        optimizer.zero_grad()
        loss = module(torch.randn(32, 8)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    module, optimizer = make()
    client.models.push(module.state_dict(), "net:1")
    for _ in range(6):
        step(module, optimizer)
    expected = {name: value.clone() for name, value in module.state_dict().items()}

    module, optimizer = make()
    with pytest.raises(RuntimeError, match="out of memory"), client.training("net", "r") as run:
        for n in range(1, 4):
            run.log(n, loss=step(module, optimizer))
        run.checkpoint(3, module.state_dict(), optimizer.state_dict(), rng_state=True)
        step(module, optimizer)
        raise RuntimeError("out of memory")

    module, optimizer = make()
    with client.training("net", "r") as run:
        state = run.restore()
        module.load_state_dict(state.model_state)
        optimizer.load_state_dict(state.optimizer_state)
        pg_modelstore.set_rng_state(state.rng_state)
        assert optimizer.state_dict()["param_groups"][0]["betas"] == (0.8, 0.99)
        for n in range(state.step + 1, 7):
            run.log(n, loss=step(module, optimizer))
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
    assert {type(t) for t in run.restore("net#3", framework="numpy").model_state.values()} == {np.ndarray}
