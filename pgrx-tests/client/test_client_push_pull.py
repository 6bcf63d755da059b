"""Folders, files and state_dicts into a store and back, byte for byte."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import uuid

import numpy as np
import pg_modelstore
import psycopg
import pytest
import safetensors.numpy
from folders import contents, sharded, write_folder
from models import random_tensor, safetensors_bytes
from observe import problems
from pg_modelstore.files import STATE, renamed_index, state_path
from pg_modelstore.pull import _umask, inside
from pg_modelstore.safetensors import FileSource


def test_the_form_without_a_variant_becomes_weights(client, db, tmp_path) -> None:
    """Whichever name comes first in the alphabet, small files and large ones."""
    for name, rows in (("small", 20), ("large", 2000)):
        tensors = {"a": random_tensor(1, rows, 300)}
        half = {"a": tensors["a"].astype("<f2")}
        files = {
            "model.safetensors": safetensors_bytes(tensors),
            "model.fp16.safetensors": safetensors_bytes(half),
            "consolidated.safetensors": safetensors_bytes({"layers.a": tensors["a"]}),
        }
        folder = write_folder(tmp_path / name, files)
        pushed = client.models.push(folder, f"{name}:1")
        assert (pushed.files, pushed.weights) == (3, 1)
        client.models.pull(f"{name}:1", tmp_path / f"{name}-out")
        assert contents(tmp_path / f"{name}-out") == contents(folder)
    weights = db.execute("SELECT DISTINCT file_name FROM store.model_weights").fetchall()
    assert weights == [("model.safetensors",)] and problems(db) == []


def test_a_folder_comes_back_byte_for_byte(client, db, minilm, tmp_path) -> None:
    folder = write_folder(
        tmp_path / "in",
        {
            "config.json": minilm.with_name("config.json").read_bytes(),
            "README.md": b"---\nlicense: apache-2.0\n---\n# MiniLM\n",
            "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
            "tokenizer.json": os.urandom(3_000_000),
            "empty.txt": b"",
            ".gitattributes": b"*.bin filter=lfs\n",
            ".git/HEAD": b"ref: refs/heads/main\n",
            "notes/draft.tmp": b"left out",
        },
    )
    (folder / "model.safetensors").symlink_to(minilm)
    seen: list[tuple[str, int, int]] = []
    pushed = client.models.push(
        folder, "minilm:1", exclude=["*.tmp"], metadata={"source": "test"}, progress=lambda *now: seen.append(now)
    )
    assert (pushed.label, pushed.files, pushed.weights, pushed.parameters) == ("minilm:1", 7, 104, 22713728)
    assert pushed.model_id == client.models.find("minilm") == client.models.find("minilm:1")
    assert seen[-1][0] == "tokenizer.json" and {name for name, at, total in seen if at == total} == {
        "model.safetensors",
        "tokenizer.json",
    }
    expected = contents(folder)
    del expected[".git/HEAD"], expected["notes/draft.tmp"]
    assert STATE not in os.listdir(folder)

    out = tmp_path / "out"
    paths = client.models.pull("minilm", out)
    assert contents(out) == expected and sorted(paths) == sorted(out / name for name in expected)
    assert stat.S_IMODE((out / "config.json").stat().st_mode) == 0o666 & ~_umask()
    assert {f.file_name: f.sha256.hex() for f in client.models.files("minilm")} == expected
    assert client.models.show("minilm").attention_heads == 12, "config.json has not become the config"
    assert db.execute("SELECT metadata FROM store.models").fetchone() == ({"source": "test"},)
    assert client.models.read_file("minilm", "1_Pooling/config.json") == (folder / "1_Pooling/config.json").read_bytes()

    # What is there and matches is kept; what does not is written anew; one file alone.
    before = (out / "model.safetensors").stat()
    (out / "config.json").write_bytes(b"{}")
    client.models.pull("minilm", out)
    assert contents(out) == expected and (out / "model.safetensors").stat().st_ino == before.st_ino
    assert client.models.pull("minilm", tmp_path / "one", files=["README.md"]) == [tmp_path / "one" / "README.md"]
    with pytest.raises(psycopg.errors.UndefinedObject, match="no file nope"):
        client.models.pull("minilm", tmp_path / "one", files=["nope"])

    again = client.models.push(folder, "minilm:2", exclude=["*.tmp"], parent="minilm:1", derivation="copy")
    assert again.reused_bytes >= 90856960 and again.new_bytes < 10_000
    assert [(row.version, row.derivation) for row in client.models.lineage("minilm:2")] == [("2", "copy"), ("1", None)]
    assert problems(db) == []


def test_a_sharded_model_comes_back(client, db, tmp_path) -> None:
    folder = sharded(tmp_path / "in")
    pushed = client.models.push(folder, "big:1")
    assert (pushed.files, pushed.weights) == (5, 6)
    client.models.pull("big", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(folder)
    expected = safetensors.numpy.load_file(folder / "model-00002-of-00003.safetensors")
    for name, array in expected.items():
        assert np.array_equal(client.tensors.get("big", name), array)
    assert problems(db) == []

    # A model appears with all its files or not at all: here the index names a weight that no shard has.
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.norm.weight"] = "model-00003-of-00003.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(psycopg.Error):
        client.models.push(folder, "big:2")
    assert [row.version for row in client.models.list("big")] == ["1"]

    # The shards are good: once the index is, they are not sent again. Without a file that remembers them, they are deleted.
    del index["weight_map"]["model.norm.weight"]
    wrong = (folder / "model.safetensors.index.json").read_text()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    positions = set()
    client.models.push(folder, "big:2", progress=lambda name, at, total: positions.add(total - at))
    assert positions == {0} and STATE not in os.listdir(folder)
    (folder / "model.safetensors.index.json").write_text(wrong)
    with pytest.raises(psycopg.Error):
        client.models.push(folder, "big:3", state=False)
    assert db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,), "uploads of a refused push are left behind"


def test_files_and_state_dicts(client, db, tmp_path) -> None:
    state = {"decoder.weight": random_tensor(1, 100, 64), "decoder.bias": np.zeros(64, "f2"), "scale": np.array(2.5)}
    client.models.push(state, "dict:1")
    assert client.models.read_file("dict", "model.safetensors") == safetensors.numpy.save(state)
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(state, path)
    client.models.push(path, "file:1")
    assert client.models.read_file("file", "weights.safetensors") == path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["weights.safetensors"]
    for name, array in state.items():
        got = client.tensors.get("dict:1", name)
        assert (got.dtype, got.shape) == (array.dtype, array.shape) and np.array_equal(got, array)
    assert np.array_equal(client.tensors.slice("dict", "decoder.weight", "3:10:2, :4"), state["decoder.weight"][3:10:2, :4])
    assert np.array_equal(client.tensors.slice("dict", "decoder.weight", np.s_[..., -1]), state["decoder.weight"][..., -1])
    assert np.array_equal(client.tensors.slice("dict", "decoder.weight", 5), state["decoder.weight"][5])
    with pytest.raises(TypeError, match="numbers and ranges"):
        client.tensors.slice("dict", "decoder.weight", (True,))
    statistics = {row.weight_name: row for row in client.tensors.statistics("dict:1")}
    assert statistics.keys() == state.keys()
    assert statistics["decoder.weight"].max == pytest.approx(float(state["decoder.weight"].max()))
    assert [row.weight_name for row in client.tensors.statistics("dict", "decoder.%")] == ["decoder.bias", "decoder.weight"]


def test_a_draft(client, db) -> None:
    weights = {"w": np.asfortranarray(random_tensor(1, 30, 20)), "b": np.arange(3, dtype=">f8")}
    model = client.models.register("draft:1", metadata={"a": 1})
    for name, array in weights.items():
        client.tensors.put(model, name, array)
    assert client.models.finish("draft:1").weights == 2
    for name, array in weights.items():
        assert np.array_equal(client.tensors.get("draft", name), array)
    assert safetensors.numpy.load(client.models.read_file("draft", "model.safetensors")).keys() == weights.keys()
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        client.tensors.put(model, "late", np.ones(1))
    assert problems(db) == []


def test_embedding(client, minilm) -> None:
    client.models.push(minilm, "minilm:1")
    rows = client.tensors.embedding("minilm", [101, 7592, 101])
    whole = safetensors.numpy.load_file(minilm)["embeddings.word_embeddings.weight"]
    assert np.array_equal(rows, whole[[101, 7592, 101]])
    assert np.array_equal(
        client.tensors.embedding("minilm", np.array([3]), "position"),
        safetensors.numpy.load_file(minilm)["embeddings.position_embeddings.weight"][[3]],
    )


def test_the_registry(client, db) -> None:
    repository = client.models
    a = repository.push({"w": np.ones((2, 3), "f4"), "v": np.zeros(3)}, "m:1")
    b = repository.push({"w": np.ones((2, 3), "f4") * 2, "v": np.zeros(3)}, "m:2", parent="m:1")
    repository.push({"w": np.ones(1)}, "other:1")
    assert {(row.model_name, row.version) for row in repository.list()} >= {("m", "1"), ("m", "2"), ("other", "1")}
    assert [row.model_name for row in repository.list("m")] == ["m", "m"]
    assert repository.label(a.model_id) == "m:1"
    assert repository.alias("m:1", "production") == a.model_id == repository.find("m@production")
    assert repository.find("m") == b.model_id
    assert [(row.weight_name, row.status) for row in repository.diff("m:1", "m:2")] == [("v", "same"), ("w", "changed")]
    assert [row.weight_name for row in repository.diff("m@production", b.model_id, changed_only=True)] == ["w"]
    assert repository.verify("m:1") == [] == repository.verify()
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        repository.delete("m:1")
    assert repository.delete_alias("m", "production") and not repository.delete_alias("m", "production")
    repository.alias("m:1", "production")
    assert repository.delete("m:1", cascade=True).aliases == 1
    assert repository.gc(dry_run=True).tensors > 0 and repository.gc().tensors > 0 == repository.gc().tensors
    with pytest.raises(psycopg.errors.UndefinedObject):
        repository.find("m:1")


def test_refused_before_anything_is_sent(client, db, tmp_path) -> None:
    client.models.push({"w": np.ones(1)}, "m:1")
    big = write_folder(tmp_path / "m", {"model.safetensors": safetensors_bytes({"w": random_tensor(1, 1024, 512)})})

    def never(*_: object) -> None:
        raise AssertionError("something was sent")

    with pytest.raises(psycopg.errors.UniqueViolation, match='"m" version "1"'):
        client.models.push(big, "m:1", progress=never)
    (big / "config.json").write_text("[")
    with pytest.raises(psycopg.DataError, match="config.json"):
        client.models.push(big, "m:2", progress=never)
    (big / "config.json").unlink()
    assert db.execute("SELECT count(*) FROM store.uploads").fetchone() == (0,)
    with pytest.raises(psycopg.errors.UndefinedObject, match="nobody"):
        client.models.push(big, "m:2", parent="nobody", progress=never)
    for target in ("m", "m:", ":1"):
        with pytest.raises(ValueError, match="name:version"):
            client.models.push(big, target, progress=never)
    with pytest.raises(FileNotFoundError):
        client.models.push(tmp_path / "nothing", "m:2")
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="no files"):
        client.models.push(tmp_path / "none", "m:2")
    with pytest.raises(psycopg.errors.WrongObjectType):
        client.models.push(
            write_folder(tmp_path / "lfs", {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"}),
            "m:2",
        )


def test_a_name_from_the_server_stays_in_the_folder(tmp_path) -> None:
    for name in ("../x", "/etc/x", "a/../../x", "a\\..\\x", "", "x\0"):
        with pytest.raises(psycopg.DataError, match="leads out"):
            inside(tmp_path, name)
    for name in (".git/hooks/post-checkout", "a/.GIT/config", ".git", "git~1/config", ".git. /config", ".ssh/config", "a/.cache/x"):
        with pytest.raises(psycopg.DataError, match="hidden folder"):
            inside(tmp_path, name)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "away").symlink_to(tmp_path)
    (tmp_path / "in" / "near").symlink_to(tmp_path / "in")
    for name in ("away/x", "away/new/x"):
        with pytest.raises(psycopg.DataError, match="symbolic link"):
            inside(tmp_path / "in", name)
    for name in ("a/b.json", ".gitattributes", "near/x", "a/..b"):
        assert inside(tmp_path / "in", name) == tmp_path / "in" / name


def test_nothing_is_written_if_a_name_is_refused(client, db, tmp_path) -> None:
    client.models.push(write_folder(tmp_path / "in", {"a.txt": b"a"}), "m:1")
    db.execute("SELECT modelstore.add_file('m', '.git/hooks/post-checkout', %b)", (b"#!/bin/sh",))
    with pytest.raises(psycopg.DataError, match="hidden folder"):
        client.models.pull("m", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []
    assert client.models.pull("m", tmp_path / "out", files=["a.txt"]) == [tmp_path / "out" / "a.txt"]


def test_the_longest_name(client, tmp_path) -> None:
    """255 bytes, which leave no room for the name of a temporary file."""
    name = "é" * 121 + ".safetensors" + "x"
    path = write_folder(tmp_path / "in", {name: safetensors_bytes({"w": random_tensor(1, 1024, 512)})}) / name
    client.models.push(path, "m:1")
    assert client.models.pull("m", tmp_path / "out")[0].read_bytes() == path.read_bytes()
    state = state_path(path, True)
    assert state is not None and len(os.fsencode(state.name + ".new")) <= 255 and state != state_path("b", True)


def test_short_reads(client, tmp_path, monkeypatch) -> None:
    """A file that gives a few bytes at a time, as some network file systems do."""
    data = os.urandom(100_000)
    folder = write_folder(tmp_path / "in", {"a.bin.txt": data})
    original = pathlib.Path.open

    class Slow:
        def __init__(self, file) -> None:
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None:
            self.file.close()

        def seek(self, at: int) -> None:
            self.file.seek(at)

        def readinto(self, buffer) -> int:
            return self.file.readinto(buffer[:30_000])

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", lambda *args, **more: Slow(original(*args, **more)))
        parts = [bytes(part) for part in FileSource(folder / "a.bin.txt").parts(10, 100_000, 40_000)]
        client.models.push(folder, "m:1", state=False)
    assert [len(part) for part in parts] == [40_000, 40_000, 19_990] and b"".join(parts) == data[10:]
    assert client.models.read_file("m", "a.bin.txt") == data


def test_a_uuid_that_does_not_exist(client, tmp_path) -> None:
    for unknown in (uuid.UUID(int=7), str(uuid.UUID(int=7)), "nobody"):
        for call in (client.models.find, client.models.show, client.models.files, lambda name: client.models.pull(name, tmp_path / "out")):
            with pytest.raises(psycopg.errors.UndefinedObject):
                call(unknown)
    assert not (tmp_path / "out").exists()


def test_changed_bytes_are_noticed(client, db, tmp_path) -> None:
    """What arrives is compared with the store's SHA-256; nothing appears under the file's name."""
    client.models.push({"w": random_tensor(1, 10, 10)}, "m:1")
    db.execute("UPDATE store.model_files SET sha256 = sha256('other')")
    with pytest.raises(psycopg.DataError, match="another SHA-256"):
        client.models.pull("m", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_stores(client, url, connect) -> None:
    client.value("SELECT modelstore.create_store('experiments')")
    with pg_modelstore.connect(url, store="experiments") as other:
        other.models.push({"w": np.ones(2)}, "m:1")
        assert other.schema == "experiments" and [row.model_name for row in other.models.list()] == ["m"]
        assert [row.weight_name for row in other.tensors.statistics("m")] == ["w"]
        with other.pool.connection() as connection:
            assert connection.execute("SELECT store FROM modelstore.stores() WHERE is_current").fetchone() == ("store",), (
                "the store outlives the transaction"
            )
    assert client.models.list() == [] and client.schema == "store"
    with pg_modelstore.connect(url, store="nowhere") as other, pytest.raises(psycopg.errors.InvalidSchemaName):
        other.tensors.statistics("m")


def test_connect_says_what_is_missing(new_database, home) -> None:
    url = f"host={home.server.socket} port={home.server.port} user={home.user} dbname="
    with pytest.raises(psycopg.errors.UndefinedObject, match="CREATE EXTENSION"):
        pg_modelstore.connect(url + new_database())
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        pg_modelstore.connect(url + "no_such_database")


def test_pickles_take_torch(client, tmp_path, monkeypatch) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    for source in (tmp_path, tmp_path / "pytorch_model.bin"):
        with pytest.raises(
            ImportError,
            match=r"pytorch_model.bin was written by torch.save; converting it takes torch: pip install 'pg-modelstore\[torch\]'",
        ):
            client.models.push(source, "m:1")


def test_an_index_of_pickles_names_the_files_they_become() -> None:
    """Without torch; with it, the next test converts the files as well."""
    index = {"metadata": {"total_size": 8}, "weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}
    renamed = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    assert json.loads(renamed_index(json.dumps(index).encode())) == {"metadata": {"total_size": 8}, "weight_map": renamed}


def test_pickles_become_safetensors(client, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    one, two = {"a": torch.arange(6.0).reshape(2, 3).T}, {"b": torch.ones(3, dtype=torch.bfloat16)}
    folder = tmp_path / "bins"
    folder.mkdir()
    torch.save(one, folder / "pytorch_model-00001-of-00002.bin")
    torch.save(two, folder / "pytorch_model-00002-of-00002.bin")
    index = {"metadata": {}, "weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    client.models.push(folder, "bins:1")
    client.models.pull("bins", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    ]  # fmt: skip
    assert (tmp_path / "out" / "model-00001-of-00002.safetensors").read_bytes() == save(
        {"a": one["a"].contiguous()}, {"format": "pt"}
    )
    torch.save({"state_dict": one | two, "epoch": 3}, tmp_path / "last.ckpt")
    client.models.push(tmp_path / "last.ckpt", "ckpt:1")
    assert client.models.read_file("ckpt", "model.safetensors") == save({"a": one["a"].contiguous()} | two, {"format": "pt"})

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "evil"),))

    torch.save({"w": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="evil.pt holds something other than tensors"):
        client.models.push(tmp_path / "evil.pt", "evil:1")
    assert not (tmp_path / "evil").exists()
