"""The sort order of tensors in PostgreSQL: DISTINCT, ORDER BY, merge joins, unique indexes, hash partitions."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from models import random_tensor
from tensors import pack, value
from transfer import refusal

pytestmark = pytest.mark.versioned

# In order.
LADDER = [
    "bool:[false]", "bool:[true]", "i8:[-128]", "i8:[-1]", "i8:[0]", "i64:[-1]", "i64:[255]", "i64:[256]", "f16:1", "f16:[-2]", "f16:[1]",
    "[-nan]", "[-inf]", "[-1]", "[-0]", "[0]", "[1e-45]", "[2]", "[inf]", "[nan]", "f32(0):[]", "[0,1]", "[1,0]", "[[5,5]]", "f64:[-1]",
]  # fmt: skip
LADDER.insert(11, LADDER.pop(20))  # no element at all comes before one


def test_order_is_that_of_the_ladder(db) -> None:
    db.execute("CREATE TABLE t (i integer, v tensor)")
    for row in enumerate(LADDER):
        db.execute("INSERT INTO t VALUES (%s, %s)", row)
    assert [i for (i,) in db.execute("SELECT i FROM t ORDER BY v")] == list(range(len(LADDER)))
    assert [i for (i,) in db.execute("SELECT i FROM t ORDER BY v DESC")] == list(range(len(LADDER)))[::-1]
    wrong = db.execute("""SELECT a.v::text, b.v::text FROM t a, t b
                          WHERE (a.v < b.v, a.v <= b.v, a.v = b.v, a.v <> b.v, a.v >= b.v, a.v > b.v, tensor_cmp(a.v, b.v))
                             <> (a.i < b.i, a.i <= b.i, a.i = b.i, a.i <> b.i, a.i >= b.i, a.i > b.i, sign(a.i - b.i)::integer)""")
    assert wrong.fetchall() == []


def test_order_is_numpys_within_a_dtype(db) -> None:
    rng = np.random.default_rng(5)
    db.execute("CREATE TABLE t (i integer, v tensor)")
    arrays = {
        "f32": rng.standard_normal((200, 3)).astype("float32").round(0),
        "f64": rng.standard_normal((200, 2)) * 10.0 ** rng.integers(-300, 300, (200, 2)),
        "i16": rng.integers(-300, 300, (200, 2), dtype="int16"),
        "u64": rng.integers(0, 2**64, (200, 1), dtype="uint64"),
    }
    for array in arrays.values():
        array = array + np.zeros((), array.dtype)  # no -0
        db.execute("TRUNCATE t")
        for i, row in enumerate(array):
            db.execute("INSERT INTO t VALUES (%s, %b::bytea::tensor)", (i, pack(row)))
        found = [i for (i,) in db.execute("SELECT i FROM t ORDER BY v, i")]
        assert found == sorted(range(len(array)), key=lambda i: (*array[i].tolist(), i))


def test_what_needs_an_order(db) -> None:
    db.execute("""CREATE TABLE t (id integer, e tensor);
                  INSERT INTO t VALUES (1, '[1]'), (2, '[1]'), (3, '[2]'), (4, NULL), (5, 'f64:[1]')""")
    assert value(db, "SELECT count(DISTINCT e) FROM t") == 3
    assert [row[0] for row in db.execute("SELECT DISTINCT e::text FROM (SELECT DISTINCT e FROM t) _ ORDER BY 1")] == ["f32:[1]", "f32:[2]", "f64:[1]", None]
    assert [row[0] for row in db.execute("SELECT id FROM t WHERE (id, e) IN (SELECT id, e FROM t) ORDER BY 1")] == [1, 2, 3, 5]
    assert [row[0] for row in db.execute("SELECT row_number() OVER (PARTITION BY e ORDER BY id) FROM t ORDER BY id")] == [1, 2, 1, 1, 1]
    assert db.execute("SELECT count(*) FROM t GROUP BY GROUPING SETS ((e), ()) ORDER BY 1").fetchall() == [(1,), (1,), (1,), (2,), (5,)]
    assert value(db, "SELECT count(*) FROM (SELECT e FROM t INTERSECT SELECT e FROM t) _") == 4
    db.execute("SET enable_hashjoin = off; SET enable_nestloop = off")
    plan = "\n".join(row[0] for row in db.execute("EXPLAIN SELECT 1 FROM t a JOIN t b ON a.e = b.e"))
    assert "Merge Join" in plan
    assert value(db, "SELECT count(*) FROM t a JOIN t b ON a.e = b.e") == 6
    db.execute("CREATE TABLE u (e tensor UNIQUE); INSERT INTO u VALUES ('[1]'), ('[2]'), ('f64:[1]')")
    assert refusal(db, "INSERT INTO u VALUES ('[1.0]')").sqlstate == "23505"
    db.execute("INSERT INTO u VALUES ('[1]') ON CONFLICT (e) DO NOTHING")
    db.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    assert "Index" in "".join(row[0] for row in db.execute("EXPLAIN SELECT * FROM u WHERE e >= '[2]' ORDER BY e"))
    assert [row[0] for row in db.execute("SELECT e::text FROM u WHERE e >= '[2]' ORDER BY e")] == ["f32:[2]", "f64:[1]"]
    assert value(db, "SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'tensor_ops'")
    assert value(db, "SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'tensor_hash_ops'")
    db.execute("ANALYZE t")


def test_extended_hash(db) -> None:
    db.execute("CREATE TABLE t (v tensor) PARTITION BY HASH (v)")
    for i in range(4):
        db.execute(f"CREATE TABLE t{i} PARTITION OF t FOR VALUES WITH (MODULUS 4, REMAINDER {i})")
    db.execute("INSERT INTO t SELECT ARRAY[i]::real[] FROM generate_series(1, 400) i")
    counts = [n for (n,) in db.execute("SELECT count(*) FROM t GROUP BY tableoid")]
    assert len(counts) == 4 and min(counts) > 50
    assert value(db, "SELECT count(*) FROM t WHERE v = '[77]'") == 1
    # The low half with seed 0 is the plain hash; another seed gives another one, the same for equal values.
    rows = db.execute("SELECT tensor_hash(v), tensor_hash_extended(v, 0), tensor_hash_extended(v, 1), tensor_hash_extended(v::text::tensor, 1) FROM t").fetchall()
    assert all(plain & 0xFFFFFFFF == zero & 0xFFFFFFFF and one == again != zero for plain, zero, one, again in rows)
    assert len({one for _, _, one, _ in rows}) == 400


def test_large_values_out_of_line(db) -> None:
    """Differences in the first, in a middle and in the last piece, of values that are stored in and out of line, compressed and not."""
    base = random_tensor(3, 700, 1000)
    tensors = [base]
    for at in (0, 3, 4091, 300_000, 699_999):
        for delta in (1, -1):
            other = base.copy().reshape(-1)
            other[at] += np.float32(delta)
            tensors.append(other.reshape(base.shape))
    tensors += [base[:, :999].copy(), base.reshape(-1), base.astype("float64")[:3]]
    for storage in ("EXTERNAL", "EXTENDED"):
        db.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (i integer, v tensor); ALTER TABLE t ALTER v SET STORAGE {storage}")
        for i, array in enumerate(tensors):
            db.execute("INSERT INTO t VALUES (%s, %b::bytea::tensor)", (i, pack(array)))

        def key(i: int) -> tuple:
            array = tensors[i]
            return (array.dtype.itemsize, array.ndim, *array.shape, *array.reshape(-1).tolist())

        expected = sorted(range(len(tensors)), key=key)
        assert [i for (i,) in db.execute("SELECT i FROM t ORDER BY v")] == expected
        assert db.execute("SELECT count(*) FROM t a JOIN t b ON a.v = b.v WHERE a.i <> b.i").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM t a, t b WHERE a.v = b.v").fetchone() == (len(tensors),)
        assert db.execute("SELECT count(*) FROM t WHERE v = %b::bytea::tensor", (pack(base),)).fetchone() == (1,)


def test_a_value_too_large_for_an_index(db) -> None:
    db.execute("CREATE TABLE t (v tensor); CREATE INDEX ON t (v)")
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        db.execute("INSERT INTO t SELECT array_agg(random())::tensor FROM generate_series(1, 3000)")
