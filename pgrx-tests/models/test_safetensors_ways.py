"""Imports and exports safetensors byte for byte in every supported way, and uploads in parts."""

from __future__ import annotations

import hashlib
import random
import uuid

import numpy as np
import psycopg
import pytest
import safetensors.numpy
from blake3_reference import blake3
from models import random_tensor, safetensors_bytes
from observe import problems, row_counts
from psycopg.sql import SQL
from transfer import export_model, forever, import_model, refusal, upload_in_parts

pytestmark = pytest.mark.versioned


def sample(seed: int = 1) -> dict[str, np.ndarray]:
    """A few tensors that numpy knows, from less than a chunk to several."""
    rng = np.random.default_rng(seed)
    return {
        "weight": random_tensor(seed, 700, 600),
        "half": random_tensor(seed + 1, 33, 7, dtype="float16"),
        "double": rng.standard_normal((5, 5)),
        "ids": rng.integers(-(2**63), 2**63, 1000, dtype="int64"),
        "mask": rng.integers(0, 2, (3, 4)).astype(bool),
        "scalar": np.array(2.5, "float32"),
        "nothing": np.zeros((0, 7), "float32"),
    }


def finish(db: psycopg.Connection, upload: uuid.UUID, name: str = "model") -> uuid.UUID:
    (model,) = db.execute("SELECT model_id FROM modelstore.finish_upload(%s, %s, '1')", (upload, name)).fetchone()
    return model


def by_bytea(server, db, data):
    return import_model(db, data).model_id


def by_large_object(server, db, data):
    query = """SELECT o.oid, i.model_id FROM (SELECT lo_from_bytea(0, %b) AS oid OFFSET 0) o,
               modelstore.import_safetensors_large_object('model', '1', o.oid) i"""
    oid, model = db.execute(query, (data,)).fetchone()
    db.execute("SELECT lo_unlink(%s)", (oid,))  # it was left as it was
    return model


def by_server_file(server, db, data):
    path = server.scratch / f"{uuid.uuid4()}.safetensors"
    path.write_bytes(data)
    try:
        query = "SELECT model_id FROM modelstore.import_safetensors_file('model', '1', %s)"
        return db.execute(query, (str(path),)).fetchone()[0]
    finally:
        path.unlink()


def by_upload(server, db, data):
    chance = random.Random(7)
    return finish(db, upload_in_parts(db, data, iter(lambda: chance.choice([1, 17, 4096, 65537, 300000]), 0), len(data)))


def by_copy(server, db, data):
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    with db.cursor() as cursor, cursor.copy("COPY modelstore.upload (upload_id, data) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["uuid", "bytea"])
        for at in range(0, len(data), 1 << 20):
            copy.write_row((upload, data[at : at + (1 << 20)]))
    return finish(db, upload)


def to_copy(server, db, model):
    return export_model(db, model)


def to_cursor(server, db, model):
    with db.transaction(), db.cursor(name="parts", binary=True) as cursor:
        cursor.itersize = 1
        cursor.execute("SELECT modelstore.export_safetensors(%s)", (model,))
        return b"".join(part for (part,) in cursor)


def to_query(server, db, model):
    query = "SELECT string_agg(part, '' ORDER BY n) FROM modelstore.export_safetensors(%s) WITH ORDINALITY AS e(part, n)"
    return db.execute(query, (model,), binary=True).fetchone()[0]


def to_large_object(server, db, model):
    with db.transaction():
        (oid,) = db.execute("SELECT modelstore.export_safetensors_large_object(%s)", (model,)).fetchone()
        (data,) = db.execute("SELECT lo_get(%s)", (oid,), binary=True).fetchone()
        db.execute("SELECT lo_unlink(%s)", (oid,))
    return data


def to_server_file(server, db, model):
    path = server.scratch / f"{uuid.uuid4()}.safetensors"
    (size,) = db.execute("SELECT modelstore.export_safetensors_file(%s, %s)", (model, str(path))).fetchone()
    data = path.read_bytes()
    path.unlink()
    assert size == len(data)
    return data


WAYS_IN = [by_bytea, by_large_object, by_server_file, by_upload, by_copy]
WAYS_OUT = [to_copy, to_cursor, to_query, to_large_object, to_server_file]


@pytest.mark.parametrize("way_in", WAYS_IN)
def test_every_way_in_and_out(way_in, server, db) -> None:
    tensors = sample()
    data = safetensors.numpy.save(tensors, {"format": "np", "note": "ünïcode"})
    model = way_in(server, db, data)
    for way_out in WAYS_OUT:
        out = way_out(server, db, model)
        assert out == data, way_out.__name__
    loaded = safetensors.numpy.load(out)
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert loaded[name].dtype == array.dtype and loaded[name].tobytes() == array.tobytes()
    file_bytes, sha256 = db.execute("SELECT file_bytes, sha256 FROM store.model_files").fetchone()
    assert (file_bytes, sha256) == (len(data), hashlib.sha256(data).digest())
    assert problems(db) == []
    assert not {"uploads", "upload_parts"} & row_counts(db).keys()


def test_recorded_hashes(db) -> None:
    """Against BLAKE3 written from its specification: of the file, of a tensor, of its only chunk."""
    weight = random_tensor(3, 30, 40)
    data = safetensors_bytes({"w": weight})
    import_model(db, data)
    file = db.execute("SELECT sha256, blake3 FROM store.model_files").fetchone()
    assert file == (hashlib.sha256(data).digest(), blake3(data))
    hashes = db.execute("SELECT content_hash, chunk_hash FROM store.tensor_metadata JOIN store.tensor_data USING (tensor_id)")
    assert hashes.fetchall() == [(blake3(weight.tobytes()),) * 2]


def test_upload_byte_by_byte(db) -> None:
    data = safetensors_bytes({"w": random_tensor(4, 5, 6), "b": random_tensor(5, 6)})
    model = finish(db, upload_in_parts(db, data, forever(1), len(data)))
    assert export_model(db, model) == data


def test_upload_resumes_and_refuses(db, connect) -> None:
    data = safetensors_bytes({"w": random_tensor(6, 50, 60)})
    upload = upload_in_parts(db, data[:1000], forever(999), len(data))
    append = "SELECT modelstore.append_upload(%s, %b::bytea, %s)"
    assert refusal(db, append, upload, data[500:], 500).sqlstate == "55000"
    assert refusal(db, append, upload, data[1001:], 1001).sqlstate == "55000"
    assert refusal(db, append, upload, data, 1000).sqlstate == "22023"
    assert refusal(db, "SELECT modelstore.finish_upload(%s, 'm', '1')", upload).sqlstate == "55000"
    # Another session goes on where this one stopped.
    other = connect()
    (offset,) = other.execute("SELECT modelstore.upload_offset(%s)", (upload,)).fetchone()
    assert offset == 1000
    assert other.execute(append, (upload, b"", offset)).fetchone() == (1000,)
    assert other.execute(append, (upload, data[offset:], None)).fetchone() == (len(data),)
    assert export_model(db, finish(other, upload)) == data
    for call in ("upload_offset(%s)", "abort_upload(%s)", "append_upload(%s, 'x')", "finish_upload(%s, 'm', '2')"):
        assert refusal(db, f"SELECT modelstore.{call}", upload).sqlstate == "42704", call
    assert refusal(db, "SELECT modelstore.begin_upload(-1)").sqlstate == "22023"


def test_an_upload_that_is_no_model_is_still_there(db) -> None:
    upload = upload_in_parts(db, b"no model at all", forever(4))
    assert refusal(db, "SELECT modelstore.finish_upload(%s, 'm', '1')", upload).sqlstate == "54000"
    assert row_counts(db) == {"uploads": 1, "upload_parts": 4}
    assert db.execute("SELECT modelstore.abort_upload(%s)", (upload,)).fetchone() == (15,)
    assert row_counts(db) == {}


def test_upload_of_nulls_is_refused(db) -> None:
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    assert refusal(db, "INSERT INTO modelstore.upload VALUES (%s, NULL)", upload).sqlstate == "23502"
    assert refusal(db, "INSERT INTO modelstore.upload VALUES (NULL, 'x')").sqlstate == "23502"
    assert refusal(db, "SELECT modelstore.append_upload(%s, NULL)", upload).sqlstate == "22004"


def test_export_file_never_overwrites(server, db) -> None:
    model = import_model(db, safetensors_bytes({"w": random_tensor(1, 2)})).model_id
    path = server.scratch / "there.safetensors"
    path.write_bytes(b"mine")
    export = "SELECT modelstore.export_safetensors_file(%s, %s)"
    assert refusal(db, export, model, str(path)).sqlstate == "58P02"
    assert path.read_bytes() == b"mine"
    assert refusal(db, export, model, "relative").sqlstate == "42602"
    assert refusal(db, "SELECT modelstore.import_safetensors_file('m', '2', '/does/not/exist')").sqlstate == "58P01"
    assert refusal(db, "SELECT modelstore.import_safetensors_file('m', '2', '/')").sqlstate == "42809"
    path.unlink()


def test_bytea_however_it_is_stored(db) -> None:
    """As a parameter, in line, out of line, compressed by either method."""
    data = safetensors_bytes({"w": np.zeros((400, 300), "float32"), "x": random_tensor(8, 300, 300)})
    db.execute("CREATE TABLE files (how text, data bytea)")
    for how in ("plain", "external", "extended", "main"):
        db.execute(SQL("ALTER TABLE files ALTER data SET STORAGE {}").format(SQL(how if how != "plain" else "external")))
        for method in ["pglz", "lz4"] if how in ("extended", "main") else ["pglz"]:
            try:
                db.execute(SQL("ALTER TABLE files ALTER data SET COMPRESSION {}").format(SQL(method)))
            except psycopg.errors.FeatureNotSupported:  # built without lz4
                continue
            db.execute("INSERT INTO files VALUES (%s, %b::bytea)", (f"{how} {method}", data))
    query = "SELECT how, m.model_id FROM files, modelstore.import_safetensors(how, '1', data) m"
    found = dict(db.execute(query).fetchall())
    assert len(found) >= 4
    for model in found.values():
        assert export_model(db, model) == data
