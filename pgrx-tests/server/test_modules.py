"""Modules of a store: what it costs to have them, who may add them, and sessions that knew the store before."""

from __future__ import annotations

import psycopg
import pytest
from transfer import refusal

pytestmark = pytest.mark.versioned

NEAREST = "SELECT * FROM modelstore.nearest('{1,2,3,4}'::integer[])"


def test_a_store_is_small(db) -> None:
    """What it takes when it is empty: docs/performance.md has the figures."""
    (relations,) = db.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'store'::regnamespace").fetchone()
    assert relations <= 66
    (size,) = db.execute("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'store'::regnamespace AND relkind = 'r'").fetchone()
    assert size < 1 << 20


def test_stores_come_and_go_in_one_transaction(connect) -> None:
    """With the settings that PostgreSQL comes with, the locks suffice."""
    db = connect(autocommit=False)
    for number in range(20):
        db.execute("SELECT modelstore.create_store('passing')")
        db.execute("SELECT modelstore.register_model('m', %s)", (str(number),))
        db.execute("SELECT modelstore.drop_store('passing', cascade => true)")
    db.commit()
    assert db.execute("SELECT store FROM modelstore.stores()").fetchall() == [("store",)]


def test_a_module_that_another_session_adds_is_found(db, connect) -> None:
    other = connect()
    before = refusal(other, NEAREST)
    assert (before.sqlstate, before.message_hint) == ("0A000", "SELECT modelstore.add_module('atoms');")
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    assert other.execute(NEAREST).fetchall() == []


def test_the_hint_names_a_store_that_is_not_the_current_one(db) -> None:
    db.execute("""SELECT modelstore.create_store('It''s "odd"')""")
    db.execute("""SET modelstore.store = 'It''s "odd"'""")
    hint = refusal(db, NEAREST).message_hint
    db.execute(hint)
    assert db.execute(NEAREST).fetchall() == []


def test_only_the_owner_of_a_store_adds_modules(db, connect) -> None:
    db.execute("CREATE ROLE module_guest LOGIN; GRANT ALL ON SCHEMA store TO module_guest; GRANT ALL ON ALL TABLES IN SCHEMA store TO module_guest")
    try:
        guest = connect(user="module_guest")
        refused = refusal(guest, "SELECT modelstore.add_module('atoms')")
        assert refused.sqlstate == "42501"
        assert db.execute("SELECT modules FROM modelstore.stores()").fetchone() == (["models", "tensors", "training"],)
    finally:
        db.execute("DROP OWNED BY module_guest; DROP ROLE module_guest")


@pytest.mark.parametrize("partitions", [8, 32, 64, 256])
def test_atoms_in_any_number_of_partitions(partitions: int, db) -> None:
    db.execute("SELECT modelstore.add_module('atoms', partitions => %s)", (partitions,))
    (count,) = db.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'store.atoms'::regclass").fetchone()
    assert count == partitions
    db.execute("SELECT modelstore.ingest(string_agg('line ' || i, chr(10)), 'text', 'lines') FROM generate_series(1, 300) i")
    (same,) = db.execute("""
        SELECT modelstore.reconstruct((h_xy, h_yz, h_zm)) = convert_to((SELECT string_agg('line ' || i, chr(10)) FROM generate_series(1, 300) i), 'UTF8')
        FROM store.ingestion_log WHERE source_uri = 'lines'
    """).fetchone()
    assert same
    assert db.execute("SELECT * FROM modelstore.verify_atoms()").fetchall() == []
    exact = """
        WITH p AS (SELECT a.h_xy, a.h_yz, a.h_zm, p.* FROM store.atoms a, modelstore.atom_point(a.h_xy, a.h_yz, a.h_zm) p)
        SELECT sqrt(min((b.x - a.x)::float8 ^ 2 + (b.y - a.y)::float8 ^ 2 + (b.z - a.z)::float8 ^ 2 + (b.m - a.m)::float8 ^ 2))
        FROM p a JOIN p b ON (a.h_xy, a.h_yz, a.h_zm) <> (b.h_xy, b.h_yz, b.h_zm) GROUP BY a.h_xy, a.h_yz, a.h_zm ORDER BY 1, a.h_xy, a.h_yz, a.h_zm
    """
    found = """
        SELECT max(n.distance) FROM store.atoms a, modelstore.nearest((a.h_xy, a.h_yz, a.h_zm)::modelstore.atom, 2) n
        GROUP BY a.h_xy, a.h_yz, a.h_zm ORDER BY 1, a.h_xy, a.h_yz, a.h_zm
    """
    directly = db.execute(found).fetchall()
    assert [d for (d,) in directly] == pytest.approx([d for (d,) in db.execute(exact)])
    # By statements, as where row-level security is on.
    with db.transaction():
        db.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        assert db.execute(found).fetchall() == directly


def test_atoms_that_somebody_divides_anew_are_found(db) -> None:
    """With a partition detached and its range attached in two, searches are the planner's."""
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    db.execute("SELECT modelstore.ingest_many(array_agg(convert_to('note ' || i, 'UTF8')), 'text') FROM generate_series(1, 50) i")
    before = db.execute("SELECT * FROM modelstore.nearest('{1,2,3,4}'::integer[], 60, 'text')").fetchall()
    assert len(before) == 50
    (half,) = db.execute("SELECT 1::bigint << 55").fetchone()
    db.execute(f"""
        ALTER TABLE store.atoms DETACH PARTITION store.atoms_000_text;
        ALTER TABLE store.atoms_000_text RENAME TO old;
        CREATE TABLE store.low PARTITION OF store.atoms FOR VALUES FROM (0) TO ({half});
        CREATE TABLE store.high PARTITION OF store.atoms FOR VALUES FROM ({half}) TO ({2 * half});
        INSERT INTO store.atoms SELECT * FROM store.old;
        DROP TABLE store.old;
    """)
    assert db.execute("SELECT * FROM modelstore.nearest('{1,2,3,4}'::integer[], 60, 'text')").fetchall() == before


@pytest.mark.parametrize("table", ["ingestion_log", "atoms"])
def test_a_table_of_the_user_s_with_the_name_of_a_module_s(table: str, db) -> None:
    """It hinders the module, and nothing else; what is missing is named."""
    db.execute(f"CREATE TABLE store.{table} (mine integer)")
    db.execute("SELECT modelstore.register_model('m', '1')")
    assert db.execute("SELECT * FROM modelstore.verify_store()").fetchall() == []
    assert db.execute("SELECT modules FROM modelstore.stores()").fetchone() == (["models", "tensors", "training"],)
    assert refusal(db, NEAREST).sqlstate in ("42P01", "42703")
    with pytest.raises(psycopg.errors.DuplicateTable):
        db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    left = "SELECT relname FROM pg_class WHERE relnamespace = 'store'::regnamespace AND (relname LIKE 'atom%' OR relname LIKE 'ingestion%')"
    assert db.execute(left).fetchall() == [(table,)]
    db.execute("SELECT modelstore.drop_store('store', cascade => true)")
    assert db.execute("SELECT count(*) FROM store." + table).fetchone() == (0,)
