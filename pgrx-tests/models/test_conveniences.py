"""Small functions over the registry: lists, evaluations, trainable weights, gradients, duplicates, models of arrays."""

from __future__ import annotations

import models
import numpy as np
import pytest
from checkpoints import register
from observe import problems
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from safetensors.numpy import load
from tensors import fetch, pack, same
from transfer import export_model, import_model, refusal

WEIGHTS = {"a.weight": models.random_tensor(1, 20, 30), "a.bias": models.random_tensor(2, 30), "b.weight": models.random_tensor(3, 30, 30)}
DATA = models.safetensors_bytes(WEIGHTS)


@pytest.fixture
def model(db):
    return import_model(db, DATA, "m").model_id


def test_version(db) -> None:
    assert db.execute("SELECT modelstore.version() = extversion FROM pg_extension WHERE extname = 'pg_modelstore'").fetchone() == (True,)


def test_lists(db, model) -> None:
    child = import_model(db, models.safetensors_bytes({"a.bias": WEIGHTS["a.bias"]}), "m", "2", parent=model).model_id
    bare = register(db, "other_thing")
    db.execute("SELECT modelstore.set_alias('m:1', 'production'), modelstore.set_alias('m:1', 'best')")
    columns = "model_id, model_name, version, aliases, parameters, raw_bytes, status"
    rows = db.execute(f"SELECT {columns} FROM modelstore.list_models()").fetchall()
    assert rows == [
        (model, "m", "1", ["best", "production"], 1530, 6120, "ready"),
        (child, "m", "2", [], 30, 120, "ready"),
        (bare, "other_thing", "1", [], 0, 0, "registered"),
    ]
    assert db.execute("SELECT model_id FROM modelstore.list_models('other%')").fetchall() == [(bare,)]
    assert db.execute("SELECT model_id FROM modelstore.list_models('%g')").fetchall() == [(bare,)]
    assert db.execute("SELECT count(*) FROM modelstore.list_models(NULL)").fetchone() == (3,)
    # The same figures as the view has.
    view = "SELECT model_id, parameters, raw_bytes FROM store.v_model_architecture ORDER BY 1"
    assert db.execute(view).fetchall() == db.execute("SELECT model_id, parameters, raw_bytes FROM modelstore.list_models() ORDER BY 1").fetchall()
    assert db.execute("SELECT model_id, model_name, version FROM modelstore.children('m:1')").fetchall() == [(child, "m", "2")]
    assert db.execute("SELECT * FROM modelstore.children('m:2')").fetchall() == []
    assert refusal(db, "SELECT modelstore.children(gen_random_uuid())").sqlstate == "42704"


def test_evaluations(db, model) -> None:
    for count, (dataset, metrics) in enumerate([("glue/sst2", {"accuracy": 0.9}), ("glue/mrpc", {"f1": 0.8, "note": "NaN"})], 1):
        assert db.execute("SELECT modelstore.log_evaluation('m', %s, %s)", (dataset, Jsonb(metrics))).fetchone() == (count,)
    found = db.execute("SELECT e ->> 'dataset', e -> 'metrics', (e ->> 'evaluated_at')::timestamptz <= now(), e ->> 'evaluated_by' = current_user FROM store.models, jsonb_array_elements(evaluations) e").fetchall()
    assert found == [("glue/sst2", {"accuracy": 0.9}, True, True), ("glue/mrpc", {"f1": 0.8, "note": "NaN"}, True, True)]
    for arguments, sqlstate in {"'m', 'x', '3'": "22023", "'m', '', '{}'": "22023", "'m', NULL, '{}'": "22004", "gen_random_uuid(), 'x', '{}'": "42704"}.items():
        assert refusal(db, f"SELECT modelstore.log_evaluation({arguments})").sqlstate == sqlstate, arguments


def test_trainable(db, model) -> None:
    parameters = "SELECT trainable_parameters, frozen_parameters FROM modelstore.calculate_model_parameters('m')"
    assert db.execute(parameters).fetchone() == (1530, 0)
    assert db.execute("SELECT modelstore.set_trainable('m', 'a.%', false)").fetchone() == (2,)
    assert db.execute(parameters).fetchone() == (900, 630)
    assert db.execute("SELECT modelstore.set_trainable('m', 'a.bias', true), modelstore.set_trainable('m', 'nothing', true)").fetchone() == (1, 0)
    assert db.execute(parameters).fetchone() == (930, 600)
    assert refusal(db, "SELECT modelstore.set_trainable('m', 'a', NULL)").sqlstate == "22004"
    assert refusal(db, "SELECT modelstore.set_trainable(gen_random_uuid(), 'a', true)").sqlstate == "42704"


def test_gradients(db, model) -> None:
    gradient = models.random_tensor(9, 20, 30)
    put = "SELECT modelstore.put_gradient('m', 'a.weight', %b::modelstore.tensor)"
    (tensor,) = db.execute(put, (pack(gradient),), binary=True).fetchone()
    read = "SELECT modelstore.reconstruct_tensor(gradient_tensor_id) FROM store.model_weights WHERE weight_name = 'a.weight'"
    assert same(fetch(db, read), gradient)
    # The collector keeps it while the weight has it.
    assert db.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (0,)
    assert db.execute("SELECT modelstore.put_gradient('m', 'a.weight', NULL)").fetchone() == (None,)
    assert db.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (1,)
    assert refusal(db, "SELECT modelstore.reconstruct_tensor(%s)", tensor).sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.put_gradient('m', 'a.weight', '[1,2]')").sqlstate == "22000"
    assert refusal(db, "SELECT modelstore.put_gradient('m', 'nothing', '[1,2]')").sqlstate == "42704"
    assert problems(db) == []


def test_duplicates(db, model) -> None:
    assert db.execute("SELECT * FROM modelstore.duplicates()").fetchall() == []
    import_model(db, models.safetensors_bytes(WEIGHTS | {"a.bias": WEIGHTS["a.bias"] + 1, "c": WEIGHTS["b.weight"]}), "m", "2")
    found = db.execute("SELECT dtype, shape, raw_bytes, weights FROM modelstore.duplicates()").fetchall()
    assert found == [
        ("f32", [30, 30], 3600, ["m:1 b.weight", "m:2 b.weight", "m:2 c"]),
        ("f32", [20, 30], 2400, ["m:1 a.weight", "m:2 a.weight"]),
    ]


def test_a_model_of_arrays(db) -> None:
    """It exports as a file that safetensors reads, and equals the import of that file."""
    names, arrays = list(WEIGHTS), [pack(array) for array in WEIGHTS.values()]
    create = "SELECT model_id, weights, parameters FROM modelstore.create_model('m', '1', %s, ARRAY[{}], config => '{{\"model_type\": \"toy\"}}')".format(
        ", ".join(["%b::bytea::modelstore.tensor"] * len(arrays))
    )
    made, weights, parameters = db.execute(create, (names, *arrays)).fetchone()
    assert (weights, parameters) == (3, 1530)
    exported = export_model(db, made)
    read = load(exported)
    assert read.keys() == WEIGHTS.keys() and all(np.array_equal(read[name], array) for name, array in WEIGHTS.items())
    other = import_model(db, exported, "m", "2").model_id
    assert db.execute("SELECT count(DISTINCT content_hash), count(DISTINCT f.sha256) FROM store.models JOIN store.model_files f USING (model_id)").fetchone() == (1, 1)
    assert db.execute("SELECT config FROM store.models WHERE model_id = %s", (made,)).fetchone() == ({"model_type": "toy"},)
    assert db.execute("SELECT count(*) FROM modelstore.diff_models(%s, %s) WHERE status <> 'same'", (made, other)).fetchone() == (0,)
    for arguments, sqlstate in {
        "'x', '1', '{a,b}', ARRAY['[1]'::modelstore.tensor]": "2202E",
        "'x', '1', '{a,a}', ARRAY['[1]'::modelstore.tensor, '[2]']": "22030",
        "'x', '1', '{NULL}', ARRAY['[1]'::modelstore.tensor]": "22004",
        "'m', '1', '{a}', ARRAY['[1]'::modelstore.tensor]": "23505",
        "'a:b', '1', '{a}', ARRAY['[1]'::modelstore.tensor]": "42602",
        "'x', '1', NULL, ARRAY['[1]'::modelstore.tensor]": "22004",
    }.items():
        refused = refusal(db, f"SELECT modelstore.create_model({arguments})").sqlstate
        assert refused == sqlstate, (arguments, refused)
    assert problems(db) == []


def test_functions_of_postgres_keep_their_comments(db) -> None:
    """The script names each object in its own schema: pg_catalog comes first on any search path."""
    comments = "SELECT count(*) FROM pg_description d WHERE d.classoid = 'pg_proc'::regclass AND d.objoid < 16384 AND d.objsubid = 0 AND d.description LIKE %s"
    assert db.execute(comments, ("Returns %",)).fetchone() == (0,)
    assert db.execute("SELECT obj_description('pg_catalog.version()'::regprocedure)").fetchone() == ("PostgreSQL version string",)


# A model made tensor by tensor


def put(db, name, array, model="draft"):
    return db.execute("SELECT modelstore.put_tensor(%s, %s, %b::bytea::modelstore.tensor)", (model, name, pack(array))).fetchone()[0]


def test_a_draft(db) -> None:
    """It takes tensors in any order and is, once finished, what an import of the same tensors would be."""
    tensors = models.tiny_llama()
    tensors |= {"tied": next(iter(tensors.values())), "empty": np.zeros((0, 3), "<f4"), "flag": np.array(True)}
    config = models.LLAMA_CONFIG
    db.execute("SELECT modelstore.register_model('draft', '1', config => %s)", (Jsonb(config),))
    for name in sorted(tensors, reverse=True):
        put(db, name, tensors[name])
    assert db.execute("SELECT status FROM store.models").fetchone() == ("registered",)
    with db.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("SELECT * FROM modelstore.finish_model('draft')").fetchone()
    assert (row["weights"], row["raw_bytes"], row["new_chunks"]) == (len(tensors), sum(a.nbytes for a in tensors.values()), 0)
    exported = export_model(db, row["model_id"])
    read = load(exported)
    assert read.keys() == tensors.keys() and all(same(read[name], array) for name, array in tensors.items())
    other = import_model(db, exported, "imported", config=config).model_id
    view = "SELECT architecture, layers, hidden_size, vocab_size, weights, parameters, trainable_parameters, raw_bytes FROM store.v_model_architecture WHERE model_id = %s"
    assert db.execute(view, (row["model_id"],)).fetchone() == db.execute(view, (other,)).fetchone()
    assert row["parameters"] == db.execute(view, (other,)).fetchone()[5]
    files = "SELECT header, file_bytes, sha256, blake3, manifest_hash FROM store.model_files WHERE model_id = %s"
    assert db.execute(files, (row["model_id"],)).fetchone() == db.execute(files, (other,)).fetchone()
    columns = "SELECT weight_name, tensor_id, layer_index, component, trainable, tied_to, file_name, file_offset FROM store.model_weights WHERE model_id = %s ORDER BY 1"
    assert db.execute(columns, (row["model_id"],)).fetchall() == db.execute(columns, (other,)).fetchall()
    assert problems(db) == [] and db.execute("SELECT count(*) FROM modelstore.verify_model('draft')").fetchone() == (0,)


def test_what_a_draft_refuses(db, model) -> None:
    db.execute("SELECT modelstore.register_model('draft', '1')")
    assert refusal(db, "SELECT modelstore.finish_model('draft')").sqlstate == "55000"
    put(db, "a", WEIGHTS["a.bias"])
    for name, sqlstate in {"a": "23505", "": "2200F", "x" * 1100: "42622", "__metadata__": "42939"}.items():
        refused = refusal(db, "SELECT modelstore.put_tensor('draft', %s, '[1]')", name).sqlstate
        assert refused == sqlstate, (name[:20], refused)
    assert refusal(db, "SELECT modelstore.put_tensor('m', 'a', '[1]')").sqlstate == "55000"
    assert refusal(db, "SELECT modelstore.put_tensor(gen_random_uuid(), 'a', '[1]')").sqlstate == "42704"
    assert refusal(db, "SELECT modelstore.put_tensor('draft', 'b', NULL)").sqlstate == "22004"
    assert refusal(db, "SELECT modelstore.finish_model('m')").sqlstate == "55000"
    assert refusal(db, "SELECT modelstore.finish_model(NULL)").sqlstate == "22004"
    db.execute("SELECT modelstore.finish_model('draft')")
    assert refusal(db, "SELECT modelstore.put_tensor('draft', 'b', '[1]')").sqlstate == "55000"
    assert refusal(db, "SELECT modelstore.finish_model('draft')").sqlstate == "55000"
    assert db.execute("SELECT array_agg(weight_name) FROM store.model_weights JOIN store.models USING (model_id) WHERE model_name = 'draft'").fetchone() == (["a"],)


def test_a_draft_is_stored_as_differences_to_its_parent(db) -> None:
    base = models.random_tensor(5, 400, 400)
    parent = import_model(db, models.safetensors_bytes({"w": base}), "base").model_id
    changed = base.copy()
    changed[0] += 1
    db.execute("SELECT modelstore.register_model('draft', '1', parent => %s)", (parent,))
    put(db, "w", changed)
    db.execute("SELECT modelstore.finish_model('draft')")
    assert db.execute("SELECT count(*) FROM store.tensor_chunks WHERE base_hash IS NOT NULL").fetchone()[0] > 0
    assert same(load(export_model(db, db.execute("SELECT 'draft'::modelstore.regmodel::uuid").fetchone()[0]))["w"], changed)


def test_a_draft_is_not_ready_without_its_file(db) -> None:
    """No other way than finish_model makes it so: its weights would never be exported."""
    (draft,) = db.execute("SELECT modelstore.register_model('draft', '1')").fetchone()
    put(db, "a", WEIGHTS["a.bias"])
    add = "SELECT modelstore.add_file('draft', %s, %b::bytea)"
    for name, data in (("more.safetensors", models.safetensors_bytes({"b": WEIGHTS["b.weight"]})), ("model.safetensors.index.json", b'{"weight_map": {}}')):
        diag = refusal(db, add, name, data)
        assert (diag.sqlstate, diag.message_detail) == ("55000", "Its weights come by put_tensor, or from files, but not from both.")
    db.execute(add, ("notes.txt", b"kept"))
    assert db.execute("SELECT modelstore.archive_model(%s), modelstore.archive_model(%s, false)", (draft, draft)).fetchone() == ("archived", "registered")
    # A file cannot be a folder.
    db.execute("SELECT modelstore.delete_file('draft', 'notes.txt')")
    db.execute(add, ("model.safetensors/notes.txt", b""))
    assert refusal(db, "SELECT modelstore.finish_model('draft')").sqlstate == "23505"
    db.execute("SELECT modelstore.delete_file('draft', 'model.safetensors/notes.txt')")
    assert db.execute("SELECT weights FROM modelstore.finish_model('draft')").fetchone() == (1,)
    assert db.execute("SELECT modelstore.archive_model(%s), modelstore.archive_model(%s, false)", (draft, draft)).fetchone() == ("archived", "ready")
    # An index of no weights makes nothing ready.
    db.execute("SELECT modelstore.register_model('empty', '1')")
    db.execute("SELECT modelstore.add_file('empty', 'model.safetensors.index.json', '{\"weight_map\": {}}')")
    assert db.execute("SELECT status FROM store.models WHERE model_name = 'empty'").fetchone() == ("registered",)


def test_a_gradient_that_cannot_be_linked_is_an_error(db, model, connect) -> None:
    db.execute("CREATE ROLE reader_of_weights LOGIN; GRANT USAGE ON SCHEMA store TO reader_of_weights; GRANT ALL ON ALL TABLES IN SCHEMA store TO reader_of_weights")
    db.execute("ALTER TABLE store.model_weights ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON store.model_weights FOR SELECT USING (true)")
    try:
        with connect(user="reader_of_weights") as reader:
            reader.execute("SET modelstore.trust_store_owner = on")
            assert refusal(reader, "SELECT modelstore.put_gradient(%s, 'a.bias', %b::bytea::modelstore.tensor)", model, pack(WEIGHTS["a.bias"])).sqlstate == "42704"
    finally:
        db.execute("DROP OWNED BY reader_of_weights; DROP ROLE reader_of_weights")
