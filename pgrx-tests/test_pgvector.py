"""Casts between tensor and the types of pgvector, where a server has it."""

from __future__ import annotations

import psycopg
import pytest


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
