"""safetensors in by every way, out by every way, byte for byte; and every way a file can be wrong."""

from __future__ import annotations

import hashlib
import json
import random
import re
import uuid
from collections.abc import Iterator

import models
import numpy as np
import psycopg
import pytest
import safetensors
import safetensors.numpy
from blake3_reference import blake3
from conftest import make_template
from harness import ROOT, Server
from models import DTYPES, file_of, random_raw, random_tensor, raw_file, safetensors_bytes
from psycopg.sql import SQL
from transfer import export_model, import_model, problems, refusal, rows_left


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


# Ways in and out


def upload_in_parts(db: psycopg.Connection, data: bytes, sizes: Iterator[int], expected: int | None = None) -> uuid.UUID:
    (upload,) = db.execute("SELECT modelstore.begin_upload(%s)", (expected,)).fetchone()
    at, parts = 0, []
    while at < len(data):
        part = data[at : at + next(sizes)]
        parts.append((upload, part, at))
        at += len(part)
    with db.transaction(), db.cursor() as cursor:
        cursor.executemany("SELECT modelstore.append_upload(%s, %b, %s)", parts)
    return upload


def finish(db: psycopg.Connection, upload: uuid.UUID, name: str = "model") -> uuid.UUID:
    (model,) = db.execute("SELECT model_id FROM modelstore.finish_upload(%s, %s, '1')", (upload, name)).fetchone()
    return model


def forever(size: int) -> Iterator[int]:
    while True:
        yield size


def by_bytea(server, db, data):
    return import_model(db, data).model_id


def by_large_object(server, db, data):
    query = """SELECT o.oid, i.model_id FROM (SELECT lo_from_bytea(0, %b) AS oid OFFSET 0) o,
               modelstore.import_safetensors('model', '1', o.oid) i"""
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
    with db.cursor() as cursor, cursor.copy("COPY modelstore.upload FROM STDIN (FORMAT binary)") as copy:
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
    assert not {"uploads", "upload_parts"} & rows_left(db).keys()


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
    assert rows_left(db) == {"uploads": 1, "upload_parts": 4}
    assert db.execute("SELECT modelstore.abort_upload(%s)", (upload,)).fetchone() == (15,)
    assert rows_left(db) == {}


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


# What a file may hold


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, db) -> None:
    rng = np.random.default_rng(sum(dtype.encode()))
    shapes = {"matrix": (6, 8), "rank1": (24,), "rank3": (2, 3, 4), "empty": (0,), "hollow": (3, 0, 4), "large": (70, 4 << 10)}
    if DTYPES[dtype][0] == 1:
        shapes |= {"scalar": (), "deep": (1,) * 31 + (2,)}
    tensors = {name: random_raw(rng, dtype, *shape) for name, shape in shapes.items()}
    data = raw_file(tensors)
    # The format's own library agrees that this is a file.
    assert {name: bytes(t["data"]) for name, t in safetensors.deserialize(data)} == {n: t[2] for n, t in tensors.items()}
    model = import_model(db, data).model_id
    assert export_model(db, model) == data
    query = "SELECT modelstore.dtype(t), modelstore.shape(t), modelstore.tobytes(t) FROM modelstore.get_tensor(%s, %s) t"
    for name, (_, shape, raw) in tensors.items():
        assert db.execute(query, (model, name), binary=True).fetchone() == (dtype.lower(), list(shape), raw)
    assert problems(db) == []


def test_all_dtypes_in_one_file(db) -> None:
    rng = np.random.default_rng(0)
    data = raw_file({dtype: random_raw(rng, dtype, 3, 4) for dtype in DTYPES})
    assert export_model(db, import_model(db, data).model_id) == data
    assert db.execute("SELECT count(DISTINCT dtype) FROM store.tensor_metadata").fetchone() == (22,)


def f32(*values: float) -> models.Raw:
    return "F32", (len(values),), np.array(values, "float32").tobytes()


ODD_FILES = {
    "no tensors": file_of({}),
    "no tensors, metadata": file_of({"__metadata__": {"format": "pt"}}),
    "empty metadata": raw_file({"w": f32(1)}, {}),
    "keys in another order than the data": raw_file({"a": f32(1), "b": f32(2, 3), "c": f32(4)}, keys=["c", "a", "b"]),
    "unaligned": raw_file({"a": ("U8", (3,), b"abc"), "b": f32(1, 2), "c": ("U8", (1,), b"d"), "d": ("F64", (1,), b"12345678")}),
    "padded": raw_file({"a": f32(1)}, padding=4000),
    "fields in another order": file_of({"a": {"data_offsets": [0, 4], "shape": [1], "dtype": "F32"}}, b"abcd"),
    "empty tensors between": raw_file({"z": ("F32", (0,), b""), "a": f32(1), "y": ("I8", (2, 0), b""), "b": f32(2), "x": ("I64", (0, 0), b"")}),
    "only an empty tensor": raw_file({"z": ("F32", (0,), b"")}),
    "equal tensors": raw_file({"a": f32(1, 2), "b": f32(1, 2), "c": ("I32", (2,), f32(1, 2)[2]), "d": ("F32", (2, 1), f32(1, 2)[2])}),
    "white space": file_of(b'{ "a" :\n{"dtype":"F32" ,"shape": [ 1 ],"data_offsets":[0 ,\t4] } }  ', b"abcd"),
    "unicode names": raw_file({n: f32(i) for i, n in enumerate(["层.0.重み", "poids-é", "e\u0301", "\U0001f600", "a b", "a\nb", "'\"\\%", "./../x"])}),
    "escaped names": file_of(rb'{"\u5c42\ud83d\ude00\/\t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"abcd"),
    "long name": raw_file({"n" * 1024: f32(1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_but_right(name, db) -> None:
    data = ODD_FILES[name]
    model = import_model(db, data).model_id
    assert export_model(db, model) == data
    expected = {entry[0]: bytes(entry[1]["data"]) for entry in safetensors.deserialize(data)}
    stored = db.execute(
        "SELECT weight_name, modelstore.tobytes(modelstore.reconstruct_tensor(tensor_id)) FROM store.model_weights", binary=True
    )
    assert dict(stored.fetchall()) == expected
    assert problems(db) == []


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


# What a file may not hold


def tensor(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets} | more


GOOD = {"a": tensor(), "b": tensor(shape=[2], offsets=[4, 12])}
DATA = bytes(range(12))
HUGE = 2**63 - 1

# Rule: SQLSTATE, files that break it.
MALFORMED: dict[str, tuple[str, list[bytes]]] = {
    "Truncated": ("22026", [b"", bytes(7), file_of(GOOD, DATA)[:-1], b"\x64" + bytes(7) + b"{}", file_of(GOOD)]),
    "HeaderTooLong": ("54000", [b"\xff" * 8, b"\xff" * 7 + b"\x7f{}", (100_000_001).to_bytes(8, "little") + b"{}"]),
    "NotAnObject": ("2203C", [bytes(8), file_of(b""), file_of(b"[]"), file_of(b" {}"), file_of(b"null"), file_of(b"\xef\xbb\xbf{}")]),
    "InvalidUtf8": ("22021", [file_of(b'{"\xff":1}'), file_of(b'{"\xc0\x80":1}'), file_of(b'{"\xed\xa0\x80":1}'), file_of(b'{"\xe2\x82')]),
    "InvalidJson": ("22032", [
        file_of(b"{"), file_of(b"{]"), file_of(b"{'a':1}"), file_of(b"{}{}"), file_of(b"{} x"), file_of(b"{}\0"),
        file_of(b'{"a":NaN}'), file_of(b'{"\\ud800":1}'), file_of(b'{"a\nb":1}'), file_of(b"{" * 5000), file_of(b'{"__metadata__":{},}'),
        file_of(b'{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}', b"abcd"),
    ]),
    "WrongType": ("42804", [
        file_of({"a": 1}), file_of({"a": []}), file_of({"a": None}), file_of({"a": tensor(shape=1)}, DATA[:4]),
        file_of({"a": tensor(shape=["1"])}), file_of({"a": tensor() | {"dtype": 1}}), file_of({"__metadata__": 1}),
        file_of({"__metadata__": {"k": 1}}), file_of({"__metadata__": {"k": {}}}), file_of({"__metadata__": None}),
        file_of(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"),
    ]),
    "DuplicateKey": ("22030", [
        file_of(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
        file_of(b'{"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
        file_of(b'{"__metadata__":{},"__metadata__":{}}'), file_of(b'{"__metadata__":{"k":"1","k":"2"}}'),
        file_of(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
    ]),
    "UnknownField": ("42703", [file_of({"a": tensor(strides=[1])}, DATA[:4])]),
    "MissingField": ("2203A", [file_of({"a": {}})] + [file_of({"a": {k: v for k, v in tensor().items() if k != gone}}, DATA[:4]) for gone in tensor()]),
    "UnknownDtype": ("42704", [file_of({"a": tensor(dtype)}, DATA[:4]) for dtype in ("F33", "f32", "Q4_0", "", "F32 ")]),
    "InvalidNumber": ("22036", [
        file_of({"a": tensor(shape=[-1])}), file_of({"a": tensor(shape=[1.5])}), file_of({"a": tensor(shape=[1e300])}),
        file_of({"a": tensor(shape=[2**64])}), file_of({"a": tensor(offsets=[-4, 0])}), file_of({"a": tensor(offsets=[0, 2**64])}),
        file_of({"a": tensor(shape=[1.0])}, DATA[:4]),
    ]),
    "InvalidShape": ("2202E", [
        file_of({"a": tensor(shape=[1] * 33)}, DATA[:4]), file_of({"a": tensor(shape=[2**32, 2**32])}), file_of({"a": tensor(shape=[2**61])}),
        file_of({"a": tensor(shape=[2**63, 0], offsets=[0, 0])}),
    ]),
    "PartialByte": ("22023", [file_of({"a": tensor("F4", [3], [0, 2])}, b"ab"), file_of({"a": tensor("F6_E2M3", [2], [0, 2])}, b"ab")]),
    "OffsetCount": ("2203D", [file_of({"a": tensor(offsets=o)}, DATA[:4]) for o in ([], [0], [0, 4, 4], [0] * 1000)]),
    "OffsetOrder": ("22011", [file_of({"a": tensor(offsets=[4, 0])}, DATA[:4])]),
    "OffsetOverflow": ("22003", [file_of({"a": tensor("U8", [HUGE], [0, HUGE])}, DATA[:4])]),
    "WrongLength": ("22P03", [file_of({"a": tensor(offsets=[0, 8])}, DATA[:8]), file_of({"a": tensor(shape=[0])}, DATA[:4]), file_of({"a": tensor(offsets=[0, 2**64 - 1])}, DATA)]),
    "Hole": ("22P04", [
        file_of({"a": tensor(offsets=[4, 8])}, DATA[:8]), file_of({"a": tensor(), "b": tensor(offsets=[8, 12])}, DATA),
        file_of({"a": tensor("U8", [7], [2**64 - 8, 2**64 - 1])}), file_of({"a": tensor(shape=[0], offsets=[1, 1])}, b"a"),
    ]),
    "Overlap": ("23P01", [
        file_of({"a": tensor(), "b": tensor()}, DATA[:4]), file_of({"a": tensor(), "b": tensor("U8", [4], [3, 7])}, DATA[:7]),
        file_of({"a": tensor("U8", [8], [0, 8]), "b": tensor(offsets=[2, 6])}, DATA[:8]), file_of({"a": tensor(), "z": tensor(shape=[0], offsets=[2, 2])}, DATA[:4]),
    ]),
    "TrailingBytes": ("22001", [file_of(GOOD, DATA + b"x"), file_of({}, b"x"), file_of({"a": tensor(shape=[0], offsets=[0, 0])}, b"x")]),
    "EmptyName": ("2200F", [file_of({"": tensor()}, DATA[:4])]),
    "NulCharacter": ("22P05", [file_of({"a\0b": tensor()}, DATA[:4]), file_of({"__metadata__": {"k\0": "v"}}), file_of({"__metadata__": {"k": "\0"}})]),
    "NameTooLong": ("42622", [file_of({"n" * 1025: tensor()}, DATA[:4])]),
}  # fmt: skip

# Rules of an index.json, which tests below break.
INDEX_RULES = {
    "MissingKey": "42P02", "InvalidFileName": "42602", "MissingFile": "58P01", "UnexpectedFile": "58P02",
    "MissingTensor": "23503", "UnexpectedTensor": "23514", "MisplacedTensor": "23000",
}  # fmt: skip

# Only a writer of files could break these, or two files of one name, which model_files has no place for.
UNREACHABLE = {"UnsupportedDtype", "ReservedName", "RepeatedFile"}


@pytest.fixture(scope="module")
def clean(server: Server, template: str) -> Iterator[psycopg.Connection]:
    """One store that every refused file leaves empty."""
    with server.connect(make_copy(server, template, "refusals"), autocommit=True) as connection:
        yield connection


def make_copy(server: Server, template: str, name: str) -> str:
    with server.connect(autocommit=True) as c:
        c.execute(SQL(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"))
    return name


IMPORT = "SELECT modelstore.import_safetensors('model', '1', %b::bytea)"


@pytest.mark.parametrize("rule", MALFORMED)
def test_malformed_file(rule, clean) -> None:
    state, files = MALFORMED[rule]
    for data in files:
        diag = refusal(clean, IMPORT, data)
        assert diag.sqlstate == state, (data[:200], diag.message_primary)
        assert diag.message_primary[0] != diag.message_primary[0].upper() or diag.message_primary.startswith("JSON")
        assert not diag.message_primary.endswith(".")
        assert diag.message_detail is None or diag.message_detail.endswith(".")
    assert rows_left(clean) == {}


def test_each_rule_has_an_sqlstate_of_its_own_and_a_test() -> None:
    source = (ROOT / "src" / "error.rs").read_text()
    rules = dict(re.findall(r"K::(\w+) => Code::(ERRCODE_\w+)", source))
    assert rules.keys() == MALFORMED.keys() | INDEX_RULES.keys() | UNREACHABLE
    assert len(set(rules.values())) == len(rules)
    tested = [state for state, _ in MALFORMED.values()] + list(INDEX_RULES.values())
    assert len(set(tested)) == len(tested)


def test_truncated_at_every_byte(clean) -> None:
    data = raw_file({"a": f32(1, 2), "é": ("U8", (3,), b"abc")}, {"k": "v"})
    for length in range(len(data)):
        assert refusal(clean, IMPORT, data[:length]).sqlstate == "22026", length
    json_length = int.from_bytes(data[:8], "little")
    for length in range(1, json_length):
        # A header that ends early, with the length to match.
        state = refusal(clean, IMPORT, file_of(data[8 : 8 + length], data[8 + json_length :])).sqlstate
        assert state in {"22032", "22021"}, length
    assert rows_left(clean) == {}
    import_model(clean, data)
    clean.execute("SELECT modelstore.delete_model(model_id) FROM store.models")
    clean.execute("SELECT modelstore.gc()")
    assert rows_left(clean) == {}


def test_the_reference_agrees() -> None:
    """What is refused here is refused by the format's own library, but for what it is lax about."""

    def reads(data: bytes) -> bool:
        try:
            safetensors.deserialize(data)
        except safetensors.SafetensorError:
            return False
        return True

    lax = {(rule, i) for rule, (_, files) in MALFORMED.items() for i, data in enumerate(files) if reads(data)}
    assert lax == {
        ("NotAnObject", 3),  # white space in front, against its own rule
        ("WrongType", 9),  # a metadata of null
        *(("DuplicateKey", i) for i in (0, 3, 4)),  # the last one wins
        *(("InvalidShape", i) for i in (0, 3)),  # 33 dimensions; one of 2^63 beside a 0
        *(("NulCharacter", i) for i in range(3)),
        ("UnknownField", 0), ("EmptyName", 0), ("NameTooLong", 0),
    }  # fmt: skip


# Several files that are one model


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
    before = rows_left(db)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert refusal(db, load.replace("'1'", "'2'"), str(folder / INDEX)).sqlstate == "58P01"
    (folder / "model-00002-of-00002.safetensors").write_bytes(files["model-00002-of-00002.safetensors"][:-1])
    diag = refusal(db, load.replace("'1'", "'2'"), str(folder / INDEX))
    assert diag.sqlstate == "22026" and "model-00002-of-00002" in diag.message_primary
    assert rows_left(db) == before
    assert problems(db) == []


def register(db: psycopg.Connection) -> uuid.UUID:
    return db.execute("SELECT modelstore.register_model('sharded', '1')").fetchone()[0]


ADD = "SELECT modelstore.add_safetensors(%s, %s::text, %b::bytea)"


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


# What the store saves


def test_the_same_model_again_and_with_a_few_tensors_changed(db) -> None:
    tensors = {f"layer.{i}.weight": random_tensor(100 + i, 200, 300) for i in range(40)}
    first = import_model(db, safetensors_bytes(tensors), version="1")
    assert first.raw_bytes == 40 * 200 * 300 * 4 and first.reused_bytes == 0
    assert 0 < first.new_bytes <= 0.9 * first.raw_bytes
    again = import_model(db, safetensors_bytes(tensors), version="2")
    assert (again.new_chunks, again.new_bytes, again.reused_bytes) == (0, 0, first.raw_bytes)
    changed = tensors | {f"layer.{i}.weight": random_tensor(200 + i, 200, 300) for i in (3, 30)}
    third = import_model(db, safetensors_bytes(changed), version="3")
    assert third.new_chunks == 2 and third.new_bytes < 0.05 * third.raw_bytes
    assert third.reused_bytes == first.raw_bytes * 38 // 40
    assert export_model(db, third.model_id) == safetensors_bytes(changed)


def slightly_changed(array: np.ndarray, seed: int) -> np.ndarray:
    """The same numbers but for one in a hundred, which differs by a thousandth."""
    rng = np.random.default_rng(seed)
    child = array.copy().reshape(-1)
    picked = rng.choice(child.size, child.size // 100, replace=False)
    child[picked] *= np.float32(1.001)
    return child.reshape(array.shape)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_child_is_stored_as_differences(dtype, db) -> None:
    weights = [random_tensor(50, 900, 600)]
    for generation in range(6):
        weights.append(slightly_changed(weights[-1], generation))
    bits = [models.to_bf16(w) if dtype == "BF16" else w for w in weights]
    files = [raw_file({"w": (dtype, w.shape, b.tobytes())}) for w, b in zip(weights, bits, strict=True)]
    family, parent = [], None
    for version, data in enumerate(files):
        family.append(import_model(db, data, version=str(version), parent=parent))
        parent = family[-1].model_id
    depths = db.execute("""
        SELECT m.version::int, c.delta_depth, modelstore.codec(c.chunk), (c.base_hash IS NOT NULL), sum(c.stored_bytes), sum(c.raw_bytes)
        FROM store.models m JOIN store.model_weights USING (model_id) JOIN store.tensor_data USING (tensor_id)
        JOIN store.tensor_chunks c USING (chunk_hash) GROUP BY 1, 2, 3, 4 ORDER BY 1""").fetchall()
    # Four differences on top of one another; the next is one to the first again.
    assert [(v, depth, codec) for v, depth, codec, *_ in depths] == [
        (0, 0, "planes"), (1, 1, "delta"), (2, 2, "delta"), (3, 3, "delta"), (4, 4, "delta"), (5, 1, "delta"), (6, 2, "delta"),
    ]  # fmt: skip
    assert all((codec == "delta") == has_base for _, _, codec, has_base, _, _ in depths)
    for _, depth, _, _, stored, raw in depths:
        assert stored < (0.3 if depth else 0.95) * raw
    for imported, data in zip(family, files, strict=True):
        assert export_model(db, imported.model_id) == data
    rows = db.execute("SELECT version, delta_bytes > 0, stored_bytes FROM modelstore.space_report() ORDER BY version").fetchall()
    assert [has_delta for _, has_delta, _ in rows] == [False, True, True, True, True, True, True]
    # Ancestors go, the bases that their descendants stand on stay.
    for imported in family[:4]:
        db.execute("SELECT modelstore.delete_model(%s)", (imported.model_id,))
    preview = db.execute("SELECT * FROM modelstore.gc(dry_run => true)").fetchone()
    assert preview[:2] == (4, 0)
    assert db.execute("SELECT * FROM modelstore.gc()").fetchone() == preview
    assert problems(db) == []
    for imported, data in zip(family[4:], files[4:], strict=True):
        assert export_model(db, imported.model_id) == data
    # What has nothing to do with its parent stands by itself, and begins a chain.
    other = raw_file({"w": (dtype, (900, 600), random_tensor(51, 900, 300 if dtype == "BF16" else 600).tobytes())})
    imported = import_model(db, other, version="7", parent=family[6].model_id)
    query = "SELECT max(c.delta_depth) FROM store.model_weights JOIN store.tensor_data USING (tensor_id) JOIN store.tensor_chunks c USING (chunk_hash) WHERE model_id = %s"  # noqa: E501
    assert db.execute(query, (imported.model_id,)).fetchone() == (0,)
    db.execute("SELECT modelstore.delete_model(%s)", (imported.model_id,))
    db.execute("SELECT modelstore.gc()")
    # The last users of the chain go, and all of the chain with them.
    for imported in family[4:6]:
        db.execute("SELECT modelstore.delete_model(%s)", (imported.model_id,))
    assert export_model(db, family[6].model_id) == files[6]
    db.execute("SELECT modelstore.gc()")
    db.execute("SELECT modelstore.delete_model(%s)", (family[6].model_id,))
    preview = db.execute("SELECT * FROM modelstore.gc(dry_run => true)").fetchone()
    assert preview[0] == 1 and preview[1] == 3 * len(range(0, 900 * 600 * (4 if dtype == "F32" else 2), 1 << 20))
    assert db.execute("SELECT * FROM modelstore.gc()").fetchone() == preview
    assert rows_left(db) == {}


def test_a_parent_of_other_shapes_and_dtypes_is_no_base(db) -> None:
    first = import_model(db, safetensors_bytes({"w": random_tensor(1, 90, 60), "x": random_tensor(2, 90, 60)}))
    data = safetensors_bytes({"w": random_tensor(1, 90, 60, dtype="float16"), "x": random_tensor(2, 60, 90), "y": random_tensor(2, 60, 91)})
    child = import_model(db, data, version="2", parent=first.model_id)
    assert export_model(db, child.model_id) == data
    assert db.execute("SELECT count(*) FROM store.tensor_chunks WHERE base_hash IS NOT NULL").fetchone() == (0,)
    assert refusal(db, "SELECT modelstore.import_safetensors('m', '3', %b::bytea, parent => %s)", data, uuid.uuid4()).sqlstate == "42704"


# What a model is


@pytest.fixture(scope="module")
def minilm_database(server: Server, minilm) -> str:
    """A store with all-MiniLM-L6-v2 in it."""
    config = (minilm.parent / "config.json").read_text().replace("'", "''")
    path = server.scratch / "minilm.safetensors"
    path.write_bytes(minilm.read_bytes())
    sql = f"""CREATE EXTENSION pg_modelstore; SELECT modelstore.create_store();
              SELECT modelstore.import_safetensors_file('minilm', '1', '{path}', '{config}')"""
    name = make_template(server, "with_minilm", sql)
    path.unlink()
    return name


def test_minilm(minilm_database, new_database, connect, minilm) -> None:
    db = connect(dbname=new_database(minilm_database))
    row = db.execute("""SELECT model_id, architecture, layers, attention_heads, hidden_size, vocab_size, parameters, trainable_parameters
                        FROM store.v_model_architecture""").fetchone()
    model = row[0]
    assert row[1:6] == ("bert", 6, 72, 384, 30522)
    tensors = safetensors.numpy.load_file(minilm)
    parameters = sum(a.size for a in tensors.values())
    frozen = sum(a.size for a in tensors.values() if a.dtype.kind != "f")
    assert row[6:] == (parameters, parameters - frozen) == (22713728, 22713216)
    totals = db.execute("SELECT * FROM modelstore.calculate_model_parameters(%s)", (model,)).fetchone()
    assert totals == (parameters, parameters - frozen, frozen, sum(a.nbytes for a in tensors.values()))
    embeddings = dict(db.execute("SELECT kind, weight_name FROM store.embeddings").fetchall())
    prefix = "embeddings."
    assert embeddings == {
        "token": f"{prefix}word_embeddings.weight",
        "position": f"{prefix}position_embeddings.weight",
        "segment": f"{prefix}token_type_embeddings.weight",
    }
    heads = db.execute("SELECT DISTINCT head_dim, kv_head_index = head_index FROM store.attention_heads").fetchall()
    assert heads == [(32, True)]
    out = export_model(db, model)
    assert hashlib.sha256(out).digest() == hashlib.sha256(minilm.read_bytes()).digest()
    assert db.execute("SELECT sha256 FROM store.model_files").fetchone() == (hashlib.sha256(out).digest(),)
    # Once more, in parts of 1 MiB: nothing new to store.
    upload = upload_in_parts(db, out, forever(1 << 20), len(out))
    again = db.execute("SELECT new_bytes, reused_bytes, raw_bytes FROM modelstore.finish_upload(%s, 'minilm', '2')", (upload,)).fetchone()
    assert again[0] == 0 and again[1] == again[2]
    stored, raw = db.execute("SELECT sum(stored_bytes), sum(raw_bytes) FROM store.tensor_chunks").fetchone()
    # The embedding tables of this file are trained further than usual and compress to this.
    assert stored <= 0.84 * raw


def recognised(db: psycopg.Connection, model: uuid.UUID) -> tuple:
    query = """SELECT architecture, layers, attention_heads, hidden_size, vocab_size, parameters
               FROM store.v_model_architecture WHERE model_id = %s"""
    return db.execute(query, (model,)).fetchone()


def test_gpt2_names(db) -> None:
    tensors = models.tiny_gpt2()
    model = import_model(db, safetensors_bytes(tensors), config=models.GPT2_CONFIG).model_id
    once = sum(a.size for n, a in tensors.items() if n != "lm_head.weight")
    assert recognised(db, model) == ("gpt2", 2, 8, 16, 40, once)
    kinds = dict(db.execute("SELECT kind, (row_count, dim)::text FROM store.embeddings").fetchall())
    assert kinds == {"token": "(40,16)", "position": "(12,16)"}
    tied = db.execute("SELECT weight_name, tied_to FROM store.model_weights WHERE tied_to IS NOT NULL").fetchall()
    assert tied == [("transformer.wte.weight", "lm_head.weight")]
    component = db.execute("SELECT component FROM store.model_weights WHERE weight_name = 'transformer.h.1.attn.c_attn.bias'")
    assert component.fetchone() == ("attention.qkv",)
    # Without a config the heads are not known; the rest is.
    bare = import_model(db, safetensors_bytes(tensors), version="bare").model_id
    assert recognised(db, bare) == ("gpt2", 2, 0, 16, 40, once)


def test_llama_names(db) -> None:
    tensors = models.tiny_llama()
    model = import_model(db, safetensors_bytes(tensors), config=models.LLAMA_CONFIG | {"model_type": "mistral"}).model_id
    assert recognised(db, model) == ("mistral", 3, 12, 32, 50, sum(a.size for a in tensors.values()))
    heads = db.execute("SELECT head_index, kv_head_index, head_dim FROM store.attention_heads WHERE layer_index = 2 ORDER BY 1")
    assert heads.fetchall() == [(0, 0, 8), (1, 0, 8), (2, 1, 8), (3, 1, 8)]
    names = db.execute("SELECT layer_name, parameter_count FROM store.transformer_layers ORDER BY layer_index").fetchall()
    each = 2 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32
    assert names == [(f"model.layers.{i}", each) for i in range(3)]


def test_tied_weights_count_once_and_equal_constants_twice(db) -> None:
    shared = random_tensor(9, 30, 20)
    tensors = {
        "a.weight": shared, "b.weight": shared.copy(),
        "a.bias": np.zeros(20, "float32"), "b.bias": np.zeros(20, "float32"),
        "a.scale": np.ones((4, 5), "float32"), "b.scale": np.ones((4, 5), "float32"),
        "a.equal": random_tensor(10, 20), "b.equal": random_tensor(10, 20),
    }  # fmt: skip
    imported = import_model(db, safetensors_bytes(tensors))
    assert (imported.weights, imported.parameters) == (8, sum(a.size for a in tensors.values()))
    counted = 30 * 20 + 4 * 20 + 2 * 20
    totals = db.execute("SELECT total_parameters, total_bytes FROM modelstore.calculate_model_parameters(%s)", (imported.model_id,))
    assert totals.fetchone() == (counted, 4 * counted)
    assert db.execute("SELECT count(*) FROM store.tensor_metadata").fetchone() == (4,)


def test_a_config_of_nonsense_is_kept_and_ignored(db) -> None:
    data = safetensors_bytes(models.tiny_gpt2())
    for version, config in enumerate([{}, [], 1, "x", {"n_head": "4"}, {"n_head": -1}, {"n_head": 10**18}, {"n_head": 5, "text_config": []}]):
        model = import_model(db, data, version=str(version), config=config).model_id
        assert recognised(db, model)[:3] == ("gpt2", 2, 0), config
        assert db.execute("SELECT config FROM store.models WHERE model_id = %s", (model,)).fetchone() == (config,)
