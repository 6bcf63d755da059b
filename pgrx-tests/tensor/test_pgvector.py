"""Casts between tensor and the types of pgvector, if the server has it."""

from __future__ import annotations

import psycopg
import pytest

pytestmark = pytest.mark.versioned


@pytest.fixture
def vectors(db) -> psycopg.Connection:
    if not db.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
        pytest.skip("this server has no pgvector")
    with pytest.raises(psycopg.errors.UndefinedObject, match="not installed") as e:
        db.execute("SELECT modelstore.enable_pgvector()")
    db.execute("CREATE SCHEMA \"V's\"")
    assert e.value.diag.message_hint == "CREATE EXTENSION vector;"
    db.execute("CREATE EXTENSION vector SCHEMA \"V's\"")
    assert db.execute("SELECT modelstore.enable_pgvector()").fetchone() == (4,)
    assert db.execute("SELECT modelstore.enable_pgvector()").fetchone() == (0,)
    return db


def value(db, sql: str):
    return db.execute(sql).fetchone()[0]


def test_both_ways(vectors) -> None:
    assert value(vectors, "SELECT '[1,2.5,-3]'::modelstore.tensor::\"V's\".vector::text") == "[1,2.5,-3]"
    assert value(vectors, "SELECT '[1,2.5,-3]'::\"V's\".vector::modelstore.tensor::text") == "f32:[1,2.5,-3]"
    assert value(vectors, "SELECT 'bf16:[1,2.5]'::modelstore.tensor::\"V's\".vector::text") == "[1,2.5]"
    assert value(vectors, "SELECT '[1,0.1]'::\"V's\".halfvec::modelstore.tensor::text") == "f16:[1,0.1]"
    assert value(vectors, "SELECT 'f16:[1,0.5]'::modelstore.tensor::\"V's\".halfvec::text") == "[1,0.5]"


def test_whatever_the_search_path(vectors) -> None:
    vectors.execute("SET search_path = pg_temp")
    assert value(vectors, "SELECT '[1,2]'::modelstore.tensor::\"V's\".vector::text") == "[1,2]"


def test_what_pgvector_refuses(vectors) -> None:
    with pytest.raises(psycopg.errors.DataException):
        vectors.execute("SELECT '[[1,2],[3,4]]'::modelstore.tensor::\"V's\".vector")
    with pytest.raises(psycopg.errors.DataException):
        vectors.execute("SELECT '[1,NaN]'::modelstore.tensor::\"V's\".vector")


def test_assignment(vectors) -> None:
    vectors.execute("CREATE TABLE t (v modelstore.tensor(f32,3))")
    vectors.execute("INSERT INTO t SELECT '[1,2,3]'::\"V's\".vector")
    assert value(vectors, "SELECT v::text FROM t") == "f32:[1,2,3]"
    with pytest.raises(psycopg.errors.DataException):
        vectors.execute("INSERT INTO t SELECT '[1,2]'::\"V's\".vector")


def test_a_schema_of_somebody_else_is_refused(vectors, connect) -> None:
    """Whoever owns the schema could drop what a superuser makes there, and put something else in its place."""
    drop = "DROP CAST (modelstore.tensor AS \"V's\".vector); DROP FUNCTION modelstore.tensor_to_vector"
    vectors.execute(drop)
    vectors.execute("DROP ROLE IF EXISTS squatter; CREATE ROLE squatter LOGIN; ALTER SCHEMA modelstore OWNER TO squatter")
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="owned by role") as e:
            vectors.execute("SELECT modelstore.enable_pgvector()")
        assert not value(vectors, "SELECT count(*) FROM pg_proc WHERE proname = 'tensor_to_vector'")
        vectors.execute(e.value.diag.message_hint)
        assert value(vectors, "SELECT modelstore.enable_pgvector()") == 1
        # A function that is there is not taken over.
        vectors.execute(drop)
        vectors.execute("GRANT CREATE ON SCHEMA modelstore TO squatter; GRANT USAGE ON SCHEMA \"V's\" TO squatter")
        squatter = connect("squatter")
        squatter.execute("CREATE FUNCTION modelstore.tensor_to_vector(modelstore.tensor) RETURNS \"V's\".vector LANGUAGE sql AS 'SELECT NULL::\"V''s\".vector'")
        with pytest.raises(psycopg.errors.DuplicateFunction):
            vectors.execute("SELECT modelstore.enable_pgvector()")
        assert value(vectors, "SELECT count(*) FROM pg_cast WHERE castsource = 'modelstore.tensor'::regtype AND casttarget = '\"V''s\".vector'::regtype") == 0
        vectors.execute("DROP FUNCTION modelstore.tensor_to_vector(modelstore.tensor)")
        # Better matches by name change nothing: the bodies call casts.
        squatter.execute("CREATE FUNCTION modelstore.astype(modelstore.tensor, character varying) RETURNS modelstore.tensor LANGUAGE sql AS 'SELECT NULL::modelstore.tensor'")
        vectors.execute("DROP CAST (\"V's\".vector AS modelstore.tensor); DROP FUNCTION modelstore.tensor_from_vector")
        assert value(vectors, "SELECT modelstore.enable_pgvector()") == 2
        assert value(vectors, "SELECT '[1,2.5,-3]'::\"V's\".vector::modelstore.tensor::text") == "f32:[1,2.5,-3]"
    finally:
        vectors.execute("ALTER SCHEMA modelstore OWNER TO CURRENT_USER; DROP OWNED BY squatter CASCADE; DROP ROLE squatter")


def test_types_are_found_as_members_of_their_extension(db) -> None:
    """A type of that name in a schema of that name is not pgvector's."""
    db.execute("CREATE SCHEMA look_alike; CREATE TYPE look_alike.vector AS (x integer); CREATE TYPE public.halfvec AS (x integer)")
    with pytest.raises(psycopg.errors.UndefinedObject, match="not installed"):
        db.execute("SELECT modelstore.enable_pgvector()")
