"""Compares casts between tensors and arrays, jsonb and bytes, and changes of dtype and shape, with numpy."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from models import random_tensor, to_bf16
from psycopg.types.json import Jsonb
from tensors import NUMPY, fetch, pack, same, value
from transfer import refusal

pytestmark = pytest.mark.versioned

ARRAYS = {"smallint[]": "i16", "real[]": "f32", "double precision[]": "f64", "integer[]": "i32", "bigint[]": "i64"}


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


def test_arrays_convert_to_the_dtype_of_a_column(db) -> None:
    """ARRAY[0.1, 0.2, 0.3] is numeric[]; users of pgvector write it for a column of singles."""
    values = [0.375, -2.5, 3.0]
    for name in ("f32", "f64", "f16", "bf16", "i32", "i64", "i8", "bool"):
        for array_type in (*ARRAYS, "numeric[]"):
            db.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (v tensor({name}, 3))")
            db.execute(f"INSERT INTO t VALUES (%s::double precision[]::{array_type})", (values,))
            rounded = [round(v) for v in values] if array_type in ("smallint[]", "integer[]", "bigint[]") else values
            expected = value(db, "SELECT astype(%s::double precision[]::tensor, %s)::text", rounded, name)
            assert value(db, "SELECT v::text FROM t") == expected, (name, array_type)
            assert value(db, f"SELECT %s::{array_type}::tensor({name})::text", rounded) == expected
    db.execute("DROP TABLE t; CREATE TABLE t (v tensor(f32, 3))")
    db.execute("INSERT INTO t VALUES (ARRAY[0.1,0.2,0.3]), (ARRAY[0.1,0.2,0.3]::float8[]), (ARRAY[1,2,3]), (ARRAY[1,2,3]::bigint[])")
    db.execute("UPDATE t SET v = ARRAY[0.5, 1, 2] WHERE v = '[1,2,3]'")
    assert sorted(row[0] for row in db.execute("SELECT v::text FROM t")) == ["f32:[0.1,0.2,0.3]"] * 2 + ["f32:[0.5,1,2]"] * 2
    for wrong in ("ARRAY[0.1,0.2]", "ARRAY[[0.1,0.2,0.3]]", "ARRAY[1,2]", "ARRAY[0.1,0.2]::float8[]"):
        assert refusal(db, f"INSERT INTO t VALUES ({wrong})").sqlstate == "22000", wrong
    # Without a dtype to convert to, as before.
    db.execute("CREATE TABLE any (v tensor('*'))".replace("any", "loose"))
    db.execute("INSERT INTO loose VALUES (ARRAY[0.1]), (ARRAY[1]), (ARRAY[0.1]::real[])")
    assert [row[0] for row in db.execute("SELECT v::text FROM loose ORDER BY loose.v")] == ["i32:[1]", "f32:[0.1]", "f64:[0.1]"]
    # A tensor keeps its dtype.
    assert refusal(db, "INSERT INTO t VALUES ('f64:[1,2,3]'::tensor)").sqlstate == "22000"
    assert refusal(db, "SELECT ARRAY[300]::tensor(i8)").sqlstate == "22003"
    assert refusal(db, "SELECT ARRAY[1.5]::float8[]::tensor(q4_0)").sqlstate == "42846"


def test_lists_of_a_driver_go_into_a_column_of_floats(db) -> None:
    """psycopg sends a list as the array of the smallest type that its numbers fit: smallint[] to numeric[], or float8[]."""
    db.execute("CREATE TABLE t (n integer, v tensor(f32, 3))")
    lists = [[1, -2, 3], [1, 40_000, 3], [1, 2**40, 3], [2**64, 1, 3], [0.1, 0.2, 3.0], [Decimal("0.1"), Decimal(2), Decimal(3)], np.array([0.1, 2, 3]).tolist()]
    types = []
    for n, numbers in enumerate(lists):
        types.append(value(db, "SELECT pg_typeof(%s)::text", numbers))
        db.execute("INSERT INTO t VALUES (%s, %s)", (n, numbers))
        db.execute("UPDATE t SET v = %s WHERE n = %s", (numbers, n))
        assert value(db, "SELECT v::float8[] FROM t WHERE n = %s", n) == [float(np.float32(number)) for number in numbers]
    assert types == ["smallint[]", "integer[]", "bigint[]", "numeric[]", "double precision[]", "numeric[]", "double precision[]"]


def test_arrays_of_numeric(db) -> None:
    cases = {
        "ARRAY[0.1,1e300]": "f64:[0.1,1e300]",
        "'{NaN,Infinity,-Infinity,-0.5}'::numeric[]": "f64:[NaN,Infinity,-Infinity,-0.5]",
        "ARRAY[[0.1,2],[3,4]]": "f64:[[0.1,2],[3,4]]",
        "'{}'::numeric[]": "f64(0):[]",
        "'[5:6]={1,2}'::numeric[]": "f64:[1,2]",
        "array_replace('{1,NULL}'::numeric[], NULL, 2.5)": "f64:[1,2.5]",
    }
    for array, expected in cases.items():
        assert value(db, f"SELECT {array}::tensor::text") == expected, array
    assert value(db, "SELECT '{9007199254740993,-1.9,-0.5}'::numeric[]::tensor(i64)::text") == "i64:[9007199254740993,-1,0]"
    assert value(db, "SELECT '{18446744073709551615}'::numeric[]::tensor(u64)::text") == "u64:[18446744073709551615]"
    assert value(db, "SELECT '{0,0.00,0.5,NaN}'::numeric[]::tensor(bool)::text") == "bool:[false,false,true,true]"
    # Rounded once: by way of a double it would be the tie that goes to even.
    assert value(db, "SELECT '{16777217.0000000001}'::numeric[]::tensor(f32)::text") == "f32:[16777218]"
    for array, state in {
        "'{1,NULL}'::numeric[]::tensor": "22004", "'{1e400}'::numeric[]::tensor": "22003", "'{1e39}'::numeric[]::tensor(f32)": "22003",
        "'{NaN}'::numeric[]::tensor(i32)": "22003", "'{Infinity}'::numeric[]::tensor(i8)": "22003", "'{128}'::numeric[]::tensor(i8)": "22003",
        "'{1}'::numeric[]::tensor(c64)": "42846", "'{1,2}'::numeric[]::tensor(f32,3)": "22000",
    }.items():  # fmt: skip
        assert refusal(db, f"SELECT {array}").sqlstate == state, array
    db.execute("CREATE TABLE a (v numeric[]); INSERT INTO a SELECT array_agg(i / 8.0) FROM generate_series(1, 5000) i")
    assert value(db, "SELECT modelstore.sum(v::tensor) FROM a") == 5000 * 5001 / 16


def test_json_of_half_precision_is_exact(db) -> None:
    assert value(db, "SELECT 'f16:[65504]'::tensor::jsonb -> 'data'") == [65504]
    assert value(db, "SELECT 'bf16:[0.26953125]'::tensor::jsonb -> 'data'") == [0.26953125]
    rng = np.random.default_rng(6)
    halfs = np.frombuffer(rng.bytes(4000), "<f2")
    halfs = halfs[np.isfinite(halfs) & (halfs != 0)]
    assert value(db, "SELECT %b::bytea::tensor::jsonb -> 'data'", pack(halfs)) == halfs.astype("float64").tolist()
    # NaN with its bits, infinities and -0 as words; all of it back bit for bit.
    for name, width in {"f16": 2, "bf16": 2, "f8_e4m3": 1, "f8_e5m2": 1, "f32": 4, "f64": 8, "i64": 8}.items():
        data = pack(np.frombuffer(rng.bytes(800 * width), f"<u{width}"), None if name not in ("bf16", "f8_e4m3", "f8_e5m2") else name)
        data = bytes([data[0], {"f16": 12, "bf16": 13, "f8_e4m3": 10, "f8_e5m2": 11, "f32": 14, "f64": 15, "i64": 9}[name]]) + data[2:]
        assert value(db, "SELECT v::jsonb::tensor = v FROM (SELECT %b::bytea::tensor AS v) _", data), name


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
    for expression in ("'[3e9]'::modelstore.tensor::integer[]", "'[4e4]'::modelstore.tensor::smallint[]", "'[nan]'::modelstore.tensor::bigint[]", "'u64:[9223372036854775808]'::modelstore.tensor::bigint[]"):
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
    assert value(db, "SELECT %s::jsonb::modelstore.tensor::text", Jsonb({"other": {"data": [[None]], "shape": "x"}, "dtype": "i8", "shape": [1], "data": [1]})) == "i8:[1]"
    assert value(db, "SELECT '[0.1e-2, 100000000000000000000, 1e0]'::jsonb::modelstore.tensor::text") == "f32:[0.001,1e20,1]"
    assert refusal(db, "SELECT '[1e400]'::jsonb::modelstore.tensor").sqlstate == "22003"
    bad += [[[]] + [1], {"dtype": ["f32"], "shape": [1], "data": [1]}, {"dtype": "f32", "shape": [1], "data": {"data": [1]}}, {"data": [1]}, {"dtype": "f32", "data": [1]}]
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
