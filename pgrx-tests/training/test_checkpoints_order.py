"""Selection of the newest and the best checkpoint, pruning, and notifications."""

from __future__ import annotations

import json

import psycopg
import pytest
from checkpoints import best, checkpoint, chunk_bytes, exported, latest, needed_chunk_bytes, parents, register, start
from harness import wait_until
from models import random_tensor, safetensors_bytes
from observe import aside, is_blocked, problems, row_counts
from transfer import refusal

pytestmark = pytest.mark.any_server


def weights(seed: int) -> bytes:
    return safetensors_bytes({"w": random_tensor(seed, 8, 8)})


@pytest.fixture
def model(db):
    return register(db)


def test_two_in_one_transaction(db, model) -> None:
    """now() is the same for all; the one made last is the newest."""
    with db.transaction():
        made = [checkpoint(db, model, weights(i), step=5).checkpoint_id for i in range(5)]
        assert latest(db, model) == made[-1]
    assert latest(db, model) == made[-1]
    parents = db.execute("SELECT checkpoint_id, parent_checkpoint_id FROM store.model_checkpoints ORDER BY sequence").fetchall()
    assert parents == list(zip(made, [None, *made[:-1]], strict=True))


CREATE = "SELECT checkpoint_id FROM modelstore.create_checkpoint(%s, 5, %b::bytea)"
SEQUENCES = "SELECT checkpoint_id, sequence FROM store.model_checkpoints ORDER BY sequence"


def test_two_sessions_at_once(db, connect, model) -> None:
    """They take turns: the one that commits last is the newest."""
    first, second = connect(), connect()
    first.execute("BEGIN")
    made = [first.execute(CREATE, (model, weights(i))).fetchone()[0] for i in range(2)]
    waiting = aside(second, CREATE, (model, weights(3)))
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the second session waits", 10)
    # Another model does not.
    checkpoint(db, register(db, "other"), weights(4), 5)
    first.execute("COMMIT")
    assert waiting.join().error is None
    made.append(waiting.rows[0][0])
    assert latest(db, model) == made[-1]
    mine = SEQUENCES.replace("ORDER", "WHERE model_id = %s ORDER")
    assert db.execute(mine, (model,)).fetchall() == [(id, i) for i, id in enumerate(made, 1)]
    (identity,) = db.execute("SELECT count(*) FROM pg_attribute WHERE attrelid = 'store.model_checkpoints'::regclass AND attidentity <> ''").fetchone()
    assert identity == 0


def test_an_older_snapshot_gives_no_number_twice(db, connect, model) -> None:
    session = connect()
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    session.execute("SELECT count(*) FROM store.model_checkpoints")
    made = checkpoint(db, model, weights(1), 5).checkpoint_id
    assert refusal(session, CREATE, model, weights(2)).sqlstate == "40001"
    session.execute("ROLLBACK")
    again = session.execute(CREATE, (model, weights(2))).fetchone()[0]
    assert db.execute(SEQUENCES).fetchall() == [(made, 1), (again, 2)]


def test_a_clock_that_goes_backwards_changes_nothing(db, model) -> None:
    made = [checkpoint(db, model, weights(i), step=3).checkpoint_id for i in range(3)]
    db.execute("UPDATE store.model_checkpoints SET created_at = '2000-01-01' WHERE checkpoint_id = %s", (made[2],))
    db.execute("UPDATE store.model_checkpoints SET created_at = '2100-01-01' WHERE checkpoint_id = %s", (made[0],))
    assert latest(db, model) == made[2]
    # Equal figures: the newer one, by the same order.
    db.execute("""UPDATE store.model_checkpoints SET metrics = '{"loss": 1}'""")
    assert best(db, model) == made[2]
    kept = db.execute("SELECT checkpoint_id, kept FROM modelstore.prune_checkpoints(%s, 1, keep_best => 1, dry_run => false)", (model,)).fetchall()
    assert [id for id, is_kept in kept if is_kept] == [made[2]]


def test_steps_that_repeat_in_another_run(db, model) -> None:
    first, second = start(db, model, "a"), start(db, model, "b")
    a10 = checkpoint(db, model, weights(1), 10, first).checkpoint_id
    a20 = checkpoint(db, model, weights(2), 20, first).checkpoint_id
    b10 = checkpoint(db, model, weights(3), 10, second).checkpoint_id
    assert latest(db, model) == a20
    b20 = checkpoint(db, model, weights(4), 20, second).checkpoint_id
    assert latest(db, model) == b20
    # The parent is the one before in the same run; the first of a run continues none unless it was resumed from one.
    assert parents(db) == {a10: None, a20: a10, b10: None, b20: b10}


@pytest.mark.parametrize(
    ("made", "newest"),
    [
        ([(1, None), (1, 0.5)], 1),
        ([(1, 0.5), (1, None)], 0),
        ([(1, 2.0), (1, 1.5)], 0),
        ([(1, None), (1, None)], 1),
        ([(2, None), (1, 9.0)], 0),
        ([(1, 0.0), (1, 0.0), (0, 3.0)], 1),
    ],
)
def test_step_comes_before_epoch_and_epoch_before_order(made: list, newest: int, db, model) -> None:
    ids = [checkpoint(db, model, weights(i), step, epoch=epoch).checkpoint_id for i, (step, epoch) in enumerate(made)]
    assert latest(db, model) == ids[newest]


def test_models_are_apart(db, model) -> None:
    other = register(db, "other")
    checkpoint(db, other, weights(1), 100, metrics={"loss": 0.0})
    assert latest(db, model) is None
    assert best(db, model) is None
    mine = checkpoint(db, model, weights(1), 1, metrics={"loss": 9.0}).checkpoint_id
    assert latest(db, model) == best(db, model) == mine


def test_unknown_models(db) -> None:
    for function in ("get_latest_checkpoint", "get_best_checkpoint", "prune_checkpoints"):
        assert refusal(db, f"SELECT modelstore.{function}(gen_random_uuid())").sqlstate == "42704", function


def test_the_best(db, model) -> None:
    figures = [{"loss": 3, "acc": 0.5, "done": False}, {"loss": "NaN"}, {"loss": 1.5}, {"acc": 0.7, "done": True}, None]
    ids = []
    for i, metrics in enumerate(figures):
        ids.append(checkpoint(db, model, weights(i), i, **({"metrics": metrics} if metrics else {})).checkpoint_id)
    assert best(db, model) == ids[2]
    assert best(db, model, "loss", "max") == ids[0]
    assert best(db, model, "acc", "max") == ids[3]
    assert best(db, model, "acc") == ids[0]
    assert best(db, model, "perplexity") is None
    # true and false are 1 and 0, as in log_metrics.
    assert best(db, model, "done", "max") == ids[3]
    assert best(db, model, "done") == ids[0]
    low = checkpoint(db, model, weights(7), 7, metrics={"loss": "-Infinity"}).checkpoint_id
    high = checkpoint(db, model, weights(8), 8, metrics={"loss": "Infinity"}).checkpoint_id
    checkpoint(db, model, weights(9), 9, metrics={"loss": "nan"})
    assert best(db, model) == low
    assert best(db, model, "loss", "max") == high
    assert refusal(db, "SELECT modelstore.get_best_checkpoint(%s, 'loss', 'median')", model).sqlstate == "22023"


def test_nan_alone_is_no_best(db, model) -> None:
    checkpoint(db, model, weights(1), 1, metrics={"loss": "NaN"})
    assert best(db, model) is None
    assert best(db, model, "loss", "max") is None


def test_what_prune_keeps(db, model) -> None:
    ids = [checkpoint(db, model, weights(i), 10 * i, metrics={"loss": abs(i - 4)}).checkpoint_id for i in range(10)]
    db.execute("UPDATE store.model_checkpoints SET pinned = true WHERE checkpoint_id = %s", (ids[1],))
    query = "SELECT checkpoint_id, kept, reasons FROM modelstore.prune_checkpoints(%s, 2, 30, 2, {})"
    dry = db.execute(query.format("true"), (model,)).fetchall()
    assert db.execute("SELECT count(*) FROM store.model_checkpoints").fetchone() == (10,)
    wet = db.execute(query.format("false"), (model,)).fetchall()
    assert dry == wet
    reasons = {ids.index(id): why for id, kept, why in wet if kept}
    assert reasons == {0: ["every"], 1: ["pinned"], 3: ["every"], 4: ["best"], 5: ["best"], 6: ["every"], 8: ["last"], 9: ["last", "every"]}
    left = {id for (id,) in db.execute("SELECT checkpoint_id FROM store.model_checkpoints")}
    assert left == {ids[i] for i in reasons}
    for bad in ("keep_last => -1", "keep_every => 0", "keep_best => -1", "mode => 'odd'"):
        assert refusal(db, f"SELECT modelstore.prune_checkpoints(%s, {bad}, dry_run => false)", model).sqlstate == "22023", bad
    # NULL keeps none by that rule.
    db.execute("SELECT modelstore.prune_checkpoints(%s, NULL, NULL, NULL, dry_run => false)", (model,))
    assert db.execute("SELECT checkpoint_id FROM store.model_checkpoints").fetchall() == [(ids[1],)]


def test_a_deleted_model_takes_its_training_along(db, model) -> None:
    run = start(db, model, "a", total_steps=10)
    db.execute("""SELECT modelstore.log_metrics(%s, 1, '{"loss": 1}')""", (run,))
    for step in range(3):
        moments = safetensors_bytes({"w.exp_avg": random_tensor(50 + step, 8, 8)})
        checkpoint(db, model, weights(step), step, run, optimizer=moments)
    db.execute("SELECT modelstore.delete_model(%s, true)", (model,))
    assert set(row_counts(db)) == {"tensor_metadata", "tensor_data", "tensor_chunks"}
    db.execute("SELECT modelstore.gc()")
    assert row_counts(db) == {}
    assert problems(db) == []


def test_a_deleted_run_leaves_its_checkpoints(db, model) -> None:
    run = start(db, model, "a")
    made = checkpoint(db, model, weights(1), 1, run).checkpoint_id
    db.execute("DELETE FROM store.training_sessions WHERE session_id = %s", (run,))
    assert db.execute("SELECT checkpoint_id, session_id, model_id FROM store.model_checkpoints").fetchone() == (made, None, model)
    assert exported(db, made) == weights(1)


def test_two_stores_are_apart(db, model) -> None:
    mine = checkpoint(db, model, weights(1), 1).checkpoint_id
    db.execute("SELECT modelstore.create_store('other')")
    db.execute("SET modelstore.store = 'other'")
    assert refusal(db, "SELECT modelstore.get_latest_checkpoint(%s)", model).sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.export_checkpoint(%s)", mine).sqlstate == "42704"
    there = register(db)
    theirs = checkpoint(db, there, weights(2), 1, start(db, there)).checkpoint_id
    assert exported(db, theirs) == weights(2)
    assert db.execute("SELECT count(*) FROM store.model_checkpoints").fetchone() == (1,)
    db.execute("SELECT modelstore.drop_store('other', true)")
    db.execute("SET modelstore.store = 'store'")
    assert exported(db, mine) == weights(1)
    assert chunk_bytes(db) == needed_chunk_bytes(db)
    assert problems(db) == []


def test_who_listens_hears_of_what_was_committed(db, connect, model) -> None:
    listener = connect()
    listener.execute("LISTEN modelstore_checkpoint")
    made = checkpoint(db, model, weights(1), 7).checkpoint_id
    (message,) = listener.notifies(timeout=5, stop_after=1)
    assert message.channel == "modelstore_checkpoint"
    assert json.loads(message.payload) == {"store": "store", "model_id": str(model), "checkpoint_id": str(made), "step": 7}
    db.execute("SET modelstore.notify = off")
    checkpoint(db, model, weights(7), 7)
    db.execute("SET modelstore.notify = on")
    with db.transaction(force_rollback=True):
        checkpoint(db, model, weights(2), 8)
    with pytest.raises(psycopg.errors.CheckViolation):
        checkpoint(db, model, safetensors_bytes({"other": random_tensor(1, 2)}), 9)
    other = connect()
    with db.transaction():
        last = checkpoint(db, model, weights(3), 10).checkpoint_id
        other.execute("NOTIFY modelstore_checkpoint, 'before'")
    other.execute("NOTIFY modelstore_checkpoint, 'after'")
    # In the order of commits: what came between the two came from the last checkpoint.
    before, message, after = (m.payload for m in listener.notifies(timeout=10, stop_after=3))
    assert (before, json.loads(message)["checkpoint_id"], after) == ("before", str(last), "after")
