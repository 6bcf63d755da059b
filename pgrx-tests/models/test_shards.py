"""Sharded models: several safetensors files and the index that maps weights to files."""

from __future__ import annotations

import json
import uuid

import psycopg
from malformed_files import INDEX_RULES
from models import random_tensor, safetensors_bytes
from observe import problems, row_counts
from transfer import export_model, refusal


def shards() -> tuple[dict[str, bytes], dict[str, str]]:
    files = {
        "model-00001-of-00002.safetensors": {"a.weight": random_tensor(1, 20, 30), "a.bias": random_tensor(2, 20)},
        "model-00002-of-00002.safetensors": {"b.weight": random_tensor(3, 400, 700)},
    }
    return {f: safetensors_bytes(t) for f, t in files.items()}, {name: f for f, t in files.items() for name in t}


INDEX = "model.safetensors.index.json"


def index_of(weight_map: dict[str, str]) -> bytes:
    return json.dumps({"metadata": {"total_size": 123}, "weight_map": weight_map}, indent=2).encode()


def test_sharded_server_file(server, db) -> None:
    files, weight_map = shards()
    folder = server.scratch / f"sharded-{uuid.uuid4()}"
    folder.mkdir()
    for name, data in (files | {INDEX: index_of(weight_map)}).items():
        (folder / name).write_bytes(data)
    load = "SELECT model_id, weights FROM modelstore.import_safetensors_file('sharded', '1', %s)"
    model, weights = db.execute(load, (str(folder / INDEX),)).fetchone()
    assert weights == 3
    for name, data in (files | {INDEX: index_of(weight_map)}).items():
        assert export_model(db, model, name) == data
    diag = refusal(db, "SELECT modelstore.export_safetensors(%s)", model)
    assert diag.sqlstate == "42P08"
    assert {name for (name,) in db.execute(diag.message_hint)} == {*files, INDEX}
    assert refusal(db, "SELECT modelstore.export_safetensors(%s, 'other')", model).sqlstate == "42704"
    before = row_counts(db)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert refusal(db, load.replace("'1'", "'2'"), str(folder / INDEX)).sqlstate == "58P01"
    (folder / "model-00002-of-00002.safetensors").write_bytes(files["model-00002-of-00002.safetensors"][:-1])
    diag = refusal(db, load.replace("'1'", "'2'"), str(folder / INDEX))
    assert diag.sqlstate == "22026" and "model-00002-of-00002" in diag.message_primary
    assert row_counts(db) == before
    assert problems(db) == []


def register(db: psycopg.Connection) -> uuid.UUID:
    return db.execute("SELECT modelstore.register_model('sharded', '1')").fetchone()[0]


ADD = "SELECT modelstore.add_file(%s, %s::text, %b::bytea)"


def test_shards_added_one_by_one(db) -> None:
    files, weight_map = shards()
    model = register(db)
    assert db.execute("SELECT status FROM store.models").fetchone() == ("registered",)
    for name, data in files.items():
        db.execute(ADD, (model, name, data))
    db.execute(ADD, (model, INDEX, index_of(weight_map)))
    for name, data in files.items():
        assert export_model(db, model, name) == data
    row = db.execute("SELECT status, weights, parameters FROM store.v_model_architecture JOIN store.models USING (model_id, status)")
    assert row.fetchone() == ("ready", 3, 20 * 30 + 20 + 400 * 700)
    # The same again: a file, or a weight, that is there.
    assert refusal(db, ADD, model, "model-00001-of-00002.safetensors", safetensors_bytes({"new": random_tensor(1, 2)})).sqlstate == "23505"
    assert refusal(db, ADD, model, "third.safetensors", safetensors_bytes({"a.bias": random_tensor(1, 2)})).sqlstate == "23505"
    assert refusal(db, ADD, model, "../third.safetensors", safetensors_bytes({"new": random_tensor(1, 2)})).sqlstate == "42602"
    assert refusal(db, ADD, uuid.uuid4(), "third.safetensors", safetensors_bytes({})).sqlstate == "42704"
    assert problems(db) == []


def test_an_index_that_does_not_fit_its_shards(db) -> None:
    files, weight_map = shards()
    first, second = files
    model = register(db)
    db.execute(ADD, (model, first, files[first]))

    def state(weight_map: object, **more: object) -> str:
        return refusal(db, ADD, model, INDEX, json.dumps({"weight_map": weight_map} | more).encode()).sqlstate

    assert state(weight_map) == INDEX_RULES["MissingFile"]
    only_first = {name: file for name, file in weight_map.items() if file == first}
    assert state({"a.weight": first}) == INDEX_RULES["UnexpectedTensor"]
    assert state(only_first | {"a.other": first}) == INDEX_RULES["MissingTensor"]
    assert state({"a.weight": "other.safetensors"}) == INDEX_RULES["UnexpectedFile"]
    db.execute(ADD, (model, second, files[second]))
    assert state(weight_map | {"a.bias": second}) == INDEX_RULES["MisplacedTensor"]
    for name in ("../x", "/x", "a/b", "", ".", "a\\b", "c:x", "x\n"):
        assert state(weight_map | {"a.bias": name}) == INDEX_RULES["InvalidFileName"], name
    assert state([]) == "42804" and state({"a": 1}) == "42804" and state({"": "x"}) == "2200F"
    for index, expected in {b"": "2203C", b"{": "22032", b"{}": "42P02", b'{"\xff":1}': "22021", b'{"weight_map":{},"weight_map":{}}': "22030"}.items():
        assert refusal(db, ADD, model, INDEX, index).sqlstate == expected
    db.execute(ADD, (model, INDEX, index_of(weight_map)))
    assert problems(db) == []
