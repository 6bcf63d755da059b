"""A model is a folder: files of any format go in by any way and in any order, and come back byte for byte."""

from __future__ import annotations

import hashlib
import itertools
import json
import pathlib
import random
import uuid

import psycopg
import pytest
from checkpoints import checkpoint, register
from folders import WAYS, add, add_copy, add_large_object, export, folder, names, random_content, tiny_folder
from harness import wait_until
from models import LLAMA_CONFIG, MIB, random_tensor, safetensors_bytes, tiny_gpt2, tiny_llama
from observe import aside, is_blocked, memory_peak, problems, row_counts
from transfer import export_model, import_model, refusal

ADD = "SELECT modelstore.add_file(%s, %s::text, %b::bytea)"
DELETE = "SELECT modelstore.delete_file(%s, %s)"
DESCRIBED = """SELECT architecture, layers, attention_heads, kv_heads, hidden_size, vocab_size, parameters, status,
                      (SELECT count(*) FROM store.attention_heads h WHERE h.model_id = m.model_id),
                      (SELECT array_agg((e.kind, e.weight_name) ORDER BY e.kind)::text FROM store.embeddings e WHERE e.model_id = m.model_id),
                      (SELECT config FROM store.models c WHERE c.model_id = m.model_id),
                      (SELECT content_hash FROM store.models c WHERE c.model_id = m.model_id)
               FROM store.v_model_architecture m WHERE model_id = %s"""


def verified(db: psycopg.Connection, model: uuid.UUID) -> list[tuple]:
    return db.execute("SELECT object, problem FROM modelstore.verify_model(%s)", (model,)).fetchall()


@pytest.mark.slow
@pytest.mark.any_server
def test_the_folder_of_a_real_model(db, minilm: pathlib.Path) -> None:
    files = tiny_folder() | {"model.safetensors": minilm.read_bytes(), "config.json": minilm.with_name("config.json").read_bytes()}
    order = list(files)
    random.Random(5).shuffle(order)
    model = register(db, "minilm")
    for name, way in zip(order, itertools.cycle(WAYS)):
        (add_copy if name == "model.safetensors" else way)(db, model, name, files[name])
    assert folder(db, model) == files
    assert export_model(db, model) == files["model.safetensors"]
    recorded = dict(db.execute("SELECT file_name, sha256 FROM store.model_files WHERE model_id = %s", (model,)).fetchall())
    assert recorded == {name: hashlib.sha256(data).digest() for name, data in files.items()}
    described = db.execute(DESCRIBED, (model,)).fetchone()
    assert described[:5] == ("bert", 6, 12, 12, 384) and described[7:9] == ("ready", 72)
    assert described[10] == json.loads(files["config.json"])
    assert verified(db, model) == [] == problems(db)


def test_every_order_and_way(db) -> None:
    """The result is the same as of an import that is given the config."""
    files = tiny_folder()
    expected = import_model(db, files["model.safetensors"], "expected", config=LLAMA_CONFIG).model_id
    expected = db.execute(DESCRIBED, (expected,)).fetchone()
    assert expected[:4] == ("llama", 3, 4, 2)
    chance = random.Random(1)
    few = ["config.json", "model.safetensors", "1_Pooling/config.json", "tokenizer.json"]
    orders = [list(order) for order in itertools.permutations(few)] + [chance.sample(list(files), len(files)) for _ in range(8)]
    for number, order in enumerate(orders):
        model = register(db, "ordered", str(number))
        for name in order:
            chance.choice(WAYS)(db, model, name, files[name])
        assert folder(db, model) == {name: files[name] for name in order}, order
        assert db.execute(DESCRIBED, (model,)).fetchone() == expected, order
    assert problems(db) == []
    # All are there once.
    assert db.execute("SELECT count(DISTINCT tensor_id) FROM store.model_files WHERE format = 'file'").fetchone() == (6,)


@pytest.mark.parametrize("seed", range(3))
def test_files_of_any_content(seed: int, db) -> None:
    chance = random.Random(seed)
    model, files = register(db), {}
    for number in range(12):
        name, data = f"{'d/' * chance.randrange(3)}f{number}", random_content(seed * 100 + number)
        chance.choice(WAYS)(db, model, name, data)
        files[name] = data
    assert folder(db, model) == files
    assert verified(db, model) == [] == problems(db)
    sizes = db.execute("SELECT files, file_bytes, weights, parameters, status FROM store.v_model_architecture").fetchone()
    assert sizes == (12, sum(map(len, files.values())), 0, 0, "registered")


def test_equal_files_are_stored_once(db) -> None:
    data = tiny_folder()["sentencepiece.bpe.model"]
    model, other = register(db), register(db, "other")
    first = add(db, model, "a.model", data)
    assert (first.weights, first.parameters, first.raw_bytes, first.reused_bytes) == (0, 0, len(data), 0) and first.new_chunks == 2
    before = row_counts(db)
    for again in (add(db, model, "folder/b.model", data), add(db, other, "a.model", data)):
        assert (again.raw_bytes, again.new_chunks, again.new_bytes, again.reused_bytes) == (len(data), 0, 0, len(data))
    assert row_counts(db) == before | {"model_files": 3}
    # Text is compressed.
    text = json.dumps({f"token{n}": n for n in range(20_000)}).encode()
    assert add(db, model, "vocab.json", text).new_bytes < len(text) / 2
    report = "SELECT raw_bytes, weight_bytes, unique_bytes, shared_bytes, stored_bytes FROM modelstore.space_report() WHERE model_id = %s"
    raw, weights, unique, shared, stored = db.execute(report, (model,)).fetchone()
    assert raw == 2 * len(data) + len(text) and weights == stored == unique + shared and shared > len(data) / 2 and unique > 0


def test_content_tells_the_format(db) -> None:
    model = register(db)
    weights = safetensors_bytes({"w": random_tensor(1, 20, 30)})
    formats = {
        "weights.bin": (weights, "safetensors"),
        "model.gguf": (b"GGUF\x03\0\0\0" + bytes(40), "file"),
        "pytorch_model.bin.index.json": (b'{"weight_map": {"w": "pytorch_model-00001-of-00001.bin"}}', "file"),
        "faiss.index.json": (b"[1]", "file"),
        "model.fp16.index.json": (b'{"weight_map": {"w": "weights.bin", "v": "x.safetensors"}}', None),
        "empty": (b"", "file"),
    }
    for way, (name, (data, format)) in itertools.product(WAYS, formats.items()):
        with db.transaction(force_rollback=True):
            if format is None:
                with pytest.raises(psycopg.errors.UndefinedFile), db.transaction():
                    way(db, model, name, data)
                continue
            way(db, model, name, data)
            assert db.execute("SELECT format FROM store.model_files").fetchall() == [(format,)], name
            assert export(db, model, name) == data
            assert problems(db) == []
    others = {
        b"GGUF\x03\0\0\0" + bytes(40): "a GGUF file",
        b"\x93NUMPY\x01\0v\0" + bytes(100): "a NumPy array",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": "a Python pickle",
        b"\x08\x07\x12\x07pytorch\x1a\x052.1.0": "an ONNX model",
        b"{}": "JSON",
    }
    for data, format in others.items():
        for name in ("model.safetensors", "d/model.SafeTensors"):
            error = refusal(db, ADD, model, name, data)
            assert (error.sqlstate, error.message_primary) == ("42809", f"file is {format}, not safetensors")
    assert refusal(db, ADD, model, "model.safetensors", weights[:-1]).sqlstate == "22026"
    assert refusal(db, ADD, model, "model.safetensors.index.json", weights).sqlstate != "23505"
    assert names(db, model) == []
    # An upload has no name yet: what begins as a safetensors file has to be one.
    add(db, model, "truncated.bin", weights[:-1])
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    db.execute("SELECT modelstore.append_upload(%s, %b)", (upload, weights[:-1]))
    assert refusal(db, "SELECT modelstore.add_file_upload(%s, 'b.bin', %s)", model, upload).sqlstate == "55000"


def test_configs(db) -> None:
    files = tiny_folder()
    config, weights = files["config.json"], files["model.safetensors"]
    # Without a config; with an equal one, which is written differently; with another.
    model = import_model(db, weights, "a").model_id
    assert db.execute(DESCRIBED, (model,)).fetchone()[2:4] == (None, None)
    add(db, model, "config.json", config)
    assert db.execute(DESCRIBED, (model,)).fetchone()[2:4] == (4, 2)
    equal = import_model(db, weights, "b", config=LLAMA_CONFIG).model_id
    add(db, equal, "config.json", json.dumps(LLAMA_CONFIG | {"vocab_size": 50.0}, sort_keys=True).encode())
    other = import_model(db, weights, "c", config=LLAMA_CONFIG | {"vocab_size": 51, "more": 1}).model_id
    error = refusal(db, ADD, other, "config.json", config)
    assert error.sqlstate == "55000" and error.message_primary == f"model {other} already has a different config"
    assert error.message_detail == "They differ in: more, vocab_size."
    db.execute(error.message_hint)
    add(db, other, "config.json", config)
    # The file goes, the config stays.
    assert db.execute(DELETE, (other, "config.json")).fetchone() == (len(config),)
    assert refusal(db, ADD, other, "config.json", b'{"vocab_size": 1}').sqlstate == "55000"
    assert export(db, model, "config.json") == config
    # A config of a part is a file like any other; with another name it may be anything.
    add(db, model, "1_Pooling/config.json", b"{")
    add(db, model, "Config.json", b"{")
    bare = register(db, "bare")
    assert refusal(db, ADD, bare, "config.json", safetensors_bytes({})).sqlstate == "22032"
    for json_text in (b"", b"{", b"\xff", b"[]", b'{"a": "\\u0000"}', b'{"\\u0000": 1}', b'{"a": "\\ud800"}', b"{} {}", b"\xef\xbb\xbf{}"):
        error = refusal(db, ADD, bare, "config.json", json_text)
        assert (error.sqlstate, error.message_primary) == ("22032", 'file "config.json" is not valid JSON'), json_text
        assert error.message_detail and error.message_hint
    assert refusal(db, ADD, bare, "config.json", b" " * (16 * MIB) + b"{}").sqlstate == "54000"
    assert names(db, bare) == []
    add(db, bare, "config.json", config)
    registered = db.execute("SELECT config, status, content_hash, architecture FROM store.models WHERE model_id = %s", (bare,)).fetchone()
    assert registered == (LLAMA_CONFIG, "registered", None, None)
    assert problems(db) == []


def test_a_config_can_tie_weights(db) -> None:
    """What the config says is derived again with it."""
    weights = tiny_gpt2()
    config = {"model_type": "gpt2", "n_head": 4, "tie_word_embeddings": False}
    model = import_model(db, safetensors_bytes(weights)).model_id
    add(db, model, "config.json", json.dumps(config).encode())
    reference = import_model(db, safetensors_bytes(weights), "reference", config=config).model_id
    assert db.execute(DESCRIBED, (model,)).fetchone() == db.execute(DESCRIBED, (reference,)).fetchone()


def test_names(db) -> None:
    model = register(db)
    good = ["a", "b/c/d", "with space.txt", "ünï/ko dé.json", "a..b", "...", ".hidden", "c:x", "x'); DROP TABLE models; --", "%s", "x" * 255, "y/" * 500 + "z"]
    for number, name in enumerate(good):
        add(db, model, name, str(number).encode())
    assert folder(db, model) == {name: str(number).encode() for number, name in enumerate(good)}
    for name in ["", "/", "/a", "a/", "b//c", ".", "..", "../x", "x/..", "x/../y", "./x", "x\\y", "x\ny", "x\ty", "x\x7fy", "x\u0085y"]:
        assert refusal(db, ADD, model, name, b"").sqlstate == "42602", name
    for name in ["x" * 256, "d/" + "x" * 256 + "/e", "xy/" * 350 + "z"]:
        assert refusal(db, ADD, model, name, b"").sqlstate == "42622", name
    # Taken: by a file, by a folder.
    for name in ("a", "b/c", "b", "a/x", "b/c/d/e"):
        assert refusal(db, ADD, model, name, b"other").sqlstate == "23505", name
    add(db, model, "b/c/e", b"next to it")
    add(db, model, "b/cd", b"")
    assert export(db, model, "a") == b"0"


def test_delete(db) -> None:
    files = tiny_folder()
    model = register(db)
    for name, data in files.items():
        add(db, model, name, data)
    error = refusal(db, DELETE, model, "model.safetensors")
    assert error.sqlstate == "2BP01" and "holds weights" in error.message_primary
    assert db.execute(DELETE, (model, "tokenizer.json")).fetchone() == (len(files["tokenizer.json"]),)
    assert refusal(db, DELETE, model, "tokenizer.json").sqlstate == "42704"
    assert refusal(db, DELETE, uuid.uuid4(), "tokenizer.json").sqlstate == "42704"
    # Its name is free again; what was stored is found.
    assert add(db, model, "tokenizer.json", files["tokenizer.json"]).new_chunks == 0
    assert folder(db, model) == files
    add(db, model, "no_weights.safetensors", safetensors_bytes({}))
    assert db.execute(DELETE, (model, "no_weights.safetensors")).fetchone() == (len(safetensors_bytes({})),)
    for name in files.keys() - {"model.safetensors"}:
        db.execute(DELETE, (model, name))
    assert names(db, model) == ["model.safetensors"] and problems(db) == []
    assert export_model(db, model) == files["model.safetensors"]


def test_gc_keeps_and_collects(db) -> None:
    files = tiny_folder()
    model = register(db)
    for name, data in files.items():
        add(db, model, name, data)
    assert db.execute("SELECT tensors, chunks FROM modelstore.gc()").fetchone() == (0, 0)
    before = row_counts(db)
    add(db, model, "more", random.Random(3).randbytes(3 * MIB))
    assert row_counts(db) != before
    db.execute(DELETE, (model, "more"))
    assert db.execute("SELECT tensors, chunks FROM modelstore.gc()").fetchone() == (1, 3)
    assert row_counts(db) == before and folder(db, model) == files
    assert db.execute("SELECT files FROM modelstore.delete_model(%s)", (model,)).fetchone() == (len(files),)
    db.execute("SELECT modelstore.gc()")
    assert row_counts(db) == {}


DAMAGE = {
    "UPDATE store.model_files SET sha256 = set_byte(sha256, 3, get_byte(sha256, 3) # 4)": "SHA-256",
    "UPDATE store.model_files SET blake3 = set_byte(blake3, 3, get_byte(blake3, 3) # 4)": "BLAKE3",
    "UPDATE store.model_files SET file_bytes = file_bytes + 1": "size",
    "UPDATE store.model_files SET header = 'x'": "header",
    "UPDATE store.model_files SET manifest_hash = set_byte(manifest_hash, 3, get_byte(manifest_hash, 3) # 4)": "manifest",
    "UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks ORDER BY raw_bytes LIMIT 1)": "chunk",
    "UPDATE store.model_files SET tensor_id = (SELECT min(tensor_id::text)::uuid FROM store.tensor_metadata t WHERE t.tensor_id <> model_files.tensor_id)": "size",
    "UPDATE store.tensor_metadata SET dtype = 'i8'": "size",
    "DELETE FROM store.tensor_data WHERE chunk_index = 1": "",
}
"""What is done to a file, and a word of what verify_model says of it."""


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(damage: str, db) -> None:
    model = register(db)
    data = tiny_folder()["sentencepiece.bpe.model"]
    add(db, model, "a.model", data)
    add(db, register(db, "other"), "b.model", b"another")
    db.execute("SET session_replication_role = replica")
    changed = db.execute(f"{damage}{' AND' if 'WHERE chunk_index' in damage else ' WHERE'} true")
    assert changed.rowcount > 0
    found = verified(db, model)
    assert found and any(DAMAGE[damage] in problem for _, problem in found), found
    if "sha256" not in damage:
        assert problems(db)
    if any(word in damage for word in ("sha256", "blake3", "dtype")):
        assert export(db, model, "a.model") == data
    else:
        with pytest.raises(psycopg.errors.DataCorrupted):
            export(db, model, "a.model")


def test_new_versions_have_the_files(db) -> None:
    """Of a restored checkpoint, and of a delta that is applied: rows only."""
    files = tiny_folder()
    model = register(db)
    for name, data in files.items():
        add(db, model, name, data)
    tuned = safetensors_bytes(tiny_llama(7))
    saved = checkpoint(db, model, tuned, 1).checkpoint_id
    chunks = db.execute("SELECT count(*) FROM store.tensor_chunks").fetchone()
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (saved,)).fetchone()
    assert folder(db, restored) == files | {"model.safetensors": tuned}
    assert export_model(db, restored) == tuned
    delta = b"".join(part for (part,) in db.execute("SELECT modelstore.publish_delta(%s, %s)", (model, restored)))
    (applied,) = db.execute("SELECT model_id FROM modelstore.apply_delta(%s, %b::bytea, version => '3')", (model, delta)).fetchone()
    assert folder(db, applied) == folder(db, restored)
    assert db.execute("SELECT count(*) FROM store.tensor_chunks").fetchone() == chunks
    # Each has its own.
    db.execute("SELECT modelstore.delete_model(%s, true)", (model,))
    db.execute("SELECT modelstore.gc()")
    assert folder(db, applied) == folder(db, restored) == files | {"model.safetensors": tuned} and problems(db) == []


def test_shards_in_a_folder(db) -> None:
    """An index lists the files next to it; other folders have weights of their own."""
    model = register(db)
    one, two = safetensors_bytes({"a": random_tensor(1, 9)}), safetensors_bytes({"b": random_tensor(2, 9)})
    index = json.dumps({"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}).encode()
    files = {
        "unet/one.safetensors": one,
        "unet/two.safetensors": two,
        "model.safetensors": safetensors_bytes({"a": random_tensor(3, 9)}),
        "unet/deeper/model.safetensors": safetensors_bytes({"a": random_tensor(4, 9), "b": random_tensor(5, 9)}),
        "2_Dense/model.safetensors": safetensors_bytes({"a": random_tensor(1, 9)}),
        "unet/model.safetensors.index.json": index,
    }
    for name, data in files.items():
        add(db, model, name, data)
    assert folder(db, model) == files and problems(db) == [] == verified(db, model)
    # The same names in several folders are weights of their own, and deltas find their bases.
    weights = {"a", "2_Dense/a", "unet/a", "unet/b", "unet/deeper/a", "unet/deeper/b"}
    assert {name for (name,) in db.execute("SELECT weight_name FROM store.model_weights WHERE model_id = %s", (model,))} == weights
    assert db.execute("SELECT modelstore.get_tensor(%s, '2_Dense/a') OPERATOR(modelstore.=) modelstore.get_tensor(%s, 'unet/a')", (model, model)).fetchone() == (True,)
    large = random_tensor(6, 300, 300)
    parent, child = register(db, "parent"), None
    add(db, parent, "vae/model.safetensors", safetensors_bytes({"w": large}))
    (child,) = db.execute("SELECT modelstore.register_model('child', '1', parent => %s)", (parent,)).fetchone()
    large[0] += 1
    add(db, child, "vae/model.safetensors", safetensors_bytes({"w": large}))
    assert db.execute("SELECT count(*) FROM store.tensor_chunks WHERE base_hash IS NOT NULL").fetchone() != (0,)
    assert folder(db, child) == {"vae/model.safetensors": safetensors_bytes({"w": large})} and problems(db) == []
    assert refusal(db, ADD, model, "model.safetensors.index.json", index).sqlstate == "58P02"
    # Without a name, export_safetensors has to choose.
    assert refusal(db, "SELECT modelstore.export_safetensors(%s)", model).sqlstate == "42P08"


def test_two_sessions_add_to_one_model(db, connect) -> None:
    files = tiny_folder()
    model = register(db)
    one, other = connect(autocommit=False), connect()
    one.execute(ADD, (model, "model.safetensors", files["model.safetensors"]))
    same = aside(other, ADD, (model, "model.safetensors", files["model.safetensors"]))
    wait_until(lambda: is_blocked(db, other.info.backend_pid), "it waits")
    one.commit()
    assert same.join().error.sqlstate == "23505"
    one.execute(ADD, (model, "config.json", files["config.json"]))
    different = aside(other, ADD, (model, "config.json", b'{"model_type": "bert"}'))
    wait_until(lambda: is_blocked(db, other.info.backend_pid), "it waits")
    one.commit()
    assert different.join().error.sqlstate == "23505"
    one.execute(ADD, (model, "tokenizer.json", files["tokenizer.json"]))
    removed = aside(other, DELETE, (model, "tokenizer.json"))
    wait_until(lambda: is_blocked(db, other.info.backend_pid), "it waits")
    one.commit()
    assert removed.join().rows == [(len(files["tokenizer.json"]),)]
    assert names(db, model) == ["config.json", "model.safetensors"]


def test_a_deleted_file_is_not_half_there(db, connect) -> None:
    """A new version takes the files along while one is deleted: it has the file, or not, and its content."""
    model = register(db)
    add(db, model, "model.safetensors", safetensors_bytes({"w": random_tensor(1, 9)}))
    add(db, model, "a.txt", b"some text")
    saved = checkpoint(db, model, safetensors_bytes({"w": random_tensor(2, 9)}), 1).checkpoint_id
    one, other = connect(autocommit=False), connect()
    (restored,) = one.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (saved,)).fetchone()
    deleting = aside(other, DELETE, (model, "a.txt"))
    wait_until(lambda: is_blocked(db, other.info.backend_pid), "it waits")
    one.commit()
    assert deleting.join().rows == [(9,)]
    db.execute("SELECT modelstore.gc()")
    assert export(db, restored, "a.txt") == b"some text"
    saved = checkpoint(db, restored, safetensors_bytes({"w": random_tensor(3, 9)}), 1).checkpoint_id
    one.execute(DELETE, (restored, "a.txt"))
    restoring = aside(other, "SELECT modelstore.restore_checkpoint(%s, NULL, '3')", (saved,))
    wait_until(lambda: is_blocked(db, other.info.backend_pid), "it waits")
    one.commit()
    db.execute("SELECT modelstore.gc()")
    ((again,),) = restoring.join().rows
    assert names(db, again) == ["model.safetensors"] and problems(db) == []


def test_exports_name_what_is_missing(db) -> None:
    model = register(db)
    add(db, model, "a.txt", b"text")
    error = refusal(db, "SELECT modelstore.export_file(%s, 'b.txt')", model)
    assert (error.sqlstate, error.message_primary) == ("42704", f'model {model} has no file "b.txt"')
    assert db.execute(error.message_hint).fetchall() == [("a.txt",)]
    error = refusal(db, "SELECT modelstore.export_safetensors(%s)", model)
    assert error.message_primary == f"model {model} has no safetensors file"
    (oid,) = db.execute("SELECT modelstore.export_safetensors_large_object(%s, 'a.txt')", (model,)).fetchone()
    assert db.execute("SELECT lo_get(%s)", (oid,)).fetchone() == (b"text",)
    add_large_object(db, model, "empty", b"")
    assert db.execute("SELECT modelstore.export_file(%s, 'empty')", (model,)).fetchall() == [(b"",)]


def test_constants_of_python_in_a_config(db) -> None:
    """Python's json writes Infinity and NaN, which JSON does not have: the file stays as it is, the config has strings."""
    config = {"model_type": "mamba2", "time_step_limit": [0.0, float("inf")], "low": float("-inf"), "eps": float("nan"), "note": "NaN \" Infinity"}
    data = json.dumps(config).encode()
    assert b"Infinity" in data
    model = register(db)
    add(db, model, "config.json", data)
    assert folder(db, model) == {"config.json": data}
    (stored,) = db.execute("SELECT config FROM store.models WHERE model_id = %s", (model,)).fetchone()
    assert stored == {"model_type": "mamba2", "time_step_limit": [0.0, "Infinity"], "low": "-Infinity", "eps": "NaN", "note": "NaN \" Infinity"}
    assert verified(db, model) == []


def test_json_takes_little_memory(db) -> None:
    """Neither a config nor what may be an index is built in memory: arrays of small numbers would take fifty times their size."""
    model = register(db)
    numbers = b"[" + b"0," * 3_000_000 + b"0]"
    with memory_peak(db.info.backend_pid) as peak:
        add(db, model, "x.index.json", b'{"a": ' + numbers + b"}")
    assert peak.mib < 100, peak.mib
    assert refusal(db, ADD, model, "config.json", numbers).sqlstate == "22032"


def test_a_new_version_has_no_other_formats_of_the_old_weights(db) -> None:
    """They are those of the old version."""
    model = import_model(db, safetensors_bytes({"w": random_tensor(1, 9)}), "m").model_id
    for name in ("onnx/model.onnx", "pytorch_model.bin", "tokenizer.json", "spiece.model", "model.Q4.GGUF"):
        add(db, model, name, name.encode())
    made = checkpoint(db, model, safetensors_bytes({"w": random_tensor(2, 9)}), 1).checkpoint_id
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, 'm', '2')", (made,)).fetchone()
    assert names(db, restored) == ["model.safetensors", "spiece.model", "tokenizer.json"]
