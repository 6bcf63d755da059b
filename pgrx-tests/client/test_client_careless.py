"""What careless users do: each mistake is refused at once, in words that say what was expected."""

from __future__ import annotations

import os
import pathlib
import threading
import uuid

import ml_dtypes
import numpy as np
import pg_modelstore
import psycopg
import psycopg_pool
import pytest
from folders import contents, write_folder
from models import random_tensor
from pg_modelstore import client as client_module

NOT_TENSORS = {
    "of objects": (np.array([1, "a"], object), "'w' cannot be stored: a tensor cannot have numpy dtype object, which holds Python objects"),
    "of text": (np.array(["a"]), "numpy dtype <U1"),
    "of complex128": (np.ones(2, complex), "numpy dtype complex128"),
    "of int4": (np.ones(2, ml_dtypes.int4), "numpy dtype int4"),
    "masked": (np.ma.array([1, 2], mask=[0, 1]), "mask of a masked array: give value.filled"),
    "list": ([1, 2], "cannot store list as a tensor: give a numpy array"),
    "number": (1.5, "cannot store float as a tensor"),
    "none": (None, "cannot store NoneType as a tensor"),
    "mapping": ({"b": np.ones(2)}, "'w' cannot be stored: cannot store dict"),
}


@pytest.mark.parametrize("what", NOT_TENSORS)
def test_values_that_are_no_tensors(what: str, client) -> None:
    value, message = NOT_TENSORS[what]
    with pytest.raises(TypeError, match=message):
        client.models.push({"w": value}, "m:1")
    client.models.register("draft:1")
    with pytest.raises(TypeError, match=message.removeprefix("'w' cannot be stored: ")):
        client.tensors.put("draft:1", "w", value)
    assert [row.model_name for row in client.models.list()] == ["draft"]


def test_layouts_and_shapes(client) -> None:
    a = np.arange(24).reshape(4, 6)
    arrays = {"fortran": np.asfortranarray(a), "steps": a[::2, ::-3], "turned": a.T, "big-endian": a.astype(">i4"), "scalar": np.array(2.5)}
    arrays |= {"none": np.zeros(0), "none of three": np.zeros((0, 3)), "of numpy": np.float32(1.5), "ü ☃": np.ones(1)}
    client.models.push(arrays, "Modell ☃:ü 1")
    client.models.register("draft:1")
    for name, array in arrays.items():
        client.tensors.put("draft:1", name, array)
        for model in ("Modell ☃", "draft:1"):
            got = client.tensors.get(model, name)
            assert got.shape == np.shape(array) and np.array_equal(got, array), name


def test_targets_and_metadata(client) -> None:
    state = {"w": np.ones(2)}
    for target in (None, ("m", "1"), state, 1):
        with pytest.raises(TypeError, match="a target is text"):
            client.models.push(state, target)
    with pytest.raises(TypeError, match="the source comes before it"):
        client.models.push("m:1", state)
    with pytest.raises(TypeError, match="1 is no name of a tensor"):
        client.models.push({1: np.ones(2)}, "m:1")
    with pytest.raises(ValueError, match="without tensors"):
        client.models.push({}, "m:1")
    with pytest.raises(TypeError, match="metadata is a mapping"):
        client.models.push(state, "m:1", metadata="license: mit")
    with pytest.raises(TypeError, match="metadata cannot become JSON: .*float32"):
        client.models.push(state, "m:1", metadata={"a": np.float32(1)})
    assert client.models.list() == []
    pushed = client.models.push(state, "m:1")
    with pytest.raises(TypeError, match="not by Pushed. Give its model_id."):
        client.models.find(pushed)
    for call in (client.models.find, client.models.files, lambda m: client.tensors.get(m, "w"), lambda m: client.models.pull(m, "out")):
        with pytest.raises(TypeError, match="not by NoneType"):
            call(None)
    assert client.models.find(uuid.UUID(str(pushed.model_id))) == pushed.model_id


def test_sources(client, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no org/model; a push reads a folder or a file of this machine"):
        client.models.push("org/model", "m:1")
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    with pytest.raises(ValueError, match="w.npz is a file of numpy"):
        client.models.push(tmp_path / "w.npz", "m:1")
    folder = write_folder(tmp_path / "in", {"config.json": b'{\r\n "model_type": "bert"\r\n}\r\n', "Ünï ☃.txt": b"a\r\nb\r\n"})
    (folder / "model.safetensors").symlink_to("/nowhere/blob")
    with pytest.raises(FileNotFoundError, match="model.safetensors is a symbolic link to a file that is missing"):
        client.models.push(folder, "m:1")
    (folder / "model.safetensors").unlink()
    (folder / "onnx").symlink_to(tmp_path)
    with pytest.raises(FileNotFoundError, match="onnx is a symbolic link to a folder"):
        client.models.push(folder, "m:1")
    with open(os.fsencode(folder) + b"/\xff.txt", "wb"):
        pass
    with pytest.raises(ValueError, match=r"xff.txt' is not UTF-8"):
        client.models.push(folder, "m:1", exclude="onnx")
    os.unlink(os.fsencode(folder) + b"/\xff.txt")
    assert client.models.push(folder, "m:1", exclude="onnx").files == 2, "one pattern is not a list of letters"
    (folder / "onnx").unlink()
    client.models.pull("m", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(folder)


def test_pulls_over_what_is_there(client, tmp_path: pathlib.Path) -> None:
    client.models.push(write_folder(tmp_path / "in", {"a.txt": b"a", "b.txt": b"b"}), "m:1")
    write_folder(tmp_path, {"file": b"", "out/a.txt/kept": b"", "over/a.txt": b"x", "over/own.txt": b"mine"})
    with pytest.raises(NotADirectoryError, match="a pull writes to a folder"):
        client.models.pull("m", tmp_path / "file")
    with pytest.raises(IsADirectoryError, match="a.txt is a folder, and the model has a file of this name"):
        client.models.pull("m", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["a.txt"], "something was written"
    assert client.models.pull("m", tmp_path / "one", files="a.txt") == [tmp_path / "one" / "a.txt"]
    client.models.pull("m", tmp_path / "over")
    assert {path.name: path.read_bytes() for path in (tmp_path / "over").iterdir()} == {"a.txt": b"a", "b.txt": b"b", "own.txt": b"mine"}


def test_connections(client, url: str, monkeypatch) -> None:
    monkeypatch.setattr(client_module.time, "sleep", lambda _: pytest.fail("it was tried again"))
    for wrong in ("http://localhost/x", "postgresql+psycopg://u:secret@localhost/x"):
        with pytest.raises(ValueError, match="expected postgresql://") as caught:
            pg_modelstore.connect(wrong)
        assert "secret" not in str(caught.value)
    with pytest.raises(TypeError, match="connection string, not NoneType"):
        pg_modelstore.connect(None)
    closed = pg_modelstore.connect(url)
    closed.close()
    with pytest.raises(psycopg_pool.PoolClosed, match="the client is closed"):
        closed.models.push({"w": np.ones(2)}, "m:1")
    with client.transaction() as outer:
        with pytest.raises(psycopg.InterfaceError, match="hold all 1 connections .* max_size"):
            client.models.list()
        outer.execute("SELECT 1")
    assert client.models.list() == []


def test_statements(client, db) -> None:
    assert client.query("CREATE TABLE notes (a integer)") == []
    assert db.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    with pytest.raises(psycopg.errors.NoDataFound, match="no row"):
        client.value("SELECT a FROM notes")


def test_threads_share_a_client(client) -> None:
    """Its one connection goes from one to the next."""
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            client.models.push({"w": random_tensor(number, 100, 100)}, f"m:{number}")
            assert np.array_equal(client.tensors.get(f"m:{number}", "w"), random_tensor(number, 100, 100))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == [] and len(client.models.list()) == 8


def test_metrics(client, db) -> None:
    client.models.push({"w": np.ones(2)}, "m:1")
    run = client.training("m:1", "not started")
    with pytest.raises(RuntimeError, match="has not started"):
        run.log(1, loss=1)
    for value in (None, "a", np.ones(2), {}):
        with pytest.raises((TypeError, ValueError), match='metric "acc" is no number'), client.training("m:1", "run") as run:
            run.log(1, loss=1, acc=value)
    with client.training("m:1", "run") as run:
        run.log(1, loss=np.float32(0.5), acc=float("nan"))
    assert db.execute("SELECT count(*) FROM store.training_metrics").fetchone() == (2,)


def test_the_command(command, tmp_path: pathlib.Path) -> None:
    write_folder(tmp_path / "m", {"a.txt": b"a"})
    for metadata, said in (("{bad", "argument --metadata: no JSON: "), ("[1]", "argument --metadata: expected a JSON object")):
        done = command("push", "m", "m:1", "--metadata", metadata)
        assert done.returncode == 2 and said in done.stderr, done
    done = command("push", "nowhere", "m:1")
    assert (done.returncode, done.stderr) == (3, "error: there is no nowhere; a push reads a folder or a file of this machine\n")
