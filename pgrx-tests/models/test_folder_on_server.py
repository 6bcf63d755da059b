"""Folders of the server: imported whole, and written whole or not at all."""

from __future__ import annotations

import os
import pathlib
import uuid

import psycopg
import pytest
from checkpoints import register
from folders import add, folder, tiny_folder
from models import LLAMA_CONFIG, random_tensor, safetensors_bytes
from harness import wait_until
from observe import aside, is_blocked, problems, row_counts
from psycopg.rows import namedtuple_row
from transfer import refusal

pytestmark = pytest.mark.versioned

IMPORT = "SELECT * FROM modelstore.import_folder('m', %s, %s)"
EXPORT = "SELECT * FROM modelstore.export_folder(%s, %s)"


@pytest.fixture
def place(server) -> pathlib.Path:
    """A folder in which the server may write."""
    path = server.scratch / str(uuid.uuid4())
    path.mkdir()
    path.chmod(0o777)
    return path


def write(files: dict[str, bytes], path: pathlib.Path) -> pathlib.Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def read(path: pathlib.Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def load(db: psycopg.Connection, path: pathlib.Path, version: str = "1"):
    with db.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(IMPORT, (version, str(path))).fetchone()


def test_there_and_back(db, place) -> None:
    files = tiny_folder()
    loaded = load(db, write(files, place / "in"))
    assert (loaded.files, loaded.weights) == (7, 30) and loaded.raw_bytes > 1 << 20
    assert folder(db, loaded.model_id) == files and problems(db) == []
    described = db.execute("SELECT architecture, layers, kv_heads, status FROM store.v_model_architecture").fetchone()
    assert described == ("llama", 3, 2, "ready")
    assert db.execute("SELECT config FROM store.models").fetchone() == (LLAMA_CONFIG,)
    again = load(db, place / "in", "2")
    assert (again.new_chunks, again.reused_bytes) == (0, again.raw_bytes)
    (place / "empty").mkdir()
    (place / "empty").chmod(0o777)
    for out in (place / "out", place / "empty"):
        assert db.execute(EXPORT, (loaded.model_id, str(out))).fetchone() == (7, sum(map(len, files.values())))
        assert read(out) == files
    assert sorted(path.name for path in place.iterdir()) == ["empty", "in", "out"]


def test_a_sharded_model_and_one_without_weights(db, place) -> None:
    files = {
        "model-1.safetensors": safetensors_bytes({"a": random_tensor(1, 9)}),
        "model-2.safetensors": safetensors_bytes({"b": random_tensor(2, 9)}),
        "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
        "pytorch_model.bin.index.json": b'{"weight_map": {"a": "pytorch_model-1.bin"}}',
        "onnx/model.onnx": b"\x08\x07\x12\x07pytorch\x1a",
    }
    loaded = load(db, write(files, place / "in"))
    assert loaded.weights == 2 and folder(db, loaded.model_id) == files
    formats = "SELECT format, count(*) FROM store.model_files GROUP BY 1 ORDER BY 1"
    assert db.execute(formats).fetchall() == [("file", 2), ("safetensors", 2), ("safetensors_index", 1)]
    bare = load(db, write({"config.json": b"{}"}, place / "bare"), "2")
    assert (bare.files, bare.weights) == (1, 0)
    assert db.execute("SELECT status, config FROM store.models WHERE version = '2'").fetchone() == ("registered", {})
    assert problems(db) == []


def test_links_and_what_is_no_file(db, place) -> None:
    path = write({"a.txt": b"a", "d/b.txt": b"b", ".git/objects/x": b"x", ".cache/huggingface/y": b"y"}, place / "in")
    (path / "link.txt").symlink_to("d/b.txt")
    assert folder(db, load(db, path).model_id) == {"a.txt": b"a", "d/b.txt": b"b", "link.txt": b"b"}
    before = row_counts(db)

    def refused(state: str, words: str) -> None:
        error = refusal(db, IMPORT, "2", str(path))
        assert error.sqlstate == state and words in error.message_primary, (error.sqlstate, error.message_primary)
        assert row_counts(db) == before

    for target, state, words in (("/etc/hostname", "42809", "leads out"), ("..", "42809", "regular"), ("d", "42809", "regular"), ("nothing", "58P01", "nothing")):
        (path / "other").symlink_to(target)
        refused(state, words if target != "nothing" else "other")
        (path / "other").unlink()
    os.mkfifo(path / "pipe")
    refused("42809", "regular")
    (path / "pipe").unlink()
    for name, state in ((b"\xff", "22021"), (b"a\nb", "42602"), (b"back\\slash", "42602")):
        odd = os.path.join(os.fsencode(path), name)
        with open(odd, "wb"):
            pass
        refused(state, "file")
        os.unlink(odd)
    (path / "model.safetensors").write_bytes(b"GGUF")
    refused("42809", 'file "model.safetensors": file is a GGUF file')
    (path / "model.safetensors").unlink()
    deep = path / "/".join("d" * 17)
    deep.mkdir(parents=True)
    refused("54000", "too many")
    assert refusal(db, IMPORT, "2", str(place / "nothing")).sqlstate == "58P01"
    (place / "empty").mkdir()
    assert refusal(db, IMPORT, "2", str(place / "empty")).sqlstate == "58P01"
    assert refusal(db, IMPORT, "2", "relative").sqlstate == "42602"


def test_an_export_is_whole_or_not_there(db, place) -> None:
    model = register(db)
    add(db, model, "a/b.txt", b"text")
    add(db, model, "z.bin", bytes(3 << 20))

    def refused(path: pathlib.Path, state: str) -> None:
        before = read(place)
        assert refusal(db, EXPORT, model, str(path)).sqlstate == state
        assert read(place) == before and not list(place.glob("*.partial"))

    taken = write({"file": b"mine"}, place / "taken")
    taken.chmod(0o777)
    refused(taken, "58P02")
    refused(taken / "file", "58P02")
    (place / "link").symlink_to(place / "elsewhere")
    refused(place / "link", "58P02")
    refused(place / "no" / "parent", "58P01")
    refused(pathlib.Path("/"), "58P02")
    refused(pathlib.Path("relative"), "42602")
    db.execute("UPDATE store.tensor_chunks SET chunk = (SELECT chunk FROM store.tensor_chunks ORDER BY raw_bytes LIMIT 1)")
    refused(place / "out", "XX001")
    # Names that someone wrote into the table.
    for name in ("../escaped", "/tmp/escaped", "a/b.txt/c"):
        with db.transaction(force_rollback=True):
            db.execute("UPDATE store.model_files SET file_name = %s WHERE file_name = 'z.bin'", (name,))
            with pytest.raises(psycopg.Error) as error, db.transaction():
                db.execute(EXPORT, (model, str(place / "out")))
            assert error.value.sqlstate in ("42602", "58P02", "58030", "XX001"), error.value
    assert sorted(path.name for path in place.iterdir()) == ["link", "taken"]
    assert refusal(db, EXPORT, register(db, "bare"), str(place / "out")).sqlstate == "42704"


def test_only_roles_that_may(db, connect, place) -> None:
    name = f"folder_{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE ROLE {name} LOGIN")
    db.execute(f"GRANT USAGE ON SCHEMA modelstore, store TO {name}")
    db.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA store TO {name}")
    path = write({"a.txt": b"a"}, place / "in")
    model = load(db, path).model_id
    c = connect(user=name)
    assert refusal(c, IMPORT, "2", str(path)).sqlstate == "42501"
    assert refusal(c, EXPORT, model, str(place / "out")).sqlstate == "42501"
    db.execute(f"GRANT pg_read_server_files, pg_write_server_files TO {name}")
    assert load(c, path, "2").files == 1
    assert c.execute(EXPORT, (model, str(place / "out"))).fetchone() == (1, 1)
    db.execute(f"DROP OWNED BY {name} CASCADE")
    db.execute(f"DROP ROLE {name}")


def test_a_link_that_is_put_in_place_of_a_file(db, connect, place) -> None:
    """A file is looked at where it is whenever it is read: who may write to the folder cannot have another file read."""
    path = write({"model.safetensors": safetensors_bytes({"w": random_tensor(1, 9)}), "z.txt": b"x" * 20}, place / "in")
    secret = write({"secret": b"s" * 20}, place) / "secret"
    first = connect(autocommit=False)
    first.execute("SELECT modelstore.register_model('m', '1')")
    # It has seen all files, and waits to see whether the name is taken.
    running = aside(db, IMPORT, ("1", str(path)))
    wait_until(lambda: is_blocked(first, db.info.backend_pid), "the import waits")
    (path / "z.txt").unlink()
    (path / "z.txt").symlink_to(secret)
    first.rollback()
    error = running.join().error
    assert error is not None and error.sqlstate == "42809" and "leads out of the folder" in str(error)
    assert row_counts(db) == {}
