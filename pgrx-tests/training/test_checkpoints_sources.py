"""The ways to pass a checkpoint, and its optimizer state."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import safetensors.numpy
from checkpoints import checkpoint, checkpoint_problems, exported, register, start, tensors_of_file
from models import random_tensor, safetensors_bytes
from observe import problems, row_counts
from transfer import refusal

WEIGHTS = {"encoder.weight": random_tensor(1, 600, 512), "encoder.bias": random_tensor(2, 600), "scale": random_tensor(3)}
MOMENTS = {
    "encoder.weight.exp_avg": random_tensor(4, 600, 512), "encoder.weight.exp_avg_sq": random_tensor(5, 600, 512) ** 2,
    "encoder.bias.exp_avg": random_tensor(6, 600), "encoder.bias.step": np.array(1000.0, "float32"),
}  # fmt: skip
FILE, OPTIMIZER = safetensors_bytes(WEIGHTS, {"format": "pt"}), safetensors_bytes(MOMENTS)


@pytest.fixture
def model(db):
    return register(db)


def large_object(db, data: bytes) -> int:
    return db.execute("SELECT lo_from_bytea(0, %b)", (data,)).fetchone()[0]


def upload(db, data: bytes, finish: int = 3) -> object:
    (id,) = db.execute("SELECT modelstore.begin_upload(%s)", (len(data),)).fetchone()
    for part in range(0, len(data), len(data) // finish + 1):
        db.execute("SELECT modelstore.append_upload(%s, %b)", (id, data[part : part + len(data) // finish + 1]))
    return id


# The tensors of a file that a table has got, as names and values.
FROM_MODEL = """
    SELECT checkpoint_id FROM modelstore.create_checkpoint_tensors(%(m)s,
        4,
        (SELECT array_agg(weight_name ORDER BY weight_name) FROM store.checkpoint_weights WHERE checkpoint_id = %(c)s),
        (SELECT array_agg(modelstore.reconstruct_tensor(tensor_id) ORDER BY weight_name)
         FROM store.checkpoint_weights WHERE checkpoint_id = %(c)s),
        (SELECT array_agg(parameter_name || '.' || state_name ORDER BY parameter_name, state_name)
         FROM store.optimizer_state WHERE checkpoint_id = %(c)s),
        (SELECT array_agg(modelstore.get_optimizer_state(checkpoint_id, parameter_name, state_name) ORDER BY parameter_name, state_name)
         FROM store.optimizer_state WHERE checkpoint_id = %(c)s))
"""


def test_equal_weights_are_equal_however_they_came(db, model) -> None:
    made = [checkpoint(db, model, FILE, 1, optimizer=OPTIMIZER).checkpoint_id]
    oids = large_object(db, FILE), large_object(db, OPTIMIZER)
    query = "SELECT checkpoint_id FROM modelstore.create_checkpoint_large_object(%s, 2, %s::oid, %s::oid)"
    made += db.execute(query, (model, *oids)).fetchone()
    uploads = upload(db, FILE), upload(db, OPTIMIZER)
    query = "SELECT checkpoint_id FROM modelstore.create_checkpoint_upload(%s, 3, %s, %s)"
    made += db.execute(query, (model, *uploads)).fetchone()
    made += db.execute(FROM_MODEL, {"m": model, "c": made[0]}).fetchone()
    rows = db.execute("SELECT content_hash, parent_checkpoint_id FROM store.model_checkpoints ORDER BY sequence").fetchall()
    assert len(rows) == 4
    assert len({content for content, _ in rows}) == 1
    assert rows[0][0] is not None
    assert [parent for _, parent in rows] == [None, *made[:-1]]
    for id in made[:3]:
        assert exported(db, id) == FILE
        assert exported(db, id, "optimizer.safetensors") == OPTIMIZER
    # Names and tensors have no file; the one that is made holds the same.
    for name, expected in (("model.safetensors", WEIGHTS), ("optimizer.safetensors", MOMENTS)):
        found = safetensors.numpy.load(exported(db, made[3], name))
        assert found.keys() == expected.keys()
        for tensor, array in expected.items():
            assert found[tensor].dtype == array.dtype
            np.testing.assert_array_equal(found[tensor], array)
    # Of the same tensors: nothing is there twice.
    for table in ("checkpoint_weights", "optimizer_state"):
        counts = db.execute(f"SELECT count(*), count(DISTINCT tensor_id) FROM store.{table}").fetchone()
        assert counts[0] == 4 * counts[1]
    assert db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,)
    assert problems(db) == []


def test_one_element_makes_another_hash(db, model) -> None:
    other = {n: a.copy() for n, a in WEIGHTS.items()}
    other["encoder.bias"][7] = np.nextafter(other["encoder.bias"][7], np.float32(1))
    for step, weights in enumerate((WEIGHTS, other, {n: WEIGHTS[n] for n in reversed(WEIGHTS)})):
        checkpoint(db, model, safetensors_bytes(weights), step)
    a, b, c = (h for (h,) in db.execute("SELECT content_hash FROM store.model_checkpoints ORDER BY sequence"))
    assert a == c != b
    # A model with these weights has the same.
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(modelstore.get_latest_checkpoint(%s), NULL, 'r')", (model,)).fetchone()
    (imported,) = db.execute("SELECT model_id FROM modelstore.import_safetensors('i', '1', %b::bytea)", (FILE,)).fetchone()
    hashes = db.execute("SELECT content_hash FROM store.models WHERE model_id IN (%s, %s)", (restored, imported)).fetchall()
    assert hashes == [(a,), (a,)]


def test_an_upload_that_is_refused_is_not_lost(db, model) -> None:
    data = safetensors_bytes({"w": np.array([np.inf], "float32")})
    id = upload(db, data, 1)
    query = "SELECT modelstore.create_checkpoint_upload(%s, 1, %s)"
    assert refusal(db, query, model, id).sqlstate == "23514"
    assert db.execute("SELECT modelstore.upload_offset(%s)", (id,)).fetchone() == (len(data),)
    db.execute("SET modelstore.checkpoint_checks = ''")
    db.execute(query, (model, id))
    assert refusal(db, query, model, id).sqlstate == "42704"


ARRAYS = "SELECT * FROM modelstore.create_checkpoint_tensors(%s, 1, {})"


@pytest.mark.parametrize(
    ("arguments", "sqlstate"),
    [
        ("ARRAY['a','b'], ARRAY['[1]'::modelstore.tensor]", "2202E"),
        ("ARRAY['a'], ARRAY['[1]','[2]']::modelstore.tensor[]", "2202E"),
        ("ARRAY['a']::text[], '{}'::modelstore.tensor[]", "2202E"),
        ("ARRAY['a','a'], ARRAY['[1]','[2]']::modelstore.tensor[]", "22030"),
        ("ARRAY['a','b'], ARRAY['[1]',NULL]::modelstore.tensor[]", "22004"),
        ("ARRAY['a',NULL], ARRAY['[1]','[2]']::modelstore.tensor[]", "22004"),
        ("ARRAY['a'], ARRAY['[1]']::modelstore.tensor[], ARRAY['a.m'], NULL", "22004"),
        ("ARRAY['a'], ARRAY['[1]']::modelstore.tensor[], NULL, ARRAY['[1]']::modelstore.tensor[]", "22004"),
        ("ARRAY['a'], ARRAY['[1]']::modelstore.tensor[], ARRAY['a.m'], '{}'::modelstore.tensor[]", "2202E"),
        ("ARRAY['a'], ARRAY['[1]']::modelstore.tensor[], ARRAY['am'], ARRAY['[1]']::modelstore.tensor[]", "42602"),
        ("ARRAY['a'], NULL::modelstore.tensor[]", "22004"),
        ("NULL::text[], ARRAY['[1]']::modelstore.tensor[]", "22004"),
        ("ARRAY[''], ARRAY['[1]']::modelstore.tensor[]", "2200F"),
        ("ARRAY['__metadata__'], ARRAY['[1]']::modelstore.tensor[]", "42939"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(arguments: str, sqlstate: str, db, model) -> None:
    before = row_counts(db)
    assert refusal(db, ARRAYS.format(arguments), model).sqlstate == sqlstate
    assert row_counts(db) == before


def test_empty_arrays_are_an_empty_checkpoint(db, model) -> None:
    row = db.execute(ARRAYS.format("'{}'::text[], '{}'::modelstore.tensor[]"), (model,)).fetchone()
    assert row[1:] == (0, 0, 0, 0, 0, 0)
    assert tensors_of_file(exported(db, row[0])) == {}
    assert checkpoint_problems(db, row[0]) == []


def test_tensors_of_every_length_in_an_array(db, model) -> None:
    """Values in an array lie one behind the other, aligned: wherever each ends."""
    query = """SELECT checkpoint_id FROM modelstore.create_checkpoint_tensors(%s,
        1,
        (SELECT array_agg('w' || n ORDER BY n) FROM generate_series(0, 70) n),
        (SELECT array_agg(format('u8:[%%s]', array_to_string(array_fill(n, ARRAY[n]), ','))::modelstore.tensor ORDER BY n)
         FROM generate_series(0, 70) n))"""
    (id,) = db.execute(query, (model,)).fetchone()
    found = safetensors.numpy.load(exported(db, id))
    assert {name: array.tolist() for name, array in found.items()} == {f"w{n}": [n] * n for n in range(71)}


# The optimizer's state


def test_state_of_the_optimizer_comes_back(db, model) -> None:
    run = start(db, model)
    made = checkpoint(db, model, FILE, 1, run, optimizer=OPTIMIZER, rng_state=b"\0seed\xff", param_groups={"lr": 1e-4})
    assert made.tensors == len(WEIGHTS) + len(MOMENTS)
    id = made.checkpoint_id
    assert exported(db, id, "optimizer.safetensors") == OPTIMIZER
    assert checkpoint_problems(db, id) == []
    for name, expected in MOMENTS.items():
        parameter, state = name.rsplit(".", 1)
        query = "SELECT modelstore.tobytes(v), modelstore.shape(v) FROM modelstore.get_optimizer_state(%s, %s, %s) v"
        raw, shape = db.execute(query, (id, parameter, state)).fetchone()
        np.testing.assert_array_equal(np.frombuffer(raw, "float32").reshape(shape), expected)
    rows = db.execute("SELECT parameter_name, state_name FROM store.optimizer_state ORDER BY 1, 2").fetchall()
    assert rows == sorted(tuple(name.rsplit(".", 1)) for name in MOMENTS)
    kept = db.execute("SELECT rng_state, param_groups FROM store.model_checkpoints").fetchone()
    assert kept == (b"\0seed\xff", {"lr": 1e-4})
    hash = db.execute("SELECT encode(sha256, 'hex') FROM store.checkpoint_files WHERE file_name LIKE 'opt%'").fetchone()[0]
    assert hash == hashlib.sha256(OPTIMIZER).hexdigest()


def test_state_put_by_hand(db, model) -> None:
    id = checkpoint(db, model, FILE, 1).checkpoint_id
    put = "SELECT modelstore.put_optimizer_state(%s, %s, %s, %s::modelstore.tensor)"
    db.execute(put, (id, "encoder.bias", "exp_avg", "f64:[1,2.5,-0]"))
    get = "SELECT modelstore.get_optimizer_state(%s, %s, %s)::text"
    assert db.execute(get, (id, "encoder.bias", "exp_avg")).fetchone() == ("f64:[1,2.5,-0]",)
    assert refusal(db, put, id, "encoder.bias", "exp_avg", "[1]").sqlstate == "23505"
    for parameter, state in (("w", "a.b"), ("", "exp_avg"), ("w", ""), ("w", ".")):
        assert refusal(db, put, id, parameter, state, "[1]").sqlstate == "42602", (parameter, state)
    assert refusal(db, put, id, None, "m", "[1]").sqlstate == "22004"
    assert refusal(db, put.replace("%s, %s, %s,", "gen_random_uuid(), %s, %s,"), "w", "m", "[1]").sqlstate == "42704"
    assert refusal(db, get, id, "encoder.bias", "nothing").sqlstate == "42704"
    # It is in no file, and the files are as they were.
    assert exported(db, id) == FILE
    assert refusal(db, "SELECT modelstore.export_checkpoint(%s, 'optimizer.safetensors')", id).sqlstate == "42704"
    assert checkpoint_problems(db, id) == []
    assert problems(db) == []


@pytest.mark.parametrize("name", ["momentum", ".exp_avg", "encoder.", "."])
def test_names_that_say_no_parameter_and_state(name: str, db, model) -> None:
    before = row_counts(db)
    optimizer = safetensors_bytes({"a.m": random_tensor(1, 2), name: random_tensor(2, 2)})
    query = "SELECT modelstore.create_checkpoint(%s, 1, %b::bytea, %b::bytea)"
    error = refusal(db, query, model, FILE, optimizer)
    assert (error.sqlstate, error.message_primary) == ("42602", f'invalid name of optimizer state "{name}"')
    assert row_counts(db) == before


def test_what_the_arguments_must_be(db, model) -> None:
    other = start(db, register(db, "other"))
    query = "SELECT modelstore.create_checkpoint({})"
    for arguments, sqlstate in {
        "%s, -1, %b::bytea": "22023",
        "%s, NULL, %b::bytea": "22004",
        "%s, 1, %b::bytea, epoch => 'NaN'": "22023",
        "%s, 1, %b::bytea, epoch => -1": "22023",
        "%s, 1, %b::bytea, epoch => 'Infinity'": "22023",
        "%s, 1, %b::bytea, metrics => '[1]'": "22023",
        "%s, 1, %b::bytea, session_id => gen_random_uuid()": "42704",
        f"%s, 1, %b::bytea, session_id => '{other}'": "22023",
    }.items():
        assert refusal(db, query.format(arguments), model, FILE).sqlstate == sqlstate, arguments
    assert refusal(db, query.format("gen_random_uuid(), 1, %b::bytea"), FILE).sqlstate == "42704"
    assert refusal(db, query.format("%s, 1, NULL::bytea"), model).sqlstate == "22004"
    assert refusal(db, query.replace("checkpoint(", "checkpoint_large_object(").format("%s, 1, 99999::oid"), model).sqlstate == "42704"
