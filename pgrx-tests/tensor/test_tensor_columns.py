"""Columns of tensors: type modifiers are enforced everywhere; equality, grouping and hash indexes compare bits."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from tensors import pack, value
from transfer import refusal

pytestmark = [pytest.mark.any_server, pytest.mark.versioned]

# Type modifiers


def test_type_modifiers_hold_everywhere(db) -> None:
    db.execute("""CREATE TABLE t (i integer, v modelstore.tensor(f32, 2), a modelstore.tensor(f32, '*', 2)[], w modelstore.tensor(i8));
                  CREATE TABLE loose (v modelstore.tensor);
                  INSERT INTO t (i, v) VALUES (1, '[1,2]'); INSERT INTO loose VALUES ('[1,2]'), ('f16:[1,2]'), ('[1,2,3]')""")
    wrong = [
        "INSERT INTO t (v) VALUES ('[1,2,3]')",
        "INSERT INTO t (v) VALUES ('f64:[1,2]')",
        "INSERT INTO t (v) VALUES ('[[1,2]]')",
        "INSERT INTO t (v) VALUES ('[1,2,3]'::text::modelstore.tensor)",
        "INSERT INTO t (v) SELECT v FROM loose",
        "INSERT INTO t (v) VALUES ('{1,2,3}'::real[])",
        "INSERT INTO t (v) VALUES (modelstore.reshape('[1,2]', '{2,1}'))",
        "INSERT INTO t (w) VALUES (modelstore.astype('[1,2]', 'i16'))",
        "UPDATE t SET v = '[1]'",
        "UPDATE t SET v = modelstore.slice(v, '0:1')",
        "UPDATE t SET a = ARRAY['[[1,2]]', '[[1,2,3]]']::modelstore.tensor[]",
        "UPDATE t SET a = '{\"[[1,2]]\",\"[1,2]\"}'",
        "UPDATE t SET a[1] = '[1,2]'",
        "ALTER TABLE loose ALTER v TYPE modelstore.tensor(f32)",
        "ALTER TABLE t ALTER v TYPE modelstore.tensor(f32, 3)",
        "SELECT '[1,2]'::modelstore.tensor(f64)",
        "SELECT modelstore.astype('[1,2]', 'f16')::modelstore.tensor(f32,3)",
        "SELECT '[1,2]'::modelstore.tensor(3)",
        "SELECT CAST('[1,2]'::modelstore.tensor AS modelstore.tensor(i64))",
        "MERGE INTO t USING loose ON false WHEN NOT MATCHED THEN INSERT (v) VALUES (loose.v)",
        "INSERT INTO t (i, v) VALUES (1, '[3,4]'), (2, '[3,4,5]')",
    ]
    for statement in wrong:
        assert refusal(db, statement).sqlstate == "22000", statement
    with pytest.raises(psycopg.errors.DataException) as caught, db.cursor() as cursor, cursor.copy("COPY t (i, v) FROM STDIN") as copy:
        copy.write("2\t[5,6]\n3\t[5,6,7]\n")
    assert caught.value.sqlstate == "22000"
    with pytest.raises(psycopg.errors.DataException) as caught, db.cursor() as cursor, cursor.copy("COPY t (v) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["bytea"])
        copy.write_row([pack(np.ones(3, "float32"))])
    assert caught.value.sqlstate == "22000"
    right = [
        "UPDATE t SET v = '[3,4]', a = ARRAY['[[1,2]]', '[[1,2],[3,4]]']::modelstore.tensor[], w = 'i8:[[1]]'",
        "UPDATE t SET a[2] = 'f32(0,2):[]'",
        "DELETE FROM loose WHERE modelstore.dtype(v) <> 'f32'",
        "ALTER TABLE loose ALTER v TYPE modelstore.tensor(f32, '*')",
        "ALTER TABLE t ALTER v TYPE modelstore.tensor(2)",
        "ALTER TABLE t ALTER v TYPE modelstore.tensor",
        "INSERT INTO t (v) SELECT modelstore.astype(v, 'f16') FROM loose",
    ]
    for statement in right:
        db.execute(statement)
    types = db.execute("SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0")
    assert dict(types.fetchall()) == {"i": "integer", "v": "tensor", "a": "tensor(f32,'*',2)[]", "w": "tensor(i8)"}


# Equality, hashing


def test_equality_is_of_bits(db) -> None:
    db.execute("CREATE TABLE t (i int, v modelstore.tensor)")
    texts = ["[1,2]", "f32:[1.0,2e0]", "f64:[1,2]", "[[1,2]]", "[0]", "[-0]", "[nan]", "[nan(0x7fc00001)]", "[NaN]", "f32(0,2):[]", "f32(0):[]", None]
    for row in enumerate(texts):
        db.execute("INSERT INTO t VALUES (%s, %s)", row)
    pairs = db.execute("SELECT a.i, b.i FROM t a JOIN t b ON a.v = b.v WHERE a.i < b.i ORDER BY 1").fetchall()
    assert pairs == [(0, 1), (6, 8)]
    assert value(db, "SELECT count(*) FROM t a, t b WHERE a.v <> b.v") == 11 * 11 - 11 - 4
    for setting in ("on", "off"):
        db.execute(f"SET enable_hashagg = {setting}; SET enable_hashjoin = {setting}")
        if setting == "on":
            assert value(db, "SELECT count(*) FROM (SELECT v FROM t GROUP BY v) _") == 10
    db.execute("CREATE INDEX ON t USING hash (v); SET enable_seqscan = off")
    assert "Index" in "".join(row[0] for row in db.execute("EXPLAIN SELECT i FROM t WHERE v = '[1,2]'"))
    assert db.execute("SELECT i FROM t WHERE v = '[1,2]' ORDER BY i").fetchall() == [(0,), (1,)]


def test_literals_and_casts_lose_no_digit(db) -> None:
    """A literal without a dtype goes into a column of another dtype by COPY with all its digits, by INSERT not at all."""
    db.execute("CREATE TABLE exact (f modelstore.tensor(f64), i modelstore.tensor(i64), b modelstore.tensor(bf16))")
    with db.cursor().copy("COPY exact FROM STDIN") as copy:
        copy.write("[0.1]\t[9007199254740993]\t[0.1]\n")
    assert db.execute("SELECT f::text, i::text, b::text FROM exact").fetchone() == ("f64:[0.1]", "i64:[9007199254740993]", "bf16:[0.1]")
    for column, dtype in {"f": "f64", "i": "i64", "b": "bf16"}.items():
        diag = refusal(db, f"INSERT INTO exact ({column}) VALUES ('[0.5]')")
        assert (diag.sqlstate, diag.message_hint) == ("22000", f"SELECT '{dtype}:[1,2]'::modelstore.tensor;")
        db.execute(diag.message_hint)
    db.execute("INSERT INTO exact VALUES ('f64:[0.1]', 'i64:[9007199254740993]', 'bf16:[0.1]')")
    assert refusal(db, "DO $$ DECLARE f modelstore.tensor(f64); BEGIN f := '[0.1]'; END $$").sqlstate == "22000"
    assert db.execute("SELECT DISTINCT f::text FROM exact").fetchall() == [("f64:[0.1]",)]
    # An explicit cast converts as astype does, except from f32 to what it would have cost digits of a literal.
    for literal, to, expected in (
        ("f64:[0.1,3]", "f32", "f32:[0.1,3]"), ("f32:[1.5,3]", "bf16", "bf16:[1.5,3]"), ("bf16:[1.5]", "f64", "f64:[1.5]"),
        ("i64:[7]", "f32", "f32:[7]"), ("f32:[7]", "u8", "u8:[7]"), ("f16:[2]", "f32,1", "f32:[2]"),
    ):  # fmt: skip
        assert db.execute(f"SELECT ('{literal}'::modelstore.tensor)::modelstore.tensor({to})::text").fetchone() == (expected,)
    for to in ("f64", "i32", "u32", "i64", "u64"):
        assert refusal(db, f"SELECT '[0.1]'::modelstore.tensor({to})").sqlstate == "22000", to


def test_names_of_dtypes(db) -> None:
    """numpy's and torch's names are read everywhere, and written nowhere."""
    for name, own in {"float32": "f32", "torch.bfloat16": "bf16", "fp16": "f16", "np.int64": "i64", "torch.long": "i64", "double": "f64"}.items():
        assert db.execute("SELECT modelstore.dtype(modelstore.astype('[1]', %s))", (name,)).fetchone() == (own,)
    db.execute("CREATE TABLE named (v modelstore.tensor(bfloat16, 2))")
    (shown,) = db.execute("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'named'::regclass AND attname = 'v'").fetchone()
    assert shown.removeprefix("modelstore.") == "tensor(bf16,2)"
    assert db.execute("SELECT 'float64:[0.1]'::modelstore.tensor::text").fetchone() == ("f64:[0.1]",)
    assert refusal(db, "SELECT modelstore.astype('[1]', 'float')").sqlstate == "42704"


def test_reshape_infers_one_dimension(db) -> None:
    """Against numpy's reshape."""
    array = np.arange(24, dtype="<f4")
    for shape in ([-1], [-1, 4], [2, -1, 3], [24, -1], [2, 3, 4]):
        (found,) = db.execute("SELECT modelstore.shape(modelstore.reshape(%s::real[]::modelstore.tensor, %s))", (array.tolist(), shape)).fetchone()
        assert found == list(array.reshape(shape).shape), shape
    assert db.execute("SELECT modelstore.shape(modelstore.reshape('f32(0,3):[]', '{-1,3}'))").fetchone() == ([0, 3],)
    for shape in ([-1, 5], [-1, -1], [-1, 0], [5, 5]):
        with pytest.raises(ValueError):
            array.reshape(shape)
        assert refusal(db, "SELECT modelstore.reshape(%s::real[]::modelstore.tensor, %s)", array.tolist(), shape).sqlstate in ("22023", "22000"), shape
