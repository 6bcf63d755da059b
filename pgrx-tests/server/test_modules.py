"""Modules of a store: their size, who may add them, and sessions that used the store before."""

from __future__ import annotations

import psycopg
import pytest
from harness import wait_until
from observe import aside, is_blocked
from transfer import refusal

pytestmark = pytest.mark.versioned

NEAREST = "SELECT * FROM modelstore.nearest_points('{1,2,3,4}'::integer[])"


def test_a_store_is_small(db) -> None:
    """What it takes when it is empty: docs/performance.md has the figures."""
    (relations,) = db.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'store'::regnamespace").fetchone()
    assert relations <= 60
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
        assert refused.message_hint == "SET ROLE postgres; SELECT modelstore.add_module('atoms');"
        assert db.execute("SELECT modules FROM modelstore.stores()").fetchone() == (["models", "tensors", "training"],)
        db.execute(refused.message_hint)
        assert db.execute(NEAREST).fetchall() == []
    finally:
        db.execute("DROP OWNED BY module_guest; DROP ROLE module_guest")


@pytest.mark.parametrize("partitions", [8, 32, 64, 256])
def test_atoms_in_any_number_of_partitions(partitions: int, db) -> None:
    db.execute("SELECT modelstore.add_module('atoms', partitions => %s)", (partitions,))
    (count,) = db.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'store.atoms'::regclass").fetchone()
    assert count == partitions
    db.execute("SELECT modelstore.ingest_text(string_agg('line ' || i, chr(10)), 'text', 'lines') FROM generate_series(1, 300) i")
    db.execute("SELECT modelstore.ingest_many(array_agg(convert_to('line ' || i, 'UTF8')), 'text') FROM generate_series(1, 300) i")
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
    before = db.execute("SELECT * FROM modelstore.nearest_points('{1,2,3,4}'::integer[], 60, 'text')").fetchall()
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
    assert db.execute("SELECT * FROM modelstore.nearest_points('{1,2,3,4}'::integer[], 60, 'text')").fetchall() == before


def found_by_modality(db) -> dict[str, int]:
    """How many atoms a search finds in each modality that has some."""
    names = ("text", "audio", "image", "video", "tensor", "code", "structured", "other")
    search = "SELECT count(*) FROM modelstore.nearest_points('{0,0,0,0}'::integer[], 1000, %s)"
    inside = "SELECT count(*) FROM modelstore.within_box('{0,0,0,0}', '{268435455,268435455,268435455,268435455}', %s)"
    found = {name: db.execute(search, (name,)).fetchone()[0] for name in names}
    assert {name: db.execute(inside, (name,)).fetchone()[0] for name in names} == found
    return {name: count for name, count in found.items() if count}


def test_atoms_with_a_partition_for_all_the_rest(db) -> None:
    """An archived range and a DEFAULT partition: as many partitions as before, and others."""
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    for modality in ("text", "code", "other"):
        db.execute("SELECT modelstore.ingest(%s::bytea, %s)", (modality.encode(), modality))
    before = found_by_modality(db)
    assert before == {"text": 1, "code": 1, "other": 1}
    db.execute("ALTER TABLE store.atoms DETACH PARTITION store.atoms_002_image; CREATE TABLE store.rest PARTITION OF store.atoms DEFAULT")
    assert found_by_modality(db) == before


def test_atoms_that_are_partitioned_by_another_column(db) -> None:
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    for number in range(20):
        for modality in ("text", "code"):
            db.execute("SELECT modelstore.ingest(%s::bytea, %s)", (f"{modality} {number}".encode(), modality))
    before = found_by_modality(db)
    assert before == {"text": 20, "code": 20}
    db.execute("CREATE TABLE store.others (LIKE store.atoms INCLUDING ALL) PARTITION BY RANGE (h_yz, h_xy)")
    for number in range(8):
        db.execute(f"CREATE TABLE store.others_{number} PARTITION OF store.others FOR VALUES FROM ({number << 56}, 0) TO ({number + 1 << 56}, 0)")
    db.execute("INSERT INTO store.others SELECT * FROM store.atoms; DROP TABLE store.atoms CASCADE; ALTER TABLE store.others RENAME TO atoms")
    db.execute("ALTER INDEX store.others_atom_place_h_xy_h_yz_h_zm_idx RENAME TO atoms_place_idx")
    assert found_by_modality(db) == before


def test_a_table_of_the_module_that_is_gone_is_named(db) -> None:
    """The store is not taken for one without the module, and not dropped as empty."""
    db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    db.execute("SELECT modelstore.ingest_text('x'::text)")
    db.execute("DROP TABLE store.ingestion_log")
    for call in ("verify_store()", "drop_store('store')", "drop_store('store', true)", "add_module('atoms')"):
        refused = refusal(db, f"SELECT modelstore.{call}")
        assert (refused.sqlstate, '"ingestion_log"' in refused.message_primary) == ("42P01", True), call
    assert db.execute("SELECT count(*) FROM store.atoms").fetchone() == (1,)


def test_two_sessions_add_one_module(db, connect) -> None:
    """The second waits, and then has it."""
    first, second = connect(autocommit=False), connect()
    first.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    waiting = aside(second, "SELECT modelstore.add_module('atoms', partitions => 32, if_not_exists => true)")
    wait_until(lambda: is_blocked(db, second.info.backend_pid), "the second waits")
    first.commit()
    assert waiting.join().error is None
    assert waiting.rows == [("atoms",)]
    assert db.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'store.atoms'::regclass").fetchone() == (8,)


@pytest.mark.parametrize("table", ["ingestion_log", "atoms"])
def test_a_table_of_the_user_s_with_the_name_of_a_module_s(table: str, db) -> None:
    """It hinders the module, and nothing else; what is missing is named."""
    db.execute(f"CREATE TABLE store.{table} (mine integer)")
    db.execute("SELECT modelstore.register_model('m', '1')")
    assert db.execute("SELECT * FROM modelstore.verify_store()").fetchall() == []
    assert db.execute("SELECT modules FROM modelstore.stores()").fetchone() == (["models", "tensors", "training"],)
    assert refusal(db, NEAREST).sqlstate == "0A000"
    with pytest.raises(psycopg.errors.DuplicateTable):
        db.execute("SELECT modelstore.add_module('atoms', partitions => 8)")
    left = "SELECT relname FROM pg_class WHERE relnamespace = 'store'::regnamespace AND (relname LIKE 'atom%' OR relname LIKE 'ingestion%')"
    assert db.execute(left).fetchall() == [(table,)]
    db.execute("SELECT modelstore.drop_store('store', cascade => true)")
    assert db.execute("SELECT count(*) FROM store." + table).fetchone() == (0,)
