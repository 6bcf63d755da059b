"""Limits of numbers: JSON as written, smallest and largest steps, damage that only a hash reveals."""

from __future__ import annotations

import pytest
from checkpoints import checkpoint, checkpoint_problems, register, start
from models import random_tensor, safetensors_bytes
from transfer import import_model, refusal

# Numbers that doubles and 64-bit integers do not hold.
WIDE = '{"a": 1e400, "b": 123456789012345678901234567890, "c": 0.12345678901234567890123, "d": [18446744073709551616]}'
FILE = safetensors_bytes({"w": random_tensor(1, 4, 4)})


@pytest.fixture
def model(db):
    return register(db)


def test_json_is_kept_as_it_was_written(db, model) -> None:
    """jsonb has numbers of any size, and gives back those that went in."""
    made = db.execute(
        "SELECT checkpoint_id FROM modelstore.create_checkpoint(%s, 1, %b::bytea, NULL, metrics => NULL, rng_state => NULL, param_groups => %s, metadata => %s)",
        (model, FILE, WIDE, WIDE),
    ).fetchone()[0]
    db.execute("SELECT modelstore.start_training(%s, %s::jsonb)", (model, WIDE))
    db.execute("SELECT modelstore.register_model('wide', '1', config => %s, metadata => %s)", (WIDE, WIDE))
    db.execute("SELECT modelstore.import_safetensors('wide', '2', %b::bytea, %s, NULL, %s)", (FILE, WIDE, WIDE))
    db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2', metadata => %s)", (made, WIDE))
    columns = {
        "model_checkpoints": "param_groups, metadata",
        "training_sessions": "config",
        "models WHERE model_name = 'wide'": "config, metadata",
        "models WHERE version = '2'": "metadata",
    }
    (expected,) = db.execute("SELECT %s::jsonb::text", (WIDE,)).fetchone()
    for table, names in columns.items():
        for name in names.split(", "):
            for (text,) in db.execute(f"SELECT {name}::text FROM store.{table}").fetchall():
                assert text == expected, (table, name)
    state = db.execute("SELECT param_groups::text, metadata::text FROM modelstore.checkpoint_state(%s)", (made,)).fetchone()
    assert state == (expected, expected)


def test_a_restored_version_has_the_config_of_its_model(db) -> None:
    config = {"model_type": "bert", "num_attention_heads": 2}
    model = import_model(db, FILE, config=config).model_id
    made = checkpoint(db, model, FILE).checkpoint_id
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (made,)).fetchone()
    assert db.execute("SELECT config FROM store.models WHERE model_id = %s", (restored,)).fetchone()[0] == config


@pytest.mark.parametrize("figure", ["1e400", "-1e309", "1" + "0" * 400])
def test_a_metric_beyond_double_precision(figure: str, db, model) -> None:
    run = start(db, model)
    diag = refusal(db, "SELECT modelstore.log_metrics(%s, 1, %s::jsonb)", run, f'{{"loss": {figure}}}')
    assert (diag.sqlstate, diag.message_detail) == ("22003", "A metric must be in the range of double precision.")
    assert diag.message_primary.startswith('metric "loss" is out of range: ')
    # What is too small for a double is zero, as everywhere in PostgreSQL's JSON.
    db.execute("SELECT modelstore.log_metrics(%s, 1, %s::jsonb)", (run, '{"tiny": 1e-400, "half": 0.5}'))
    found = db.execute("SELECT metric_name, value FROM store.training_metrics ORDER BY 1").fetchall()
    assert found == [("half", 0.5), ("tiny", 0.0)]


def test_numbers_of_a_tensor_beyond_double_precision(db) -> None:
    assert refusal(db, "SELECT '[1e400]'::jsonb::modelstore.tensor").sqlstate == "22003"


@pytest.mark.parametrize("total", [1, 2**63 - 1])
@pytest.mark.parametrize("steps", [[0, 1], [-(2**63), 2**63 - 1], [2**63 - 2, 2**63 - 1]])
def test_progress_of_any_steps(total: int, steps: list[int], db, model) -> None:
    """One run with strange steps does not keep the view from showing the others."""
    run = start(db, model, total_steps=total)
    db.execute("SELECT modelstore.log_metric(%s, 'loss', %s::bigint[], %s::double precision[])", (run, steps, [2.0, 1.0]))
    db.execute("UPDATE store.training_metrics SET recorded_at = recorded_at - interval '9 hours' WHERE step = %s", (steps[0],))
    row = db.execute("SELECT step, newest_loss, best_loss, steps_per_second > 0 FROM store.v_training_progress").fetchone()
    assert row == (steps[1], 1.0, 1.0, True)


def test_optimizer_state_is_checked_where_it_is_added(db, model) -> None:
    made = checkpoint(db, model, FILE).checkpoint_id
    put = "SELECT modelstore.put_optimizer_state(%s, 'w', 'exp_avg', '[1,NaN]')"
    diag = refusal(db, put, made)
    assert (diag.sqlstate, diag.message_primary) == ("23514", 'tensor "w.exp_avg" of the checkpoint is not finite')
    db.execute("SET modelstore.checkpoint_checks = 'shape'")
    db.execute(put, (made,))


def test_weights_that_are_gone_are_found(db, model) -> None:
    """Without its rows nothing is left to decode; the content hash tells."""
    made = checkpoint(db, model, FILE).checkpoint_id
    assert checkpoint_problems(db, made) == []
    db.execute("DELETE FROM store.checkpoint_weights")
    db.execute("DELETE FROM store.checkpoint_files")
    assert checkpoint_problems(db, made) == [(f"checkpoint {made}", "weights do not match the content hash")]


def test_what_a_model_shares_with_its_own_checkpoint_is_its_own(db) -> None:
    model = import_model(db, FILE).model_id
    space = "SELECT unique_bytes, shared_bytes > 0 FROM modelstore.space_report()"
    unique, shared = db.execute(space).fetchone()
    assert unique > 0 and not shared
    checkpoint(db, model, FILE)
    assert db.execute(space).fetchone() == (unique, False)


def test_parameters_are_those_of_the_weights(db, model) -> None:
    moments = safetensors_bytes({"w.exp_avg": random_tensor(2, 4, 4)})
    made = checkpoint(db, model, FILE, optimizer=moments)
    assert (made.tensors, made.parameters) == (2, 16)
    assert made.raw_bytes == 128
