"""Runs and checkpoints dump and restore, and a standby can read them."""

from __future__ import annotations

import hashlib

import psycopg
import pytest
from checkpoints import best, checkpoint, checkpoint_problems, exported, latest, register, start
from harness import Server
from models import random_tensor, safetensors_bytes
from observe import problems
from psycopg.types.json import Jsonb

pytestmark = pytest.mark.versioned


def weights(seed: int) -> bytes:
    first = random_tensor(1, 300, 512)
    first[seed] += 1
    return safetensors_bytes({"w": first, "v": random_tensor(2, 40)})


@pytest.fixture
def trained(db):
    """A model, a run with metrics, three checkpoints; the last two of one step."""
    model = register(db)
    run = start(db, model, "run")
    db.execute("SELECT modelstore.log_metrics(%s, 1, %s)", (run, Jsonb({"loss": "NaN", "lr": 0.1})))
    made = []
    for seed, step in enumerate((1, 2, 2)):
        moments = safetensors_bytes({"w.exp_avg": random_tensor(10 + seed, 300, 512)})
        made.append(checkpoint(db, model, weights(seed), step, run, optimizer=moments, metrics={"loss": 3 - seed}).checkpoint_id)
    return model, run, made


@pytest.mark.parametrize("form", ["plain", "custom"])
def test_dump_and_restore(form: str, server: Server, dbname: str, db, trained, new_database, connect, tmp_path) -> None:
    model, run, made = trained
    target, dump = new_database(), tmp_path / "dump"
    done = server.run("pg_dump", f"--format={form}", "--file", str(dump), dbname=dbname)
    assert done.returncode == 0, done.stderr
    if form == "plain":
        done = server.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump), dbname=target)
    else:
        done = server.run("pg_restore", "--exit-on-error", "--jobs=2", "-d", target, str(dump), dbname=target)
    assert done.returncode == 0, done.stderr
    there = connect(dbname=target)
    assert latest(there, model) == best(there, model) == made[-1]
    for seed, id in enumerate(made):
        assert exported(there, id) == weights(seed)
        assert checkpoint_problems(there, id) == []
    metrics = "SELECT session_id, step, metric_name, value::text FROM store.training_metrics ORDER BY 3"
    assert there.execute(metrics).fetchall() == db.execute(metrics).fetchall() != []
    # The numbers that order checkpoints go on from where they were.
    next_one = checkpoint(there, model, weights(9), 2, run).checkpoint_id
    assert latest(there, model) == next_one
    assert problems(there) == []


@pytest.mark.slow
def test_a_hot_standby_reads(server: Server, dbname: str, trained) -> None:
    model, run, made = trained
    reads = {
        "get_latest_checkpoint(%s)": (model,),
        "get_best_checkpoint(%s, 'loss', 'max')": (model,),
        "checkpoint_weights_at(%s)": (made[0],),
        "diff_checkpoints(%s, %s)": (made[0], made[1]),
        "verify_checkpoint(%s)": (made[2],),
        "get_optimizer_state(%s, 'w', 'exp_avg')": (made[2],),
        "prune_checkpoints(%s, dry_run => true)": (model,),
        "metric_plot(%s::uuid, 'lr')": (run,),
    }
    writes = {
        "log_metrics(%s, 1, '{\"loss\": 1}')": (run,),
        "create_checkpoint(%s, 3, %b::bytea)": (model, weights(4)),
        "restore_checkpoint(%s, NULL, 'x')": (made[0],),
        "prune_checkpoints(%s, 0, keep_best => 0, dry_run => false)": (model,),
        "start_training(%s)": (model,),
        "finish_training(%s)": (run,),
        "delete_metrics(%s)": (run,),
    }
    with server.standby() as standby:
        server.catch_up(standby)
        with server.connect(dbname, autocommit=True) as here, standby.connect(dbname, autocommit=True) as there:
            for function, arguments in reads.items():
                query = f"SELECT * FROM modelstore.{function}"
                assert there.execute(query, arguments).fetchall() == here.execute(query, arguments).fetchall(), function
            assert hashlib.sha256(exported(there, made[1])).digest() == hashlib.sha256(weights(1)).digest()
            for function, arguments in writes.items():
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    there.execute(f"SELECT * FROM modelstore.{function}", arguments)
