"""Soft errors of input functions: pg_input_is_valid and COPY with ON_ERROR."""

from __future__ import annotations

import psycopg
import pytest
from harness import MAJOR
from tensors import value
from transfer import refusal

pytestmark = pytest.mark.versioned

soft = pytest.mark.skipif(int(MAJOR) < 16, reason="every error is raised before PostgreSQL 16")

# Text that is no tensor, by the SQLSTATE it is refused with.
WRONG = {
    "": "22P02", "  ": "22P02", "[1,2": "22P02", "[1,]": "22P02", "[1,x]": "22P02", "[1] 2": "22P02", "[[1],[2,3]]": "22P02", "[[1],2]": "22P02",
    "f32(2):[1]": "22P02", "f4:\\x12": "22P02", "f4(2):[1]": "22P02", "f4(2):\\x1": "22P02", "f32 [1]": "22P02", "i8:1.5": "22P02", "bool:[2]": "22P02",
    "f32(x):[1]": "22P02", "i8:128": "22003", "[1e39]": "22003", "f8_e4m3:[inf]": "22003", "f32(99999999999999999999):[]": "22003",
    "f33:[1]": "42704", "f4(2):\\x1234": "22000", "f4(3):\\x12": "22000", "[" * 33 + "1" + "]" * 33: "54000",
    "f32(4611686018427387904,4):[]": "54000", "f32(" + "1," * 32 + "1):[1]": "54000",
}  # fmt: skip
WRONG_CHUNKS = {
    "": "22P02", "x": "22P02", "\\x1": "22P02", "\\x0g": "22P02", "\\x": "22P03", "\\x00": "22P03",
    "\\xffffffffffffffffffffffffffffffff": "22P03",
}  # fmt: skip


@pytest.mark.parametrize(("type_name", "wrong"), [("tensor", WRONG), ("tensor_chunk", WRONG_CHUNKS)])
def test_raised_where_nobody_looks(type_name, wrong, db) -> None:
    for text, state in wrong.items():
        assert refusal(db, f"SELECT %s::text::{type_name}", text).sqlstate == state, text


@soft
@pytest.mark.parametrize(("type_name", "wrong", "right"), [("tensor", WRONG, "[1,2]"), ("tensor_chunk", WRONG_CHUNKS, "\\x0100010000000000")])
def test_input_is_valid(type_name, wrong, right, db) -> None:
    for text, state in wrong.items():
        assert value(db, "SELECT pg_input_is_valid(%s, %s)", text, type_name) is False, text
        info = db.execute("SELECT message, detail, hint, sql_error_code FROM pg_input_error_info(%s, %s)", (text, type_name)).fetchone()
        raised = refusal(db, f"SELECT %s::text::{type_name}", text)
        assert info == (raised.message_primary, raised.message_detail, raised.message_hint, state), text
    assert value(db, "SELECT pg_input_is_valid(%s, %s)", right, type_name) is True
    assert db.execute("SELECT * FROM pg_input_error_info(%s, %s)", (right, type_name)).fetchone() == (None,) * 4


@soft
def test_type_modifiers_and_arrays_are_soft_too(db) -> None:
    cases = {
        ("[1,2]", "tensor(f32,2)"): True, ("[1,2,3]", "tensor(f32,2)"): False, ("f64:[1,2]", "tensor(f32,2)"): False,
        ('{"[1]","[2]"}', "tensor[]"): True, ('{"[1]","[2"}', "tensor[]"): False, ('{"[1]"}', "tensor(2)[]"): False,
    }  # fmt: skip
    for (text, type_name), valid in cases.items():
        assert value(db, "SELECT pg_input_is_valid(%s, %s)", text, type_name) is valid, (text, type_name)
    info = db.execute("SELECT message, sql_error_code FROM pg_input_error_info('[1,2,3]', 'tensor(f32,2)')").fetchone()
    assert info == (refusal(db, "SELECT '[1,2,3]'::tensor(f32,2)").message_primary, "22000")
    # Nothing of a soft error is left for what comes next.
    db.execute("CREATE TABLE t (text text, valid boolean)")
    db.execute("INSERT INTO t SELECT CASE WHEN i % 3 = 0 THEN '[1' ELSE '[1]' END, i % 3 <> 0 FROM generate_series(1, 3000) i")
    assert value(db, "SELECT count(*) FROM t WHERE pg_input_is_valid(text, 'tensor') = valid") == 3000


@pytest.mark.skipif(int(MAJOR) < 17, reason="COPY has ON_ERROR from PostgreSQL 17 on")
def test_copy_goes_on(db) -> None:
    db.execute("CREATE TABLE t (id integer, v tensor(f32,2), c tensor_chunk)")
    with db.cursor() as cursor, cursor.copy("COPY t (id, v, c) FROM STDIN (ON_ERROR ignore)") as copy:
        copy.write("1\t[1,2]\t\\N\n2\t[1,2\t\\N\n3\t[1,2,3]\t\\N\n4\tf64:[1,2]\t\\N\n5\t[3,4]\t\\\\x00\n6\t[5,6]\t\\N\nx\t[5,6]\t\\N\n")
    assert db.execute("SELECT id, v::text FROM t ORDER BY id").fetchall() == [(1, "f32:[1,2]"), (6, "f32:[5,6]")]
    with pytest.raises(psycopg.errors.InvalidTextRepresentation), db.cursor() as cursor, cursor.copy("COPY t (id, v) FROM STDIN") as copy:
        copy.write("1\t[1,2\n")
