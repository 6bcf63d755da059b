"""Atoms with hostile names, in PL/pgSQL, on a standby, in a dump, in a second store, and in a dropped store."""

from __future__ import annotations

import collections
import random

import psycopg
import pytest
from atoms import check_references, reconstruct
from harness import Server
from atoms_held import ingest, release, rows
from hostile_names import HOSTILE, MORE_HOSTILE

# The function for values of a type.
INGEST = {"text": "ingest_text", "bytea": "ingest"}

pytestmark = pytest.mark.versioned

TEXT = "a line of text\nand a second line\n\na paragraph of its own\n"
BLOB = random.Random(6).randbytes(150_000)



def reads(key: tuple[int, int, int], other: tuple[int, int, int]) -> list[str]:
    """Statements that only read; the same answers everywhere."""
    a, b = ("ROW({}::pg_catalog.int8, {}::pg_catalog.int8, {}::pg_catalog.int8)".format(*k) for k in (key, other))
    calls = [
        f"reconstruct({a})", f"reconstruct({b})", f"reconstruct_parts({b})", f"nearest({a})", f"nearest({b}, 5, 'text')",
        "verify_atoms()", "nearest_points('{7,8,9,10}'::pg_catalog.int4[], 4)", "nearest_points(pg_catalog.array_fill(9, '{1000,4}'), 2)",
        "within_box('{0,0,0,0}', '{268435455,268435455,268435455,268435455}')", "within_radius('{0,0,0,0}', 4e8)",
        f"find_path({a}, {b})", f"find_path({a}, ({a}), 3, 'dijkstra', '{{composition}}')",
        f"atom_point({key[0]}, {key[1]}, {key[2]})", "atom_key('text', 1, 2, 3, 4)", f"atom_place({key[0]}, {key[1]}, {key[2]})",
    ]  # fmt: skip
    return [f"SELECT * FROM modelstore.{call}" for call in calls]


def writes(key: tuple[int, int, int]) -> dict[str, tuple]:
    """Statements that write, with their arguments."""
    functions = {
        "ingest_text(%s::pg_catalog.text)": (TEXT,), "ingest(%b::pg_catalog.bytea)": (BLOB,),
        "ingest_many(%s::pg_catalog.bytea[])": ([b"a", b"b"],), "release((%s, %s, %s))": key,
        "ingest_large_object(0)": (), "set_atom_meta((%s, %s, %s), '{\"a\": 1}')": key, "atoms_gc()": (), "secure_atoms()": (),
        "secure_atoms(false)": (), "refresh_spatial_summary()": (),
    }  # fmt: skip
    return {f"SELECT * FROM modelstore.{f}": arguments for f, arguments in functions.items()}


def test_a_hostile_search_path_changes_nothing(db, connect) -> None:
    text, blob = ingest(db, TEXT), ingest(db, BLOB)
    expected = {sql: db.execute(sql).fetchall() for sql in reads(text, blob)}
    db.execute(HOSTILE)
    db.execute(MORE_HOSTILE)
    c = connect()
    c.execute("SET search_path = hostile, pg_catalog, store")
    c.execute("CREATE TEMP TABLE atoms (boom int4)")
    c.execute("CREATE TEMP TABLE ingestion_log (boom int4)")
    with pytest.raises(psycopg.errors.RaiseException, match="hijacked"):  # the trap is set
        c.execute("SELECT 1::pg_catalog.int8 = 2::pg_catalog.int8")
    for sql, answer in expected.items():
        assert c.execute(sql).fetchall() == answer, sql
    for sql, arguments in writes(text).items():
        c.execute(sql, arguments)
    # Its ingests gave one more hold to each, its release took one away.
    held = collections.Counter({text: 1, blob: 2})
    held.update(db.execute("SELECT h_xy, h_yz, h_zm FROM modelstore.ingest_many('{a,b}'::bytea[])").fetchall() * 2)
    check_references(db, held)
    # There is no large object 0.
    assert db.execute("SELECT count(*) FROM store.ingestion_log WHERE status <> 'completed'").fetchone() == (1,)
    assert db.execute("SELECT sum(atoms) > 0 FROM store.atom_spatial_summary").fetchone() == (True,)


def test_ingest_in_a_block_with_an_exception_clause(db) -> None:
    db.execute("""
        CREATE FUNCTION attempt(first text, second text, fail boolean) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE got record; what text := 'kept';
        BEGIN
            PERFORM modelstore.ingest_text(first);
            BEGIN
                SELECT * INTO got FROM modelstore.ingest_text(second);
                IF fail THEN RAISE division_by_zero; END IF;
                PERFORM modelstore.reconstruct(ROW(got.h_xy, got.h_yz, got.h_zm));
            EXCEPTION WHEN division_by_zero THEN what := 'undone';
            END;
            PERFORM modelstore.ingest_large_object(999999);  -- a run that fails, inside the function
            RETURN what;
        END $$""")
    assert db.execute("SELECT attempt(%s, %s, false)", (TEXT, TEXT + "b\n")).fetchone() == ("kept",)
    assert db.execute("SELECT attempt(%s, %s, true)", (TEXT, TEXT + "c\n")).fetchone() == ("undone",)
    log = "SELECT status, count(*) FROM store.ingestion_log GROUP BY 1 ORDER BY 1"
    assert db.execute(log).fetchall() == [("completed", 3), ("failed", 2)]
    text, longer = ingest(db, TEXT), ingest(db, TEXT + "b\n")
    check_references(db, collections.Counter({text: 3, longer: 2}))


# Summary


def test_the_summary_is_refreshed_beside_readers(db, connect) -> None:
    summary = "SELECT modality_name, atoms, byte_length, ref_count, x_min, x_max, z_mean FROM store.atom_spatial_summary ORDER BY 1"
    truth = """SELECT p.modality, count(*), sum(byte_length), sum(ref_count), min(x), max(x), avg(z)::float8
               FROM store.atoms a, modelstore.atom_point(a.h_xy, a.h_yz, a.h_zm) p GROUP BY 1 ORDER BY 1"""
    assert db.execute(summary).fetchall() == []
    key = ingest(db, TEXT)
    ingest(db, BLOB)
    db.execute("SELECT modelstore.refresh_spatial_summary()")
    first = db.execute(summary).fetchall()
    assert [row[0] for row in first] == ["other", "text"]
    assert first == db.execute(truth).fetchall()
    readers = [connect(autocommit=False) for _ in range(2)]
    readers[0].execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    for reader in readers:
        assert reader.execute(summary).fetchall() == first
    ingest(db, TEXT + "more\n")
    release(db, key)
    db.execute("SET statement_timeout = '10s'")
    db.execute("SELECT modelstore.refresh_spatial_summary()")
    second = db.execute(summary).fetchall()
    assert second == db.execute(truth).fetchall() != first
    assert readers[0].execute(summary).fetchall() == first
    assert readers[1].execute(summary).fetchall() == second


# Standby, dump


@pytest.mark.slow
def test_a_hot_standby_reads_and_does_not_write(server: Server, dbname: str, db) -> None:
    text, blob = ingest(db, TEXT), ingest(db, BLOB)
    db.execute("SELECT modelstore.refresh_spatial_summary()")
    with server.standby() as standby:
        server.catch_up(standby)
        with standby.connect(dbname, autocommit=True) as there:
            assert there.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
            assert reconstruct(there, blob) == BLOB
            for sql in reads(text, blob):
                assert there.execute(sql).fetchall() == db.execute(sql).fetchall(), sql
            for sql, arguments in writes(text).items():
                with pytest.raises(psycopg.Error) as e:
                    there.execute(sql, arguments)
                assert e.value.sqlstate == "25006", (sql, e.value)
            later = ingest(db, TEXT + "later\n")
            server.catch_up(standby)
            assert reconstruct(there, later) == (TEXT + "later\n").encode()
            check_references(there, collections.Counter([text, blob, later]))


@pytest.mark.slow
@pytest.mark.parametrize("secured", [False, True], ids=["open", "secured"])
@pytest.mark.parametrize("form", ["plain", "custom"])
def test_dump_and_restore(form: str, secured: bool, server: Server, dbname: str, db, new_database, tmp_path) -> None:
    contents: dict[tuple, str | bytes] = {ingest(db, data): data for data in (TEXT, BLOB, b"", b"x")}
    db.execute("SELECT modelstore.set_atom_meta((%s, %s, %s), '{\"a\": [1]}')", next(iter(contents)))
    db.execute("SELECT modelstore.refresh_spatial_summary()")
    db.execute("SELECT modelstore.secure_atoms(%s)", (secured,))
    tables = ("atoms", "atom_parts", "atom_chunks", "ingestion_log", "atom_salts", "atom_spatial_summary")
    before = {t: sorted(db.execute(f"SELECT x::text FROM store.{t} x").fetchall()) for t in tables}
    dump, target = tmp_path / "dump", new_database()
    done = server.run("pg_dump", f"--format={form}", "--file", str(dump), dbname=dbname)
    assert (done.returncode, done.stderr) == (0, "")
    if form == "plain":
        done = server.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump), dbname=target)
    else:
        done = server.run("pg_restore", "--exit-on-error", "--jobs=2", "-d", target, str(dump), dbname=target)
    assert (done.returncode, done.stderr) == (0, "")
    with server.connect(target, autocommit=True) as restored:
        assert {t: sorted(restored.execute(f"SELECT x::text FROM store.{t} x").fetchall()) for t in tables} == before
        check_references(restored, collections.Counter(contents.keys()))
        security = "SELECT bool_and(relrowsecurity) FROM pg_class WHERE relname ~ '^(atoms(_\\d+_[a-z]+)?|atom_parts|atom_chunks|ingestion_log)$'"
        assert restored.execute(security).fetchone() == (secured,)
        for key, data in contents.items():
            assert reconstruct(restored, key) == (data.encode() if isinstance(data, str) else data)
            kind = "text" if isinstance(data, str) else "bytea"
            row = restored.execute(f"SELECT created, h_xy, h_yz, h_zm FROM modelstore.{INGEST[kind]}(%b::{kind})", (data,)).fetchone()
            assert row == (0, *key)
        check_references(restored, collections.Counter([*contents, *contents]))
        for sql in reads(*list(contents)[:2]):
            assert restored.execute(sql).fetchall() == db.execute(sql).fetchall(), sql


# Stores


def test_two_stores_do_not_touch_each_other(db) -> None:
    first = ingest(db, TEXT)
    db.execute("SELECT modelstore.create_store('second', ARRAY['atoms'])")
    db.execute("SET modelstore.store = 'second'")
    before = rows(db)
    with pytest.raises(psycopg.errors.UndefinedObject):
        reconstruct(db, first)
    same, blob = ingest(db, TEXT), ingest(db, BLOB)
    assert same == first
    assert rows(db) == before
    for key in (same, blob):
        release(db, key)
    db.execute("SELECT modelstore.secure_atoms()")
    db.execute("SELECT modelstore.atoms_gc()")
    db.execute("SELECT modelstore.gc()")
    db.execute("SELECT modelstore.refresh_spatial_summary()")
    assert rows(db, "second") == {}
    assert rows(db) == before
    assert db.execute("SELECT count(*) FROM second.ingestion_log").fetchone() == (2,)
    assert db.execute("SELECT relrowsecurity FROM pg_class WHERE oid = 'store.atoms'::regclass").fetchone() == (False,)
    assert db.execute("SELECT modelstore.drop_store('second', cascade => true)").fetchone() == ("second",)
    db.execute("SET modelstore.store = 'store'")
    check_references(db, collections.Counter([first]))
    assert reconstruct(db, first) == TEXT.encode()


def test_a_store_with_atoms_is_dropped_only_on_demand(db) -> None:
    key = ingest(db, TEXT)
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as e:
        db.execute("SELECT modelstore.drop_store('store')")
    assert "cascade => true" in e.value.diag.message_hint
    assert reconstruct(db, key) == TEXT.encode()
    assert db.execute(e.value.diag.message_hint.encode()).fetchone() == ("store",)
    assert db.execute("SELECT relname FROM pg_class WHERE relname LIKE 'atom%' AND relkind <> 'c'").fetchall() == []
    with pytest.raises(psycopg.errors.InvalidSchemaName):
        ingest(db, TEXT)


def test_a_store_whose_atoms_are_gone_is_dropped(db) -> None:
    release(db, ingest(db, TEXT))
    db.execute("SELECT modelstore.atoms_gc()")
    assert db.execute("SELECT modelstore.drop_store('store')").fetchone() == ("store",)
    assert db.execute("SELECT count(*) FROM pg_matviews").fetchone() == (0,)
