"""Tensors made of arrays, jsonb and bytes, made into them, and from one dtype or shape to another, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from models import random_tensor, to_bf16
from psycopg.types.json import Jsonb
from tensors import NUMPY, db, fetch, pack, same, value  # noqa: F401 (db is a fixture)
from transfer import refusal

ARRAYS = {"real[]": "f32", "double precision[]": "f64", "integer[]": "i32", "bigint[]": "i64"}


@pytest.mark.parametrize("array_type", ARRAYS)
def test_casts_of_arrays(array_type, db) -> None:
    name = ARRAYS[array_type]
    rng = np.random.default_rng(4)
    for shape in [(1,), (7,), (3, 5), (2, 3, 4), (1, 1, 1, 2, 1, 3), (1000,)]:
        array = rng.integers(-1000, 1000, shape).astype(NUMPY[name][1])
        assert same(fetch(db, f"SELECT %s::{array_type}::modelstore.tensor", array.tolist()), array)
        assert value(db, f"SELECT %b::bytea::modelstore.tensor::{array_type}", pack(array)) == array.tolist()
    assert same(fetch(db, f"SELECT '{{}}'::{array_type}::modelstore.tensor"), np.zeros(0, NUMPY[name][1]))
    assert value(db, f"SELECT 'f32(3,0):[]'::modelstore.tensor::{array_type}") == []
    assert value(db, f"SELECT 'i8:5'::modelstore.tensor::{array_type}") == [5]
    # Bounds that do not start at 1 mean nothing to a tensor.
    assert value(db, f"SELECT ('[5:6]={{1,2}}'::{array_type})::modelstore.tensor = ('{{1,2}}'::{array_type})::modelstore.tensor")
    for nulls in ("{NULL}", "{1,NULL,2}", "{{1,2},{3,NULL}}", "{" + ",".join(["0"] * 20) + ",NULL}"):
        assert refusal(db, f"SELECT '{nulls}'::{array_type}::modelstore.tensor").sqlstate == "22004"
    assert refusal(db, f"SELECT '[[[[[[[1]]]]]]]'::modelstore.tensor::{array_type}").sqlstate == "54000"
    assert refusal(db, f"SELECT 'c64(1):\\x0000000000000000'::modelstore.tensor::{array_type}").sqlstate == "42846"
    # A null bitmap without a NULL in it.
    assert value(db, f"SELECT modelstore.shape((array_replace('{{1,NULL,3}}'::{array_type}, NULL, 2))::modelstore.tensor)") == [3]
    # Through a table, so that the array comes out of TOAST and with a short header.
    db.execute(f"CREATE TABLE a (v {array_type}); INSERT INTO a VALUES ('{{1,2}}'), ((SELECT array_agg(i) FROM generate_series(1, 5000) i))")
    assert db.execute("SELECT modelstore.sum(v::modelstore.tensor) FROM a ORDER BY 1").fetchall() == [(3,), (5000 * 5001 / 2,)]


def test_casts_that_convert(db) -> None:
    cases = {
        "'[1.5,-2.5,1e10]'::modelstore.tensor::double precision[]": [1.5, -2.5, 1e10],
        "'[1.5,-2.5]'::modelstore.tensor::integer[]": [1, -2],
        "'u64:[9223372036854775807]'::modelstore.tensor::bigint[]": [2**63 - 1],
        "'bool:[true,false]'::modelstore.tensor::integer[]": [1, 0],
        "'f64:[0.1]'::modelstore.tensor::real[]::text": "{0.1}",
        "'f64:[1e300]'::modelstore.tensor::real[]::text": "{Infinity}",
        "'f16:[nan,inf]'::modelstore.tensor::real[]::text": "{NaN,Infinity}",
        "'i64:[9007199254740993]'::modelstore.tensor::double precision[]": [9007199254740992],
    }
    for expression, expected in cases.items():
        assert value(db, f"SELECT {expression}") == expected, expression
    for expression in ("'[3e9]'::modelstore.tensor::integer[]", "'[nan]'::modelstore.tensor::bigint[]", "'u64:[9223372036854775808]'::modelstore.tensor::bigint[]"):
        assert refusal(db, f"SELECT {expression}").sqlstate == "22003", expression


def test_astype_is_numpys(db) -> None:
    rng = np.random.default_rng(12)
    floats = np.concatenate([rng.standard_normal(500) * 10.0 ** rng.integers(-9, 6, 500), [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.9, 65520, 2.5, 3.5]])
    with np.errstate(all="ignore"):
        for source in ("f64", "f32", "f16"):
            array = floats.astype(NUMPY[source][1])
            for to in ("f64", "f32", "f16", "bool"):
                got = fetch(db, "SELECT modelstore.astype(%b::bytea::modelstore.tensor, %s)", pack(array), to)
                assert got.dtype == NUMPY[to][1] and np.array_equal(got, array.astype(NUMPY[to][1]), equal_nan=True), (source, to)
            finite = array[np.isfinite(array) & (np.abs(array) < 2**31)]
            for to in ("i32", "i64"):
                got = fetch(db, "SELECT modelstore.astype(%b::bytea::modelstore.tensor, %s)", pack(finite), to)
                assert same(got, finite.astype(NUMPY[to][1])), (source, to)
    singles = np.frombuffer(rng.bytes(40_000), "<f4")
    singles = singles[np.isfinite(singles) & (np.abs(singles) < 3e38)]
    got = fetch(db, "SELECT modelstore.astype(%b::bytea::modelstore.tensor, 'bf16')", pack(singles))
    assert np.array_equal(got, to_bf16(singles))
    for source in NUMPY:
        for to in NUMPY:
            array = np.array([0, 1, 1, 0, 1]).astype(NUMPY[source][1])
            got = fetch(db, "SELECT modelstore.astype(%b::bytea::modelstore.tensor, %s)", pack(array), to)
            assert same(got, array.astype(NUMPY[to][1])), (source, to)


def test_jsonb(db) -> None:
    cases = {
        "[1,2.5]": {"dtype": "f32", "shape": [2], "data": [1, 2.5]},
        "i8:[[1],[-2]]": {"dtype": "i8", "shape": [2, 1], "data": [[1], [-2]]},
        "bool:[true,false]": {"dtype": "bool", "shape": [2], "data": [True, False]},
        "f64:7": {"dtype": "f64", "shape": [], "data": 7},
        "f32(0,3):[]": {"dtype": "f32", "shape": [0, 3], "data": []},
        "u64:[18446744073709551615]": {"dtype": "u64", "shape": [1], "data": [18446744073709551615]},
        "[NaN,-Infinity]": {"dtype": "f32", "shape": [2], "data": ["NaN", "-Infinity"]},
        "c64(1):\\x0123456789abcdef": {"dtype": "c64", "shape": [1], "data": "\\x0123456789abcdef"},
    }
    for text, expected in cases.items():
        assert value(db, "SELECT %s::text::modelstore.tensor::jsonb", text) == expected
        assert value(db, "SELECT %s::jsonb::modelstore.tensor = %s::text::modelstore.tensor", Jsonb(expected), text), text
    assert value(db, "SELECT '[[1,2],[3,4]]'::jsonb::modelstore.tensor::text") == "f32:[[1,2],[3,4]]"
    bad = [["1,2"], [["1,2"], [3, 4]], {"dtype": "f32", "shape": [2], "data": "[1,2]"}, 1, None, "x", True, {}, {"dtype": "f32"}, [None], [[1], 2], [[1, 2], [3]], ["x"], [{}], {"dtype": 1, "shape": [1], "data": [1]},
           {"dtype": "f32", "shape": [2], "data": [1]}, {"dtype": "f32", "shape": "x", "data": [1]}, {"dtype": "f32", "shape": None, "data": [1]},
           {"dtype": "f32", "shape": [1.5], "data": [1]}, {"dtype": "f32", "shape": [-1], "data": [1]}, {"dtype": "f32", "shape": [1], "data": None},
           {"dtype": "f32", "shape": {}, "data": [1]}, {"dtype": "f32", "shape": [[1]], "data": [1]}, {"dtype": "f32:[7]", "shape": [1], "data": [1]}]  # fmt: skip
    for document in bad:
        assert refusal(db, "SELECT %s::jsonb::modelstore.tensor", Jsonb(document)).sqlstate in {"22P02", "42704"}, document


def test_frombuffer_reshape_tobytes(db) -> None:
    array = random_tensor(1, 6, 4)
    make = "SELECT modelstore.frombuffer(%b::bytea, %s, %s::bigint[])"
    assert same(fetch(db, make, array.tobytes(), "f32", [6, 4]), array)
    assert same(fetch(db, make, b"", "F32", [2, 0, 3]), np.zeros((2, 0, 3), "float32"))
    assert value(db, "SELECT modelstore.tobytes(%b::bytea::modelstore.tensor)", pack(array)) == array.tobytes()
    assert same(fetch(db, "SELECT modelstore.reshape(%b::bytea::modelstore.tensor, '{3,8}')", pack(array)), array.reshape(3, 8))
    for dims, state in {(6, 5): "22000", (): "22000", (-6, -4): "22023", (2**62, 4): "54000"}.items():
        assert refusal(db, make, array.tobytes(), "f32", list(dims)).sqlstate == state, dims
        assert refusal(db, "SELECT modelstore.reshape(%b::bytea::modelstore.tensor, %s::bigint[])", pack(array), list(dims)).sqlstate == state
    assert refusal(db, make, b"", "f33", [0]).sqlstate == "42704"
    assert refusal(db, make, b"abcd", "f32", [None]).sqlstate == "22004"


def test_a_shape_too_large_is_named_with_its_dtype(db) -> None:
    for statement in ("SELECT 'f32(4294967296,4294967296):[]'::tensor", "SELECT reshape('[1,2]', '{4611686018427387904,4}')"):
        diag = refusal(db, statement)
        assert diag.sqlstate == "54000" and "u8" not in diag.message_primary, diag.message_primary
