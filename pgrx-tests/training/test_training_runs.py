"""Several runs of one model: starting, finding, reopening and deleting them; the newest, the best and the base of each."""

from __future__ import annotations

import os

import psycopg
import pytest
from checkpoints import best, checkpoint, exported, latest, parents, register, start
from harness import FAST, Server, wait_until
from models import random_tensor, safetensors_bytes
from observe import aside, is_blocked, problems, row_counts
from psycopg.types.json import Jsonb
from transfer import refusal

FIND = "SELECT modelstore.find_or_start_training(%s, %s)"
DELETE_CHECKPOINT = "SELECT * FROM modelstore.delete_checkpoint(%s)"
DELETE_TRAINING = "SELECT * FROM modelstore.delete_training(%s)"


def weights(seed: int) -> bytes:
    return safetensors_bytes({"w": random_tensor(seed, 8, 8), "b": random_tensor(seed, 8)})


@pytest.fixture
def model(db):
    return register(db)


def make(db, model, session, *steps: int, **options: object) -> list:
    return [checkpoint(db, model, weights(step), step, session, metrics={"loss": 1 / (step + 1)}, **options).checkpoint_id for step in steps]


def runs(db) -> list[tuple]:
    return db.execute("SELECT session_id, session_name, status FROM store.training_sessions ORDER BY session_id").fetchall()


# Started and found


def test_a_run_is_found_again_by_its_name(db, model) -> None:
    find = "SELECT modelstore.find_or_start_training(%s, 'a', %s, 100, 'ppl', 'node', NULL)"
    (run,) = db.execute(find, (model, Jsonb({"lr": 1}))).fetchone()
    assert db.execute(find, (model, Jsonb({"lr": 2}))).fetchone() == (run,)
    row = db.execute("SELECT config, total_steps, loss_metric, host FROM store.training_sessions").fetchall()
    assert row == [({"lr": 1}, 100, "ppl", "node")]
    # A name is one of a model.
    other = register(db, "other")
    assert db.execute(FIND, (other, "a")).fetchone() != (run,)
    assert db.execute(FIND, (model, "b")).fetchone() != (run,)
    diag = refusal(db, "SELECT modelstore.start_training(%s, session_name => 'a')", model)
    assert (diag.sqlstate, diag.message_hint) == ("23505", f"SELECT modelstore.find_or_start_training('{model}', 'a');")
    assert db.execute(diag.message_hint).fetchone() == (run,)
    # Runs without a name are any number.
    assert start(db, model) != start(db, model)
    for arguments in [(None, "a"), (model, None)]:
        assert refusal(db, FIND, *arguments).sqlstate == "22004"
    assert refusal(db, "SELECT modelstore.find_or_start_training(gen_random_uuid(), 'a')").sqlstate == "42704"


def test_two_that_ask_at_once_get_one_run(db, connect, model) -> None:
    first, second = connect(), connect()
    first.execute("BEGIN")
    (run,) = first.execute(FIND, (model, "a")).fetchone()
    asking = aside(second, FIND, (model, "a"))
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the second session waits", 10)
    first.execute("COMMIT")
    assert asking.join().rows == [(run,)]
    assert len(runs(db)) == 1
    # One that sees an older state has to try again.
    second.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    second.execute("SELECT count(*) FROM store.training_sessions")
    db.execute(FIND, (model, "b"))
    assert refusal(second, FIND, model, "b").sqlstate == "40001"
    second.execute("ROLLBACK")
    assert len(runs(db)) == 2


def test_a_run_that_has_ended_takes_nothing_until_it_is_reopened(db, model) -> None:
    run = start(db, model, "a")
    (made,) = make(db, model, run, 1)
    db.execute("SELECT modelstore.finish_training(%s, 'failed', 'out of memory')", (run,))
    before = row_counts(db)
    writes = [
        ("SELECT modelstore.log_metrics(%s, 2, '{\"loss\": 1}')", ()),
        ("SELECT modelstore.log_metrics(%s, 2, '{}')", ()),
        ("SELECT modelstore.log_metric(%s, 'loss', ARRAY[1, 2], ARRAY[0.5, 1])", ()),
        ("SELECT modelstore.create_checkpoint(model_id, 2, %b::bytea, session_id => session_id) FROM store.training_sessions", None),
    ]
    for query, arguments in writes:
        diag = refusal(db, query, *((run,) if arguments is not None else (weights(2),)))
        assert diag.sqlstate == "55000", query
        assert diag.message_primary == f"training session {run} has ended"
        assert diag.message_detail == "Its status is failed. A training session that has ended accepts no metrics or checkpoints."
        assert diag.message_hint == f"SELECT modelstore.reopen_training('{run}');"
    assert row_counts(db) == before
    assert db.execute(diag.message_hint).fetchone() == (True,)
    assert db.execute("SELECT status, error, ended_at FROM store.training_sessions").fetchone() == ("running", None, None)
    # It runs already: nothing to do.
    assert db.execute(diag.message_hint).fetchone() == (False,)
    for query, arguments in writes:
        db.execute(query, (run,) if arguments is not None else (weights(2),))
    assert latest(db, model, run) != made
    assert refusal(db, "SELECT modelstore.reopen_training(gen_random_uuid())").sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.reopen_training(NULL)").sqlstate == "22004"


# Branches


def test_a_branch_from_another_runs_step_300(db, model) -> None:
    a = start(db, model, "a")
    made = dict(zip(range(100, 600, 100), make(db, model, a, *range(100, 600, 100)), strict=True))
    b = start(db, model, "b", resume_from=made[300])
    # Until it has its own, what it starts from.
    assert latest(db, model, b) == made[300]
    assert best(db, model, session=b) is None
    first, second = make(db, model, b, 310, 320)
    assert latest(db, model, b) == best(db, model, session=b) == second
    assert latest(db, model, a) == best(db, model, session=a) == latest(db, model) == best(db, model) == made[500]
    assert best(db, model, "loss", "max", session=b) == first
    assert parents(db) == {first: made[300], second: first, made[100]: None} | {made[s + 100]: made[s] for s in range(100, 500, 100)}
    # A run of no checkpoint and no base has none, whatever the others of the model have.
    assert latest(db, model, start(db, model, "c")) is None
    other = register(db, "other")
    for function in ("get_latest_checkpoint", "get_best_checkpoint", "prune_checkpoints"):
        query = f"SELECT modelstore.{function}(%s, session_id => %s)"
        assert refusal(db, query, other, a).sqlstate == "22023", function
        assert refusal(db, query, model, other).sqlstate == "42704", function
        assert refusal(db, query, None, a).sqlstate == "22004", function
    diag = refusal(db, "SELECT modelstore.start_training(%s, resume_from => %s)", model, a)
    assert (diag.sqlstate, diag.message_primary) == ("42704", f"checkpoint {a} does not exist")


def test_a_parent_that_is_named(db, model) -> None:
    one, two, three = make(db, model, None, 1, 2, 3)
    (branch,) = make(db, model, None, 2, parent_checkpoint=one)
    other = register(db, "other")
    (elsewhere,) = make(db, other, None, 2, parent_checkpoint=two)
    assert parents(db) == {one: None, two: one, three: two, branch: one, elsewhere: two}
    create = "SELECT modelstore.create_checkpoint(%s, 1, %b::bytea, parent_checkpoint => %s)"
    before = row_counts(db)
    assert refusal(db, create, model, weights(1), model).sqlstate == "42704"
    assert row_counts(db) == before
    # All ways to make one have the argument.
    tensors = "SELECT modelstore.create_checkpoint_tensors(%s, 4, ARRAY['w', 'b'], ARRAY[{}, '[1,2,3,4,5,6,7,8]'::modelstore.tensor], parent_checkpoint => %s)"
    value = "modelstore.get_tensor(r.m, 'w')"
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, 'r')", (one,)).fetchone()
    db.execute(tensors.format(value.replace("r.m", f"'{restored}'")), (model, two))
    db.execute("SELECT modelstore.create_checkpoint_large_object(%s, 5, lo_from_bytea(0, %b::bytea), parent_checkpoint => %s)", (model, weights(5), two))
    found = db.execute("SELECT step, parent_checkpoint_id FROM store.model_checkpoints WHERE step > 3 ORDER BY step").fetchall()
    assert found == [(4, two), (5, two)]
    assert problems(db) == []


def test_a_restored_version_goes_on_from_its_checkpoint(db, model) -> None:
    run = start(db, model, "a")
    made = make(db, model, run, 1, 2, 3)
    (version,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '1-2')", (made[1],)).fetchone()
    # What a resume script does after it.
    (found,) = db.execute("SELECT modelstore.find_model('model')").fetchone()
    assert found == version
    assert latest(db, version) == made[1]
    again = start(db, version, "a")
    assert latest(db, version, again) == made[1]
    # Nobody takes it away unseen.
    kept = db.execute("SELECT step, reasons FROM modelstore.prune_checkpoints(%s, 0, keep_best => 0, dry_run => false)", (model,)).fetchall()
    assert kept == [(1, []), (2, ["branch"]), (3, ["running"])]
    (own,) = make(db, version, again, 3)
    assert latest(db, version) == latest(db, version, again) == own
    assert parents(db)[own] == made[1]
    db.execute("SELECT modelstore.delete_checkpoint(%s, true)", (made[1],))
    assert db.execute("SELECT restored_checkpoint_id FROM store.models WHERE model_id = %s", (version,)).fetchone() == (None,)
    assert latest(db, version) == own
    assert problems(db) == []


def test_the_state_of_a_checkpoint(db, model) -> None:
    run = start(db, model, "a")
    (first,) = make(db, model, run, 1)
    moments = safetensors_bytes({"w.exp_avg": random_tensor(9, 8, 8)})
    groups, note = {"lr": 0.1, "betas": [0.9, 0.999]}, {"note": "x"}
    made = checkpoint(
        db, model, weights(2), 2, run, 0.5, moments, metrics={"loss": "NaN"}, rng_state=b"\0\xff", param_groups=groups, metadata=note
    ).checkpoint_id
    columns = """model_id, session_id, step, epoch, rng_state, param_groups, metrics, metadata, parent_checkpoint_id,
                 has_optimizer_state, pinned, created_at <= clock_timestamp()"""
    state = f"SELECT {columns} FROM modelstore.checkpoint_state(%s)"
    assert db.execute(state, (made,)).fetchall() == [
        (model, run, 2, 0.5, b"\0\xff", groups, {"loss": "NaN"}, note, first, True, False, True)
    ]
    bare = checkpoint(db, model, weights(3), 3).checkpoint_id
    assert db.execute(state, (bare,)).fetchall() == [(model, None, 3, None, None, None, None, None, None, False, False, True)]
    assert refusal(db, state, model).sqlstate == "42704"
    assert refusal(db, state, None).sqlstate == "22004"


# Pruned


def test_a_fast_run_does_not_prune_another(db, model) -> None:
    """The case of the issue: run A at step 10, B at 10 to 40."""
    a, b = start(db, model, "a"), start(db, model, "b")
    (a10,) = make(db, model, a, 10)
    made = make(db, model, b, 10, 20, 30, 40)
    loose = make(db, model, None, 1, 2)
    query = "SELECT checkpoint_id FROM modelstore.prune_checkpoints(%s, 3, keep_best => 0{}) WHERE NOT kept"
    assert db.execute(query.format(", session_id => %s, dry_run => true"), (model, b)).fetchall() == [(made[0],)]
    rows = db.execute("SELECT checkpoint_id, session_id, reasons FROM modelstore.prune_checkpoints(%s, 3, keep_best => 0, dry_run => false)", (model,)).fetchall()
    assert {id: (run, reasons) for id, run, reasons in rows} == {
        a10: (a, ["last", "running"]), loose[0]: (None, ["last"]), loose[1]: (None, ["last"]), made[0]: (b, []),
        made[1]: (b, ["last"]), made[2]: (b, ["last"]), made[3]: (b, ["last", "running"]),
    }  # fmt: skip
    assert latest(db, model, a) == a10
    # Of one run, none of another is even listed; and while a run runs, its newest stays whatever is asked.
    rows = db.execute("SELECT step, kept FROM modelstore.prune_checkpoints(%s, 0, keep_best => 0, session_id => %s, dry_run => false)", (model, b)).fetchall()
    assert rows == [(20, False), (30, False), (40, True)]
    db.execute("SELECT modelstore.finish_training(%s)", (b,))
    db.execute("SELECT modelstore.prune_checkpoints(%s, 0, keep_best => 0, session_id => %s, dry_run => false)", (model, b))
    assert set(parents(db)) == {a10, *loose}


def test_a_base_of_a_branch_stays(db, model) -> None:
    a = start(db, model, "a")
    one, two, three, four = make(db, model, a, 1, 2, 3, 4)
    b = start(db, model, "b", resume_from=two)
    prune = "SELECT step, reasons FROM modelstore.prune_checkpoints(%s, 0, keep_best => 0, session_id => %s, dry_run => false)"
    assert db.execute(prune, (model, a)).fetchall() == [(1, []), (2, ["branch"]), (3, []), (4, ["running"])]
    # What stays continues what is left.
    assert parents(db) == {two: None, four: two}
    first, second, third = make(db, model, b, 3, 4, 5)
    assert db.execute(prune, (model, b)).fetchall() == [(3, []), (4, []), (5, ["running"])]
    assert parents(db) == {two: None, four: two, third: two}
    # By the parent alone too: the run no longer says where it came from.
    db.execute("UPDATE store.training_sessions SET resumed_from_checkpoint_id = NULL")
    assert db.execute(prune, (model, a)).fetchall() == [(2, ["branch"]), (4, ["running"])]
    assert exported(db, third) == weights(5)
    assert not {one, three, first, second} & set(parents(db))


def test_pruning_waits_for_a_branch_that_begins(db, connect, model) -> None:
    a = start(db, model, "a")
    one, two = make(db, model, a, 1, 2)
    other = register(db, "other")
    beginner, pruner = connect(), connect()
    beginner.execute("BEGIN")
    start(beginner, other, "b", resume_from=one)
    pruning = aside(pruner, "SELECT step, reasons FROM modelstore.prune_checkpoints(%s, 0, keep_best => 0, dry_run => false)", (model,))
    wait_until(lambda: is_blocked(db, pruner.info.backend_pid), "pruning waits", 10)
    beginner.execute("COMMIT")
    assert pruning.join().rows == [(1, ["branch"]), (2, ["running"])]
    assert set(parents(db)) == {one, two}


# Deleted


def test_a_checkpoint_is_not_deleted_unseen(db, model) -> None:
    a = start(db, model, "a")
    one, two, three = make(db, model, a, 1, 2, 3)
    start(db, model, "b", resume_from=two)
    db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (two,))
    before = row_counts(db)
    diag = refusal(db, DELETE_CHECKPOINT, two)
    assert (diag.sqlstate, diag.message_primary) == ("2BP01", f"cannot delete checkpoint {two} because checkpoints, runs or models continue it")
    assert diag.message_detail == (
        "Checkpoints that continue it: 1; training sessions resumed from it: 1; models restored from it: 1."
    )
    assert diag.message_hint == f"SELECT * FROM modelstore.delete_checkpoint('{two}', cascade => true);"
    db.execute("UPDATE store.model_checkpoints SET pinned = true WHERE checkpoint_id = %s", (three,))
    assert refusal(db, DELETE_CHECKPOINT, three).message_primary == f"cannot delete checkpoint {three} because it is pinned"
    assert row_counts(db) == before
    assert db.execute(diag.message_hint).fetchall() == [(1, 2, 0)]
    assert parents(db) == {one: None, three: one}
    assert db.execute("SELECT count(*) FROM store.models").fetchone() == (2,)
    assert exported(db, three) == weights(3)
    db.execute("UPDATE store.model_checkpoints SET pinned = false")
    moments = safetensors_bytes({"w.exp_avg": random_tensor(9, 8, 8)})
    last = checkpoint(db, model, weights(4), 4, a, optimizer=moments).checkpoint_id
    assert db.execute(DELETE_CHECKPOINT, (last,)).fetchall() == [(2, 2, 1)]
    assert refusal(db, DELETE_CHECKPOINT, last).sqlstate == "42704"
    assert refusal(db, DELETE_CHECKPOINT, None).sqlstate == "22004"
    db.execute("SELECT modelstore.gc()")
    assert problems(db) == []


def test_a_run_is_not_deleted_unseen(db, model) -> None:
    a = start(db, model, "a")
    db.execute("SELECT modelstore.log_metric(%s, 'loss', ARRAY[1, 2], ARRAY[0.5, 1])", (a,))
    one, two, three = make(db, model, a, 1, 2, 3)
    db.execute("UPDATE store.model_checkpoints SET pinned = true WHERE checkpoint_id = %s", (three,))
    b = start(db, model, "b", resume_from=two)
    (branch,) = make(db, model, b, 3)
    before = row_counts(db)
    diag = refusal(db, DELETE_TRAINING, a)
    assert (diag.sqlstate, diag.message_primary) == ("2BP01", f"cannot delete training session {a} because it is not empty")
    assert diag.message_detail == "Checkpoints: 3 (1 pinned, 1 continued by other runs or models); metrics: 2."
    assert diag.message_hint == f"SELECT * FROM modelstore.delete_training('{a}', cascade => true);"
    assert row_counts(db) == before
    assert db.execute(diag.message_hint).fetchall() == [(3, 2, 0)]
    assert [name for _, name, _ in runs(db)] == ["b"]
    assert parents(db) == {branch: None}
    assert db.execute("SELECT count(*) FROM store.training_metrics").fetchone() == (0,)
    assert exported(db, branch) == weights(3)
    # One with nothing but a plan goes without being asked twice.
    empty = start(db, register(db, "planned", config={"num_hidden_layers": 2, "hidden_size": 4, "num_attention_heads": 2}), "c")
    db.execute("SELECT modelstore.set_gradient_checkpoints(%s)", (empty,))
    assert db.execute(DELETE_TRAINING, (empty,)).fetchall() == [(0, 0, 2)]
    assert refusal(db, DELETE_TRAINING, empty).sqlstate == "42704"
    assert refusal(db, DELETE_TRAINING, None).sqlstate == "22004"
    db.execute("SELECT modelstore.gc()")
    assert problems(db) == []


# In two phases


@pytest.fixture(scope="module")
def two_phase():
    server = Server(f"test-{os.getpid()}-prepared", FAST + "max_prepared_transactions = 5\n").start()
    try:
        yield server
        assert not server.crashes()
    finally:
        server.remove()


def test_a_checkpoint_in_a_prepared_transaction(two_phase) -> None:
    with two_phase.connect(autocommit=True) as db:
        db.execute("CREATE EXTENSION pg_modelstore")
        db.execute("SELECT modelstore.create_store()")
        model = register(db)
        run = start(db, model)
        db.execute("BEGIN")
        make(db, model, run, 1)
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            db.execute("PREPARE TRANSACTION 'a'")
        db.execute("SET modelstore.notify = off")
        db.execute("BEGIN")
        (made,) = make(db, model, run, 2)
        db.execute("PREPARE TRANSACTION 'b'")
        assert latest(db, model) is None
        db.execute("COMMIT PREPARED 'b'")
        assert latest(db, model) == made
        assert exported(db, made) == weights(2)
        assert problems(db) == []


def test_a_base_of_branches_without_runs_stays(db, model) -> None:
    """Checkpoints without a run are one group; where two of them continue the same one, that stays."""
    query = "SELECT checkpoint_id FROM modelstore.create_checkpoint(%s, %s, %b::bytea, parent_checkpoint => %s)"
    made = {}
    for name, step, parent in (("base", 1, None), ("a", 2, "base"), ("b", 3, "base"), ("c", 4, "b")):
        (made[name],) = db.execute(query, (model, step, weights(step), made.get(parent))).fetchone()
    prune = "SELECT step, reasons FROM modelstore.prune_checkpoints(%s, 1, keep_best => 0, dry_run => true)"
    assert db.execute(prune, (model,)).fetchall() == [(1, ["branch"]), (2, []), (3, []), (4, ["last"])]
