"""A role that may read a store can read its runs and checkpoints; a role that may not write cannot create any."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from checkpoints import checkpoint, exported, register, start
from models import random_tensor, safetensors_bytes
from observe import problems, row_counts

pytestmark = pytest.mark.versioned

DATA = safetensors_bytes({"encoder.layer.0.attention.self.query.weight": random_tensor(4, 32, 32)})
MOMENTS = safetensors_bytes({"encoder.layer.0.attention.self.query.weight.exp_avg": random_tensor(5, 32, 32)})

READS = """
    get_latest_checkpoint($m)
    get_best_checkpoint($m)
    checkpoint_weights_at($c)
    get_optimizer_state($c, 'encoder.layer.0.attention.self.query.weight', 'exp_avg')
    diff_checkpoints($c, $c)
    verify_checkpoint($c)
    export_checkpoint($c)
    prune_checkpoints($m, dry_run => true)
    metric_plot($s, 'loss')
    plan_gradient_checkpoints($m)
""".split("\n")
WRITES = """
    start_training($m)
    finish_training($s)
    log_metrics($s, 2, '{"loss": 1}')
    log_metric($s, 'loss', ARRAY[2], ARRAY[1.0])
    delete_metrics($s)
    create_checkpoint($m, 2, $d, session_id => $s)
    create_checkpoint_tensors($m, 2, ARRAY['w'], ARRAY['[1]'::modelstore.tensor], checks => '{}')
    put_optimizer_state($c, 'w', 'm', '[1]')
    restore_checkpoint($c, NULL, 'x')
    prune_checkpoints($m, 0, keep_best => 0, dry_run => false)
    set_gradient_checkpoints($s)
""".split("\n")
READS, WRITES = ([line.strip() for line in lines if line.strip()] for lines in (READS, WRITES))


@pytest.fixture
def role(db):
    """A role that may log in and use the extension."""
    name = f"role_{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE ROLE {name} LOGIN")
    db.execute(f"GRANT USAGE ON SCHEMA modelstore TO {name}")
    yield name
    db.execute(f"DROP OWNED BY {name} CASCADE")
    db.execute(f"DROP ROLE {name}")


@pytest.fixture
def call(db):
    """call(connection, 'f($m, …)'): calls a function with a model, a run, a checkpoint or a file in place of $…"""
    model = register(db, config={"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1})
    db.execute("SELECT modelstore.add_file(%s, 'a.safetensors', %b::bytea)", (model, DATA))
    run = start(db, model)
    made = checkpoint(db, model, DATA, 1, run, optimizer=MOMENTS, metrics={"loss": 1}).checkpoint_id
    db.execute("SELECT modelstore.log_metric(%s, 'loss', ARRAY[1, 2], ARRAY[3.0, 2.0])", (run,))
    values = {"$m": f"'{model}'", "$s": f"'{run}'::uuid", "$c": f"'{made}'", "$d": f"'\\x{DATA.hex()}'::bytea"}

    def do(c: psycopg.Connection, function: str) -> list[tuple]:
        for name, value in values.items():
            function = function.replace(name, value)
        return c.execute(f"SELECT * FROM modelstore.{function}").fetchall()

    return do


def refused(c: psycopg.Connection, call, functions: list[str]) -> None:
    for function in functions:
        try:
            call(c, function)
        except psycopg.errors.InsufficientPrivilege:
            continue
        pytest.fail(f"{function} is possible", False)


@pytest.mark.parametrize("rights", ["none", "usage of the schema"])
def test_without_rights_nothing_is_possible(rights: str, db, connect, role, call) -> None:
    if rights != "none":
        db.execute(f"GRANT USAGE ON SCHEMA store TO {role}")
    before = row_counts(db)
    refused(connect(user=role), call, READS + WRITES)
    assert row_counts(db) == before


def test_who_may_read_the_tables_may_read_training_but_not_write(db, connect, role, call) -> None:
    db.execute(f"GRANT USAGE ON SCHEMA store TO {role}")
    db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA store TO {role}")
    c = connect(user=role)
    for function in READS:
        assert call(c, function) == call(db, function), function
    assert c.execute("SELECT count(*) FROM store.v_training_progress").fetchone() == (1,)
    before = row_counts(db)
    refused(c, call, WRITES)
    assert row_counts(db) == before


def test_who_may_write_the_tables_may_train(db, connect, role, call) -> None:
    """Rights on the tables are enough: also on the partitions and on the numbers that order checkpoints."""
    db.execute(f"GRANT USAGE ON SCHEMA store TO {role}")
    db.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA store TO {role}")
    c = connect(user=role)
    for function in WRITES:
        if not function.startswith(("finish_training", "prune")):
            call(c, function)
    (model,) = db.execute("SELECT model_id FROM store.models WHERE parent_model_id IS NULL").fetchone()
    made = checkpoint(c, model, DATA, 9, checks=[]).checkpoint_id
    assert exported(c, made) == DATA
    assert c.execute("SELECT created_by FROM store.model_checkpoints WHERE checkpoint_id = %s", (made,)).fetchone() == (role,)
    assert problems(db) == []


def test_a_plan_of_a_session_knows_whose_it_is(db, connect, role, call) -> None:
    """SET ROLE in one session: what one role may, the next may not."""
    session = connect()
    db.execute(f"GRANT USAGE ON SCHEMA store TO {role}")
    for _ in range(2):
        call(session, "get_latest_checkpoint($m)")
        call(session, "metric_plot($s, 'loss')")
        session.execute(f"SET ROLE {role}")
        for function in ("get_latest_checkpoint($m)", "metric_plot($s, 'loss')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                call(session, function)
        session.execute("RESET ROLE")
