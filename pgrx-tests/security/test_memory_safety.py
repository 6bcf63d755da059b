"""Tables that differ from what the extension expects, changed by roles with no more than CONNECT: an error that names them,
or the correct answer; never a crash, and never contents of the server's memory."""

from __future__ import annotations

import pathlib

import psycopg
import pytest
from harness import wait_until
from models import random_tensor, safetensors_bytes
from people import ATTACKER, meet, sqlstate

pytestmark = pytest.mark.versioned

# What a store that is none may be told as.
NO_STORE = {"42939", "3F000"}
NOT_THE_TABLE = {"42804", "42809", "3F000", "42703", "42P17", "55000"}


LOOK_ALIKES = """
    CREATE TEMP TABLE store_version (version int, extension_version text);
    INSERT INTO store_version VALUES (1, 'x');
    CREATE TEMP TABLE tensor_chunks (chunk_hash bytea, chunk bigint);
    CREATE TEMP TABLE tensor_metadata (tensor_id uuid, dtype text, shape bigint[], content_hash bytea, raw_bytes bigint);
    CREATE TEMP TABLE tensor_data (tensor_id uuid, chunk_index int, chunk_hash bytea, first_element bigint, element_count bigint);
    INSERT INTO tensor_metadata VALUES ('00000000-0000-0000-0000-000000000001', 'f32', '{4}', decode(repeat('00', 32), 'hex'), 16);
    INSERT INTO tensor_data VALUES ('00000000-0000-0000-0000-000000000001', 0, decode(repeat('00', 32), 'hex'), 0, 4);
    INSERT INTO tensor_chunks VALUES (decode(repeat('00', 32), 'hex'), 64);
    CREATE TEMP TABLE atoms (h_xy bigint, h_yz bigint, h_zm bigint, value bigint, content_hash bytea, byte_length bigint, ref_count bigint,
                             modality smallint, meta jsonb);
    INSERT INTO atoms VALUES (1, 2, 3, 64, decode(repeat('00', 32), 'hex'), 4, 1, 0, '{}');
    CREATE TEMP TABLE atom_parts (parent_h_xy bigint, parent_h_yz bigint, parent_h_zm bigint, part_index int, h_xy bigint, h_yz bigint, h_zm bigint);
    CREATE TEMP TABLE atom_chunks (h_xy bigint, h_yz bigint, h_zm bigint, chunk_hash bytea);
"""


CALLS = [
    "reconstruct_tensor('00000000-0000-0000-0000-000000000001')", "reconstruct('(1,2,3)')", "verify_atoms()", "verify_store()", "gc()",
    "find_model('m')", "space_report()", "store_version()",
]  # fmt: skip


@pytest.mark.parametrize("name", ["pg_my_temp_schema()::regnamespace::text", "'pg_temp'", "'pg_toast'", "'pg_catalog'", "'information_schema'"])
def test_temporary_tables_are_no_store(name: str, plain) -> None:
    """Line 1, crash_temp_tables.sql."""
    plain.execute(LOOK_ALIKES)
    plain.execute(f"SELECT set_config('modelstore.store', {name}, false)")
    for call in CALLS:
        assert sqlstate(plain, f"SELECT * FROM modelstore.{call}") in NO_STORE, call


CHANGED = [
    ("models", "config", "bytea", "plan_gradient_checkpoints(modelstore.find_model('m'))"),
    ("models", "config", "bigint", "plan_gradient_checkpoints(modelstore.find_model('m'))"),
    ("tensor_metadata", "shape", "bigint", "get_tensor(modelstore.find_model('m'), 'transformer.wte.weight')"),
    ("tensor_metadata", "shape", "text", "get_tensor_slice(modelstore.find_model('m'), 'transformer.wte.weight', '0')"),
    ("tensor_metadata", "dtype", "bigint", "verify_store()"),
    ("tensor_chunks", "chunk", "bigint", "export_safetensors(modelstore.find_model('m'))"),
    ("tensor_chunks", "chunk", "bytea", "export_safetensors(modelstore.find_model('m'))"),
    ("model_files", "header", "bigint", "export_safetensors(modelstore.find_model('m'))"),
    ("model_files", "header", "integer[]", "export_safetensors(modelstore.find_model('m'))"),
    ("atoms", "value", "bigint", "verify_atoms()"),
    ("atoms", "value", "bigint", "reconstruct('{atom}')"),
    ("atoms", "content_hash", "bigint", "verify_atoms()"),
    ("upload_parts", "data", "bigint", "finish_upload('{upload}', 'x', '1')"),
]  # fmt: skip


@pytest.mark.parametrize("session", ["the same session", "a new one"])
def test_a_column_of_another_type(session: str, attacker, connect) -> None:
    """Line 1: a table that is made anew, with a column of a type that is read as another piece of memory."""
    atom = attacker.execute("SELECT (h_xy, h_yz, h_zm)::modelstore.atom::text FROM ms.atoms LIMIT 1").fetchone()[0]
    (upload,) = attacker.execute("SELECT modelstore.begin_upload()").fetchone()
    attacker.execute("SELECT modelstore.append_upload(%s, 'abcdefgh'::bytea)", (upload,))
    for table, column, kind, call in CHANGED:
        call = call.replace("{atom}", atom).replace("{upload}", str(upload))
        sqlstate(attacker, f"SELECT * FROM modelstore.{call}")  # what a session keeps of a store is kept
        columns = attacker.execute(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (f"ms.{table}",),
        ).fetchall()
        value = {"bigint": "64", "bytea": "'\\x7b7d'", "text": "'4'", "integer[]": "'{64}'"}[kind]
        declared = ", ".join(f"{n} {kind if n == column else t}" for n, t in columns)
        selected = ", ".join(f"{value}::{kind}" if n == column else n for n, _ in columns)
        attacker.execute(f"ALTER TABLE ms.{table} RENAME TO old; CREATE TABLE ms.{table} ({declared}); INSERT INTO ms.{table} SELECT {selected} FROM ms.old")
        c = attacker
        if session != "the same session":
            c = connect(dbname=attacker.info.dbname, user=ATTACKER, options="-c modelstore.store=ms")
        assert sqlstate(c, f"SELECT * FROM modelstore.{call}") in NOT_THE_TABLE, (table, column, kind, call)
        attacker.execute(f"DROP TABLE ms.{table}; ALTER TABLE ms.old RENAME TO {table}")
        assert attacker.execute("SELECT modelstore.find_model('m') IS NOT NULL").fetchone() == (True,)


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_in_place_of_a_table_is_named(kind: str, attacker) -> None:
    """Security rule 2."""
    for table in ("tensor_chunks", "tensor_data", "models", "atoms", "store_version"):
        call = "verify_atoms()" if table == "atoms" else "verify_store()"
        with pytest.raises(psycopg.Error) as e, attacker.transaction():
            attacker.execute(f"ALTER TABLE ms.{table} RENAME TO old; CREATE {kind} ms.{table} AS SELECT * FROM ms.old")
            attacker.execute(f"SELECT * FROM modelstore.{call}")
        assert e.value.sqlstate in ("42809", "3F000"), table
        assert table in str(e.value)


def hits(c: psycopg.Connection) -> list[tuple]:
    return c.execute("SELECT * FROM modelstore.nearest((SELECT (h_xy, h_yz, h_zm)::modelstore.atom FROM ms.atoms ORDER BY 1 LIMIT 1), 3) ORDER BY 4, 1, 2, 3").fetchall()


PICK = """
    DO $do$
    DECLARE p text; b text; columns text;
    BEGIN
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) INTO p, b FROM ms.atoms a JOIN pg_class c ON c.oid = a.tableoid ORDER BY a.h_xy LIMIT 1;
        EXECUTE format('ALTER TABLE ms.atoms DETACH PARTITION ms.%I', p);
        {do}
    END $do$
"""
SUBPARTITION = PICK.replace("{do}", """
        EXECUTE format('CREATE TABLE ms.sub PARTITION OF ms.atoms %s PARTITION BY RANGE (h_xy)', b);
        EXECUTE 'CREATE TABLE ms.sub1 PARTITION OF ms.sub DEFAULT';
        EXECUTE format('INSERT INTO ms.atoms SELECT * FROM ms.%I', p);
""")  # fmt: skip
OTHER_ORDER = PICK.replace("{do}", """
        SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attname DESC) INTO columns FROM pg_attribute
            WHERE attrelid = 'ms.atoms'::regclass AND attnum > 0 AND NOT attisdropped;
        EXECUTE format('CREATE TABLE ms.sub (gone text, %s)', columns);
        EXECUTE 'ALTER TABLE ms.sub DROP COLUMN gone';
        SELECT string_agg(quote_ident(attname), ', ') INTO columns FROM pg_attribute WHERE attrelid = 'ms.sub'::regclass AND attnum > 0 AND NOT attisdropped;
        EXECUTE format('INSERT INTO ms.sub (%s) SELECT %s FROM ms.%I', columns, columns, p);
        EXECUTE format('ALTER TABLE ms.sub ALTER h_xy SET NOT NULL, ALTER h_yz SET NOT NULL, ALTER h_zm SET NOT NULL');
        SELECT string_agg(format('ALTER TABLE ms.sub ALTER %I SET NOT NULL', attname), '; ') INTO columns FROM pg_attribute
            WHERE attrelid = 'ms.atoms'::regclass AND attnum > 0 AND attnotnull;
        EXECUTE columns;
        EXECUTE format('ALTER TABLE ms.atoms ATTACH PARTITION ms.sub %s', b);
""")  # fmt: skip


@pytest.mark.parametrize("change", [SUBPARTITION, OTHER_ORDER], ids=["partitioned again", "columns in another order"])
def test_partitions_of_atoms_that_are_others(change: str, attacker) -> None:
    """Line 2, crash_subpartition.sql: the same neighbours, or an error."""
    attacker.execute("SELECT modelstore.ingest_text(t, 'text', 'x') FROM unnest(ARRAY['hello there', 'hello you', 'goodbye']) t")
    before = hits(attacker)
    assert len(before) == 3
    attacker.execute("CREATE TEMP TABLE was AS SELECT * FROM ms.atoms")
    # What CREATE TABLE … PARTITION OF does not take over by itself, such as CHECKs, is the attacker's to leave out.
    attacker.execute("""DO $$ DECLARE c text; BEGIN FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = 'ms.atoms'::regclass AND contype = 'c'
                        LOOP EXECUTE format('ALTER TABLE ms.atoms DROP CONSTRAINT %I', c); END LOOP; END $$""")
    attacker.execute(change)
    state = sqlstate(attacker, "SELECT * FROM modelstore.nearest((SELECT (h_xy, h_yz, h_zm)::modelstore.atom FROM ms.atoms LIMIT 1), 3)")
    assert state in {"00000", *NOT_THE_TABLE}
    if state == "00000":
        assert hits(attacker) == before


# A view whose function does something in the middle of a cursor of ours.
EVIL = """
    CREATE SCHEMA evil;
    CREATE TABLE evil.store_version (version int, extension_version text); INSERT INTO evil.store_version VALUES (1, 'x');
    CREATE TABLE evil.tensor_chunks (chunk_hash bytea, chunk modelstore.tensor_chunk);
    CREATE TABLE evil.mode (m text); INSERT INTO evil.mode VALUES ('err');
    CREATE FUNCTION evil.f(i int) RETURNS bytea LANGUAGE plpgsql AS $$
    DECLARE m text;
    BEGIN
        IF i <> 15000 THEN RETURN NULL; END IF;
        SELECT mode.m INTO m FROM evil.mode;
        CASE m
            WHEN 'err' THEN RAISE EXCEPTION 'trap';
            WHEN 'div' THEN PERFORM 1 / 0;
            WHEN 'cancel' THEN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(1);
            WHEN 'closeall' THEN EXECUTE 'CLOSE ALL';
            WHEN 'discard' THEN EXECUTE 'DISCARD PLANS'; EXECUTE 'DEALLOCATE ALL';
            WHEN 'recurse' THEN PERFORM count(*) FROM modelstore.verify_atoms();
            WHEN 'drop' THEN EXECUTE 'DROP VIEW evil.atoms CASCADE';
            WHEN 'setstore' THEN PERFORM set_config('modelstore.store', 'ms', false);
            WHEN 'sub' THEN BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END;
            WHEN 'commit' THEN COMMIT;
            WHEN 'rollback' THEN ROLLBACK;
        END CASE;
        RETURN NULL;
    END $$;
    CREATE TABLE evil.atom_parts (parent_h_xy bigint, parent_h_yz bigint, parent_h_zm bigint, part_index int, h_xy bigint, h_yz bigint, h_zm bigint);
    CREATE TABLE evil.atom_chunks (h_xy bigint, h_yz bigint, h_zm bigint, chunk_hash bytea);
    CREATE VIEW evil.atoms AS SELECT 1::bigint h_xy, g::bigint h_yz, 1::bigint h_zm, decode(repeat('00', 32), 'hex') content_hash, evil.f(g) AS value,
        0::bigint byte_length, 0::bigint ref_count, '{}'::jsonb meta, 1::smallint modality FROM generate_series(1, 20000) g;
"""


def test_errors_that_pass_through_a_cursor(attacker) -> None:
    """Line 3, trap_view.sql and trap_recurse.sql: whatever happens under a statement of ours, the session goes on."""
    attacker.execute(EVIL)
    attacker.execute("SET modelstore.store = 'evil'")
    for mode in "err div cancel closeall discard sub setstore commit rollback recurse drop".split():
        attacker.execute("UPDATE evil.mode SET m = %s", (mode,))
        for _ in range(2):
            state = sqlstate(attacker, "SELECT count(*) FROM modelstore.verify_atoms()")
            assert state != "00000", "a view is no table of a store"
            inside = """DO $$ BEGIN PERFORM count(*) FROM modelstore.verify_atoms(); EXCEPTION WHEN query_canceled OR OTHERS THEN NULL; END $$"""
            assert sqlstate(attacker, inside) in ("00000", "57014"), mode
            assert attacker.execute("SELECT 1").fetchone() == (1,)
            attacker.execute("SET modelstore.store = 'evil'")
    attacker.execute("SET modelstore.store = 'ms'")
    assert attacker.execute("SELECT count(*) FROM modelstore.verify_store()").fetchone() == (0,)


# The type of a column in a table that is otherwise as it should be: the same trap without a view.
@pytest.mark.parametrize("mode", ["err", "div", "sub"])
def test_errors_of_a_policy_pass_through_a_cursor(mode: str, attacker, connect) -> None:
    """Line 3, with a policy on a table of the owner's own."""
    raising = {"err": "RAISE EXCEPTION 'trap'", "div": "PERFORM 1 / 0", "sub": "BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END"}[mode]
    attacker.execute(f"""
        CREATE FUNCTION ms.p(i bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {raising}; RETURN true; END $$;
        ALTER TABLE ms.atoms ENABLE ROW LEVEL SECURITY; ALTER TABLE ms.atoms FORCE ROW LEVEL SECURITY;
        CREATE POLICY p ON ms.atoms USING (ms.p(h_xy));
    """)
    for _ in range(3):
        assert sqlstate(attacker, "SELECT count(*) FROM modelstore.verify_atoms()") in {"P0001", "22012", "00000", *NOT_THE_TABLE, "42501"}
        assert attacker.execute("SELECT 1").fetchone() == (1,)


MOVED = """
    CREATE SCHEMA modelstore;
    CREATE DOMAIN modelstore.tensor_chunk AS bigint;
    CREATE DOMAIN modelstore.tensor AS bytea;
    CREATE TYPE modelstore.atom AS (a bigint, b bigint, c bigint);
"""
IMPORT = "SELECT model_id FROM ms_old.import_safetensors('m', %s, %b::bytea)"


@pytest.fixture
def moved(server, new_database, connect) -> psycopg.Connection:
    """A session of the attacker, who installed the extension and made a store; a superuser renamed the extension's schema, and the attacker
    made another under its name. The attacker cannot rename it."""
    name = new_database()
    meet(server, name, extension=False)
    c = connect(dbname=name, user=ATTACKER)
    c.execute("CREATE EXTENSION pg_modelstore")
    c.execute("SELECT modelstore.create_store()")
    rename = "ALTER SCHEMA modelstore RENAME TO ms_old"
    assert sqlstate(c, rename) == "42501"
    connect(dbname=name).execute(rename)
    c.execute(MOVED)
    return c


def test_in_a_schema_of_another_name_nothing_is_taken_for_what_it_is_not(moved, connect) -> None:
    """Line 4: every call says which schema the extension needs; when it is back, all goes on."""
    data = safetensors_bytes({"a": random_tensor(1, 300, 200), "b": random_tensor(2, 4)})
    later = connect(dbname=moved.info.dbname, user=ATTACKER)
    for c in (moved, later):
        for call in ("verify_store()", "space_report()", "find_model('m')", "gc()", "create_store('other')"):
            assert sqlstate(c, f"SELECT * FROM ms_old.{call}") == "55000", call
        assert sqlstate(c, IMPORT, ("1", data)) == "55000"
    moved.execute("DROP SCHEMA modelstore CASCADE")
    connect(dbname=moved.info.dbname).execute("ALTER SCHEMA ms_old RENAME TO modelstore")
    for version, c in (("1", moved), ("2", later)):
        (model,) = c.execute(IMPORT.replace("ms_old", "modelstore"), (version, data)).fetchone()
        parts = c.execute("SELECT modelstore.export_safetensors(%s)", (model,), binary=True).fetchall()
        assert b"".join(p for (p,) in parts) == data
        assert c.execute("SELECT count(*) FROM modelstore.verify_store()").fetchone() == (0,)


def test_a_chunk_is_never_stored_as_an_address(moved) -> None:
    """Line 4, crash_schema_rename.sql."""
    moved.execute("ALTER TABLE store.tensor_chunks ALTER chunk TYPE bigint USING NULL, ALTER chunk DROP NOT NULL")
    data = safetensors_bytes({"a": random_tensor(1, 4)})
    assert sqlstate(moved, IMPORT, ("1", data)) == "55000"
    assert moved.execute("SELECT count(*) FROM store.tensor_chunks").fetchone() == (0,)


@pytest.mark.parametrize("first", ["SELECT 1", "CREATE TEMP TABLE x (a int)", "SELECT txid_current()"])
def test_a_streaming_export_keeps_its_snapshot(first: str, db, connect) -> None:
    """Line 5, cursor_snapshot.sh: also in a transaction that has written."""
    import hashlib

    data = safetensors_bytes({f"w{i}": random_tensor(i, 600, 512) for i in range(6)})
    (model,) = db.execute("SELECT model_id FROM modelstore.import_safetensors('m', '1', %b::bytea)", (data,)).fetchone()
    reader = connect(autocommit=True)
    reader.execute("BEGIN")
    reader.execute(first)
    reader.execute("DECLARE c CURSOR FOR SELECT modelstore.export_safetensors(%s)".replace("%s", f"'{model}'"))
    got = [p for (p,) in reader.execute("FETCH 2 FROM c", binary=True)]
    db.execute("SELECT modelstore.delete_model(%s)", (model,))
    db.execute("SELECT modelstore.gc()")
    got += [p for (p,) in reader.execute("FETCH ALL FROM c", binary=True)]
    reader.execute("ROLLBACK")
    assert hashlib.sha256(b"".join(got)).digest() == hashlib.sha256(data).digest()


def test_one_pool_of_threads_a_session(db) -> None:
    """Line 6: the pool has the present size of the setting, whatever it was before."""
    data = safetensors_bytes({"a": random_tensor(1, 600, 512), "b": random_tensor(2, 600, 512)})
    (model,) = db.execute("SELECT model_id FROM modelstore.import_safetensors('m', '1', %b::bytea)", (data,)).fetchone()
    for threads in (*range(1, 40), 64, 2):
        db.execute(f"SET modelstore.threads = {threads}")
        db.execute("SELECT count(*) FROM modelstore.verify_model(%s)", (model,))
    tasks = pathlib.Path(f"/proc/{db.info.backend_pid}/task")
    wait_until(lambda: len(list(tasks.iterdir())) <= 8, "the threads of earlier settings are gone")
