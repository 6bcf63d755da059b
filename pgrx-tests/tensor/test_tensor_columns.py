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
        "SELECT modelstore.astype('[1,2]', 'f16')::modelstore.tensor(f32)",
        "SELECT '[1,2]'::modelstore.tensor(3)",
        "SELECT CAST('[1,2]'::modelstore.tensor AS modelstore.tensor(bf16))",
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
