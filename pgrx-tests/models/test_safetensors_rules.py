"""Rules of the safetensors format: what a file may contain, and the SQLSTATE of each error."""

from __future__ import annotations

import re
from collections.abc import Iterator

import models
import numpy as np
import psycopg
import pytest
import safetensors
from databases import fresh_copy
from harness import ROOT, Server
from malformed_files import INDEX_RULES, MALFORMED, OTHER_FORMATS, UNREACHABLE
from models import DTYPES, file_of, random_raw, raw_file
from observe import problems, row_counts
from transfer import export_model, import_model, refusal

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
    "white space in front": file_of(b' \t\r\n{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"abcd"),
    "white space and nothing": file_of(b"\t\n{}\r "),
    "metadata of null": file_of({"__metadata__": None, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"abcd"),
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


# What a file may not hold


@pytest.fixture(scope="module")
def clean(server: Server, template: str) -> Iterator[psycopg.Connection]:
    """One store that every refused file leaves empty."""
    with server.connect(fresh_copy(server, template, "refusals"), autocommit=True) as connection:
        yield connection


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
    assert row_counts(clean) == {}


def test_a_file_of_another_format_is_called_by_its_name(clean) -> None:
    for data, name in OTHER_FORMATS:
        diag = refusal(clean, IMPORT, data)
        assert (diag.sqlstate, diag.message_primary) == ("42809", f"file is {name}, not safetensors"), data[:50]
        assert diag.message_detail is not None
    assert row_counts(clean) == {}


def test_each_rule_has_an_sqlstate_of_its_own_and_a_test() -> None:
    source = (ROOT / "src" / "error.rs").read_text()
    rules = dict(re.findall(r"K::(\w+) => Code::(ERRCODE_\w+)", source))
    # Of a model card.
    rules.pop("InvalidYaml")
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
    assert row_counts(clean) == {}
    import_model(clean, data)
    clean.execute("SELECT modelstore.delete_model(model_id) FROM store.models")
    clean.execute("SELECT modelstore.gc()")
    assert row_counts(clean) == {}


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
        *(("DuplicateKey", i) for i in (0, 3, 4)),  # the last one wins
        *(("InvalidShape", i) for i in (0, 3)),  # 33 dimensions; one of 2^63 beside a 0
        *(("NulCharacter", i) for i in range(3)),
        ("UnknownField", 0), ("EmptyName", 0), ("NameTooLong", 0),
    }  # fmt: skip
