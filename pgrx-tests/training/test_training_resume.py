"""A user's resume script, killed at random points: two runs of one model and a branch continue from their own states, bit for
bit, and pruning one leaves the others intact."""

from __future__ import annotations

import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psycopg
import pytest
from checkpoints import checkpoint_problems, exported, latest, parents, register, tensors_of_file
from harness import wait_until
from observe import problems

STEPS, EVERY, BRANCH = 48, 4, 20

# What a user writes: no tables are read, all by functions.
SCRIPT = r'''
import json, struct, sys
import numpy as np, psycopg
from psycopg.types.json import Jsonb

dsn, model_name, run_name, seed, lr, steps, every, prune, base = sys.argv[1:]
seed, lr, steps, every, prune = int(seed), np.float32(lr), int(steps), int(every), prune == "prune"

def to_safetensors(arrays):
    header, body = {}, b""
    for name, a in arrays.items():
        header[name] = {"dtype": "F32", "shape": a.shape, "data_offsets": [len(body), len(body) + a.nbytes]}
        body += a.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body

def from_safetensors(data):
    length, = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8:8 + length]), data[8 + length:]
    return {n: np.frombuffer(body[slice(*t["data_offsets"])], "float32").reshape(t["shape"]).copy() for n, t in header.items()}

def fresh():
    rng = np.random.default_rng(seed)
    weights = {"a.weight": rng.standard_normal((40, 30), "float32"), "a.bias": np.zeros(40, "float32")}
    return weights, {f"{n}.{s}": np.zeros_like(a) for n, a in weights.items() for s in ("exp_avg", "exp_avg_sq")}, rng

def train(weights, moments, rng, lr):
    for n, w in weights.items():
        g = rng.standard_normal(w.shape, "float32") + np.float32(0.1) * w
        m, v = moments[f"{n}.exp_avg"], moments[f"{n}.exp_avg_sq"]
        m += np.float32(0.1) * (g - m)
        v += np.float32(0.001) * (g * g - v)
        w -= lr * m / (np.sqrt(v) + np.float32(1e-8))
    return float(sum((w.astype("float64") ** 2).sum() for w in weights.values()))

if dsn != "import":
    db = psycopg.connect(dsn, autocommit=True)
    model, = db.execute("SELECT modelstore.find_model(%s)", (model_name,)).fetchone()
    run, = db.execute("SELECT modelstore.find_or_start_training(%s, %s, total_steps => %s, resume_from => %s)",
                      (model, run_name, steps, base or None)).fetchone()
    db.execute("SELECT modelstore.reopen_training(%s)", (run,))
    last, = db.execute("SELECT modelstore.get_latest_checkpoint(%s, %s)", (model, run)).fetchone()
    weights, moments, rng = fresh()
    step = 0
    if last:
        step, state = db.execute("SELECT step, rng_state FROM modelstore.checkpoint_state(%s)", (last,)).fetchone()
        rng.bit_generator.state = json.loads(state)
        load = lambda file: from_safetensors(b"".join(p for p, in db.execute("SELECT modelstore.export_checkpoint(%s, %s)", (last, file))))
        weights, moments = load("model.safetensors"), load("optimizer.safetensors")
    print(step, flush=True)
    while step < steps:
        loss = train(weights, moments, rng, lr)
        step += 1
        db.execute("SELECT modelstore.log_metrics(%s, %s, %s)", (run, step, Jsonb({"loss": loss})))
        print(step, flush=True)
        if step % every == 0:
            db.execute("SELECT modelstore.create_checkpoint(%s, session_id => %s, step => %s, weights => %b::bytea, optimizer => %b::bytea, metrics => %s, rng_state => %b::bytea)",
                       (model, run, step, to_safetensors(weights), to_safetensors(moments), Jsonb({"loss": loss}),
                        json.dumps(rng.bit_generator.state).encode()))
            if prune:
                db.execute("SELECT modelstore.prune_checkpoints(%s, 2, session_id => %s, dry_run => false)", (model, run))
    db.execute("SELECT modelstore.finish_training(%s)", (run,))
'''


def reference(plan: list[tuple[float, int]], seed: int) -> tuple[dict, dict, list[float]]:
    """The same without a store and without an interruption: at each learning rate so many steps."""
    scope = {"__name__": "reference"}
    arguments, sys.argv = sys.argv, ["", "import", "", "", str(seed), "0", "0", "1", "", ""]
    try:
        exec(compile(SCRIPT, "train.py", "exec"), scope)
    finally:
        sys.argv = arguments
    weights, moments, rng = scope["fresh"]()
    losses = [scope["train"](weights, moments, rng, np.float32(lr)) for lr, steps in plan for _ in range(steps)]
    return weights, moments, losses


class Run:
    """A training process, begun again whenever it was killed."""

    def __init__(self, dsn: str, script: pathlib.Path, name: str, seed: int, lr: float, prune: bool = False, base: object = "") -> None:
        self.name, self.seed, self.killed, self.starts = name, seed, 0, []
        values = ("net", name, seed, lr, STEPS, EVERY, "prune" if prune else "keep", base)
        self.command = [sys.executable, str(script), dsn, *map(str, values)]
        self.errors: list[str] = []

    def to_the_end(self, kills: int) -> None:
        generator = random.Random(self.seed)
        while True:
            process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            line = process.stdout.readline()
            self.starts.append(int(line) if line.strip() else None)
            if self.killed < kills:
                # After some of the steps that are left, somewhere in the next.
                for _ in range(generator.randint(0, (STEPS - (self.starts[-1] or 0)) // 3)):
                    process.stdout.readline()
                time.sleep(generator.uniform(0, 0.02))
                os.kill(process.pid, signal.SIGKILL)
            _, error = process.communicate(timeout=600)
            if process.returncode == -signal.SIGKILL:
                self.killed += 1
                continue
            if process.returncode != 0:
                self.errors.append(error)
            return


@pytest.fixture
def script(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def state_of(db: psycopg.Connection, id: object) -> list[str]:
    return [hashlib.sha256(exported(db, id, file)).hexdigest() for file in ("model.safetensors", "optimizer.safetensors")]


def all_at_once(*runs: Run, kills: int) -> None:
    threads = [threading.Thread(target=run.to_the_end, args=(kills,), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
        assert not thread.is_alive(), "a run hangs"
    for run in runs:
        assert run.errors == [], run.errors
        # Each begins with its own state, and never further back than it has been.
        assert run.starts == sorted(run.starts), run.starts
    print({run.name: (run.killed, run.starts) for run in runs})


def check(db: psycopg.Connection, model: object, session: object, plan: list[tuple[float, int]], seed: int) -> None:
    weights, moments, losses = reference(plan, seed)
    newest = latest(db, model, session)
    for file, expected in (("model.safetensors", weights), ("optimizer.safetensors", moments)):
        found = tensors_of_file(exported(db, newest, file))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].tobytes() == array.tobytes(), (file, name)
    # Metrics too: of a step that was taken again the later record counts, and it is the same.
    rows = db.execute("SELECT DISTINCT step, value FROM store.training_metrics WHERE session_id = %s ORDER BY step", (session,)).fetchall()
    first = len(losses) - len(rows)
    assert rows == [(step, loss) for step, loss in enumerate(losses, 1) if step > first]
    progress = "SELECT status, step, newest_loss, best_loss, last_checkpoint_id FROM store.v_training_progress WHERE session_id = %s"
    assert db.execute(progress, (session,)).fetchone() == ("completed", STEPS, losses[-1], min(losses[first:]), newest)


def no_other_sessions(db: psycopg.Connection) -> None:
    """A backend finishes its statement after its client was killed."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    wait_until(lambda: db.execute(query).fetchone() == (1,), "the backends of killed clients are gone")


def test_two_runs_and_a_branch_killed_at_random_points(server, dbname, db, script) -> None:
    model = register(db, "net")
    dsn = f"host={server.socket} port={server.port} user=postgres dbname={dbname}"
    a, b = Run(dsn, script, "a", 1, 0.01), Run(dsn, script, "b", 2, 0.02, prune=True)
    all_at_once(a, b, kills=3)
    assert (a.killed, b.killed) == (3, 3)
    sessions = dict(db.execute("SELECT session_name, session_id FROM store.training_sessions").fetchall())
    assert sessions.keys() == {"a", "b"}
    check(db, model, sessions["a"], [(0.01, STEPS)], 1)
    check(db, model, sessions["b"], [(0.02, STEPS)], 2)

    # A branch from the middle of a, at another learning rate
    of_run = "SELECT step, checkpoint_id FROM store.model_checkpoints WHERE session_id = %s ORDER BY sequence"
    base = dict(db.execute(of_run, (sessions["a"],)).fetchall())[BRANCH]
    c = Run(dsn, script, "c", 3, 0.005, base=base)
    all_at_once(c, kills=2)
    assert c.starts[0] == BRANCH
    (session,) = db.execute("SELECT modelstore.find_or_start_training(%s, 'c')", (model,)).fetchone()
    sessions["c"] = session
    check(db, model, session, [(0.01, BRANCH), (0.005, STEPS - BRANCH)], 1)
    first = db.execute(of_run, (session,)).fetchall()[0][1]
    assert parents(db)[first] == base

    # Pruning one leaves the others whole
    no_other_sessions(db)
    of_all = {name: dict(db.execute(of_run, (id,)).fetchall()) for name, id in sessions.items()}
    states = {id: state_of(db, id) for of_one in of_all.values() for id in of_one.values()}
    for name, session in sessions.items():
        prune = "SELECT checkpoint_id, kept FROM modelstore.prune_checkpoints(%s, 1, keep_best => 0, session_id => %s, dry_run => false)"
        kept = {id for id, is_kept in db.execute(prune, (model, session)).fetchall() if is_kept}
        assert kept == {of_all[name][STEPS]} | ({base} if name == "a" else set())
        of_all[name] = {step: id for step, id in of_all[name].items() if id in kept}
        left = {id for of_one in of_all.values() for id in of_one.values()}
        db.execute("SELECT modelstore.gc()")
        assert set(parents(db)) >= left
        for id in left:
            assert state_of(db, id) == states[id]
            assert checkpoint_problems(db, id) == []
    assert problems(db) == []
