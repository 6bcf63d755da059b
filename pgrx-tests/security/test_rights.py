"""Attempts to gain privileges: schemas created in advance, names that contain statements, bypassing row-level security, and
running code as another role."""

from __future__ import annotations

import os
import re
import subprocess

import psycopg
import pytest
from campaign import functions
from harness import FAST, ROOT, Server
from models import random_tensor, safetensors_bytes
from people import ATTACKER, OWNER, PLAIN, READER, TRAP, create_store, meet, ran_as, sqlstate

pytestmark = pytest.mark.versioned


# Names


CONTROL = ["x\nDROP TABLE ms.victim;--", "x\rDROP TABLE ms.victim;--", "x\r\nDROP TABLE ms.victim;--", "a\tb", "a\x01b", "a\x7fb", "\n", "a\x0cb", "a\x1fb"]


def test_names_with_control_characters(attacker) -> None:
    """Line 8, create_store_injection.sql."""
    attacker.execute("CREATE TABLE ms.victim (a int)")
    for name in CONTROL:
        with pytest.raises(psycopg.errors.InvalidName):
            create_store(attacker, name)
        assert attacker.execute("SELECT to_regclass('ms.victim') IS NOT NULL").fetchone() == (True,)
        assert attacker.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", (name,)).fetchone() == (0,)


def test_names_that_are_odd_but_names(owner) -> None:
    """A store of any other name works, or is refused for its name."""
    for name in ("x */ y --", "$$@store@", "'; SELECT 1; --\"", "é\u0301\u202e"):
        try:
            create_store(owner, name)
        except psycopg.errors.InvalidName:
            continue
        owner.execute("SELECT set_config('modelstore.store', %s, false)", (name,))
        owner.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (safetensors_bytes({"w": random_tensor(1, 4)}),))
        assert owner.execute("SELECT count(*) FROM modelstore.verify_store()").fetchone() == (0,)


# Schemas made first


def test_the_extension_is_not_installed_into_the_schema_of_another_role(server, new_database, connect) -> None:
    """Line 11, squat.sql."""
    name = new_database()
    meet(server, name, extension=False)
    left_behind = "CREATE FUNCTION modelstore.find_model(text, integer) RETURNS uuid LANGUAGE sql RETURN NULL::uuid"
    connect(dbname=name, user=ATTACKER).execute(f"CREATE SCHEMA modelstore; {left_behind}")
    for who in ("postgres", OWNER):
        with pytest.raises(psycopg.Error) as e:
            connect(dbname=name, user=who).execute("CREATE EXTENSION pg_modelstore")
        assert e.value.sqlstate == "42501", e.value
        assert "modelstore" in str(e.value)
    super_ = connect(dbname=name)
    super_.execute("ALTER SCHEMA modelstore OWNER TO postgres")
    # What its owner left behind would be found before functions of the extension.
    assert sqlstate(super_, "CREATE EXTENSION pg_modelstore") == "55000"
    super_.execute("DROP FUNCTION modelstore.find_model")
    super_.execute("CREATE EXTENSION pg_modelstore")


@pytest.mark.parametrize("who", ["postgres", OWNER])
def test_a_store_is_not_made_in_the_schema_of_another_role(who: str, place, attacker, connect) -> None:
    """Line 11, squat.sql."""
    attacker.execute("CREATE SCHEMA taken")
    attacker.execute(f"GRANT ALL ON SCHEMA taken TO {OWNER}")
    c = connect(dbname=place, user=who)
    with pytest.raises(psycopg.Error) as e:
        c.execute("SELECT modelstore.create_store('taken')")
    assert e.value.sqlstate == "42501"
    assert "taken" in str(e.value)
    assert attacker.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'taken'::regnamespace").fetchone() == (0,)


def test_a_store_that_was_taken_apart_does_not_run_code_as_its_visitors(place, attacker, connect) -> None:
    """Line 11: a view with a function in place of store_version, which everybody who calls anything reads."""
    attacker.execute("GRANT USAGE ON SCHEMA ms TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA ms TO PUBLIC")
    attacker.execute("DROP TABLE ms.store_version; CREATE VIEW ms.store_version AS SELECT 1 AS version WHERE trap.f(); GRANT SELECT ON ms.store_version TO PUBLIC")
    for who in (PLAIN, "postgres"):
        c = connect(dbname=place, user=who)
        c.execute("SET modelstore.store = 'ms'")
        with ran_as(c) as seen:
            for call in ("store_version()", "store_version('ms')", "stores()", "find_model('m')", "register_model('m', '1')", "gc()", "drop_store('ms')", "upgrade_store()"):
                sqlstate(c, f"BEGIN; SELECT * FROM modelstore.{call}; ROLLBACK")
                sqlstate(c, "ROLLBACK")
        assert seen <= {ATTACKER}, f"code ran as {seen}"


TRAPS = {
    "trigger": "CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON ms.models FOR EACH ROW EXECUTE FUNCTION trap.g()",
    "statement trigger": "CREATE TRIGGER t AFTER INSERT OR DELETE ON ms.models FOR EACH STATEMENT EXECUTE FUNCTION trap.g()",
    "policy": "CREATE POLICY p ON ms.models USING (trap.f()) WITH CHECK (trap.f()); ALTER TABLE ms.models ENABLE ROW LEVEL SECURITY",
    "default": "ALTER TABLE ms.models ALTER architecture SET DEFAULT CASE WHEN trap.f() THEN 'x' END",
    "default of a key": "ALTER TABLE ms.models ALTER status SET DEFAULT CASE WHEN trap.f() THEN 'ready' END",
    "check": "ALTER TABLE ms.models ADD CHECK (trap.f()) NOT VALID",
    "index": "CREATE INDEX ON ms.models (trap.same(model_name))",
    "partial index": "CREATE INDEX ON ms.models (model_name) WHERE trap.same(true)",
    "generated": "ALTER TABLE ms.models ADD COLUMN g text GENERATED ALWAYS AS (trap.same(model_name)) STORED",
    "rule": "CREATE RULE r AS ON INSERT TO ms.models DO ALSO SELECT trap.f()",
    "view": "ALTER TABLE ms.models RENAME TO old; CREATE VIEW ms.models AS SELECT * FROM ms.old WHERE trap.f(); GRANT ALL ON ms.models TO PUBLIC",
    "domain": "CREATE DOMAIN trap.d AS text CHECK (trap.same(true)); ALTER TABLE ms.models ALTER derivation TYPE trap.d",
}


@pytest.mark.parametrize("who", [PLAIN, "postgres"])
def test_code_of_a_store_s_owner_does_not_run_as_its_visitors(who: str, place, attacker, connect) -> None:
    """Rule 2 and docs/security.md: a store of another role whose tables call functions is refused, unless modelstore.trust_store_owner is on.

    One session in which the attacker sets a trap and the visitor walks in, who has been there before."""
    attacker.execute("GRANT USAGE ON SCHEMA ms TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA ms TO PUBLIC")
    c = connect(dbname=place, options="-c modelstore.store=ms -c statement_timeout=60s")
    (model,) = c.execute("SELECT modelstore.find_model('m')").fetchone()
    calls = [
        "find_model('m')", f"lineage('{model}')", "verify_store()", "gc()", "register_model('new', '1')", "space_report()",
        "set_alias('m:1', 'a')", f"delete_model('{model}')",
    ]  # fmt: skip
    found = {}
    for trap, sql in TRAPS.items():
        c.execute(f"BEGIN; SET LOCAL SESSION AUTHORIZATION {ATTACKER}")
        c.execute(sql)
        c.execute(f"SET LOCAL SESSION AUTHORIZATION {who if who != 'postgres' else 'DEFAULT'}; SAVEPOINT s")
        with ran_as(c) as seen:
            for call in calls:
                state = sqlstate(c, f"SELECT * FROM modelstore.{call}")
                c.execute("ROLLBACK TO s")
                assert state in ("00000", "42501", "42809", "42804", "55000", "3F000", "42704", "2BP01", "0A000"), (trap, call, state)
        c.execute("ROLLBACK")
        if not seen <= {ATTACKER}:
            found[trap] = seen
        # The store is whole again, and not refused.
        assert c.execute("SELECT modelstore.find_model('m')").fetchone() == (model,), trap
    assert not found, f"code of the attacker ran as somebody else: {found}"


def test_an_owner_may_be_trusted(place, attacker, connect) -> None:
    """docs/security.md: the error says how, and the setting holds for the session that has it."""
    attacker.execute("GRANT USAGE ON SCHEMA ms TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA ms TO PUBLIC")
    attacker.execute("CREATE TRIGGER t BEFORE INSERT ON ms.models FOR EACH ROW EXECUTE FUNCTION trap.g()")
    # The owner's own session is not asked.
    attacker.execute("SELECT modelstore.register_model('mine', '1')")
    c = connect(dbname=place, user=PLAIN, options="-c modelstore.store=ms")
    for trusted in (False, True, False):
        c.execute("SELECT * FROM modelstore.stores()")
        c.execute(f"SET modelstore.trust_store_owner = {trusted}")
        with ran_as(c) as seen:
            try:
                c.execute("SELECT modelstore.register_model('new', '1')")
                assert trusted
            except psycopg.Error as e:
                assert not trusted, e
                assert e.sqlstate in ("42501", "55000")
                assert "models" in str(e)
                assert "trust_store_owner" in f"{e.diag.message_detail} {e.diag.message_hint}"
        assert seen == ({PLAIN} if trusted else set())


def test_gc_does_not_run_code_of_those_who_refer_to_the_store(place, owner, attacker, connect) -> None:
    """Line 10, gc_escalation_rls.sql: a policy that logs, and one that hides the row for ever."""
    owner.execute(f"GRANT USAGE ON SCHEMA store TO {ATTACKER}; GRANT SELECT, REFERENCES ON ALL TABLES IN SCHEMA store TO {ATTACKER}")
    for function in ("f", "hidden"):
        attacker.execute(f"""
            CREATE TABLE trap.{function}s (t uuid REFERENCES store.tensor_metadata, secret int); GRANT SELECT ON trap.{function}s TO PUBLIC;
            CREATE TABLE trap.{function}_chunks (c bytea REFERENCES store.tensor_chunks); GRANT SELECT ON trap.{function}_chunks TO PUBLIC;
            INSERT INTO trap.{function}s SELECT tensor_id FROM store.tensor_metadata; INSERT INTO trap.{function}_chunks SELECT chunk_hash FROM store.tensor_chunks;
            ALTER TABLE trap.{function}s ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON trap.{function}s USING (trap.{function}());
            ALTER TABLE trap.{function}_chunks ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON trap.{function}_chunks USING (trap.{function}());
        """)
    owner.execute("SELECT modelstore.import_safetensors('other', '1', %b::bytea)", (safetensors_bytes({"v": random_tensor(2, 50)}),))
    super_ = connect(dbname=place)
    with ran_as(owner, super_) as seen:
        for c in (owner, super_):
            for model in c.execute("SELECT model_id FROM store.models ORDER BY model_name").fetchall()[:1]:
                c.execute("SELECT modelstore.delete_model(%s)", model)
            assert sqlstate(c, "SELECT * FROM modelstore.gc()") == "00000"
            assert sqlstate(c, "SELECT * FROM modelstore.gc(true)") == "00000"
    assert seen <= {ATTACKER}, f"code of the attacker ran as {seen}"
    # What the attacker refers to stays, what nobody refers to goes: one tensor each.
    assert owner.execute("SELECT count(*) FROM store.models").fetchone() == (0,)
    assert owner.execute("SELECT count(*) FROM store.tensor_metadata").fetchone() == (1,)
    assert owner.execute("SELECT count(*) FROM modelstore.verify_store()").fetchone() == (0,)


# Row-level security


@pytest.fixture
def secured(place, owner, connect) -> psycopg.Connection:
    """The store with secure_atoms() on, an atom and a large leaf of `plain`'s; README's grants to `reader`."""
    owner.execute(f"""
        GRANT USAGE ON SCHEMA store TO {PLAIN}, {READER};
        GRANT SELECT, INSERT, UPDATE ON store.atoms, store.atom_parts, store.atom_chunks, store.ingestion_log TO {PLAIN};
        GRANT SELECT, INSERT ON store.atom_salts TO {PLAIN};
        GRANT SELECT ON ALL TABLES IN SCHEMA store TO {READER};
    """)
    owner.execute("SELECT modelstore.secure_atoms()")
    c = connect(dbname=place, user=PLAIN)
    c.execute("SELECT modelstore.ingest_text('a secret of plain'::text, 'text', 'plain')")
    c.execute("SELECT modelstore.ingest(convert_to(repeat('0123456789 secret ', 6000), 'UTF8'), 'other', 'plain')")
    return owner


def test_row_level_security_holds_on_every_way_in(place, secured, connect) -> None:
    """Line 9, rls_partition.sql: parent, partitions, chunks, probes, summaries."""
    reader = connect(dbname=place, user=READER)
    rows = secured.execute("SELECT tableoid::regclass::text, h_xy, h_yz, h_zm, content_hash FROM store.atoms WHERE created_by = %s", (PLAIN,)).fetchall()
    assert rows
    assert reader.execute("SELECT count(*) FROM store.atoms WHERE created_by = %s", (PLAIN,)).fetchone() == (0,)
    for partition, h_xy, h_yz, h_zm, content_hash in rows:
        assert leaked(reader, f"SELECT value FROM {partition} WHERE created_by = '{PLAIN}'") == []
        assert leaked(reader, f"SELECT 1 FROM store.atom_chunks WHERE (h_xy, h_yz, h_zm) = ({h_xy}, {h_yz}, {h_zm})") == []
        assert leaked(reader, f"SELECT 1 FROM store.atom_parts WHERE (parent_h_xy, parent_h_yz, parent_h_zm) = ({h_xy}, {h_yz}, {h_zm})") == []
        for call in (f"reconstruct('({h_xy},{h_yz},{h_zm})')", f"reconstruct_parts('({h_xy},{h_yz},{h_zm})')"):
            assert [r for r in leaked(reader, f"SELECT modelstore.{call}") if r[0] is not None] == []
        for other in leaked(reader, f"SELECT h_xy, h_yz, h_zm FROM modelstore.nearest('({h_xy},{h_yz},{h_zm})'::modelstore.atom, 10)"):
            assert other != (h_xy, h_yz, h_zm)
    chunks = leaked(reader, "SELECT modelstore.decode(chunk) FROM store.tensor_chunks")
    assert not [c for (c,) in chunks if b"secret" in bytes(c)]
    assert leaked(reader, "SELECT 1 FROM store.ingestion_log WHERE source_uri = 'plain'") == []
    assert sum(n for (n,) in leaked(reader, "SELECT atoms FROM store.atom_spatial_summary")) == 0


def leaked(c: psycopg.Connection, sql: str) -> list[tuple]:
    """Rows of a query; none where the right is missing or what is asked for is not there."""
    try:
        return c.execute(sql.encode(), binary=True).fetchall()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject, psycopg.errors.NoDataFound):
        return []


def test_whether_another_role_holds_a_content_is_not_told(place, secured, connect) -> None:
    """Line 9: to take in what another role has is like taking in what nobody has."""
    reader = connect(dbname=place, user=READER)
    secured.execute(f"GRANT INSERT, UPDATE ON store.atoms, store.atom_parts, store.atom_chunks, store.ingestion_log, store.atom_salts TO {READER}")
    answers = []
    for text in ("a secret of plain", "a secret of nobody"):
        answers.append(reader.execute("SELECT created, updated, skipped FROM modelstore.ingest_text(%s::text, 'text', 'guess')", (text,)).fetchone())
    assert answers[0] == answers[1], "the first guess is told from the second"


# Settings of functions


def test_every_function_that_reads_has_a_fixed_search_path(db) -> None:
    """Line 13 and rule 3; what is immutable reads no table."""
    free = db.execute("""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_modelstore'
        WHERE p.pronamespace = 'modelstore'::regnamespace AND p.provolatile <> 'i' AND p.prokind <> 'p'
          AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%') ORDER BY 1
    """).fetchall()  # fmt: skip
    assert free == []


def test_copy_into_an_upload_under_a_hostile_search_path(place, owner, attacker) -> None:
    """Line 13: the trigger of modelstore.upload."""
    attacker.execute("""
        CREATE FUNCTION trap.length(bytea) RETURNS integer LANGUAGE sql AS 'SELECT trap.f()::int';
        CREATE FUNCTION trap.eq(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN trap.f(); END';
        CREATE OPERATOR trap.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = trap.eq);
        CREATE FUNCTION trap.add(bigint, integer) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN PERFORM trap.f(); RETURN 0; END';
        CREATE OPERATOR trap.+ (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = trap.add);
    """)
    data = safetensors_bytes({"w": random_tensor(1, 40)})
    owner.execute("SET search_path = trap, pg_catalog")
    with ran_as(owner) as seen:
        (upload,) = owner.execute("SELECT modelstore.begin_upload()").fetchone()
        with owner.cursor().copy("COPY modelstore.upload (upload_id, data) FROM STDIN") as copy:
            copy.write_row((upload, data[:100]))
            copy.write_row((upload, data[100:]))
        owner.execute("SELECT modelstore.finish_upload(%s, 'u', '1')", (upload,))
    assert not seen


def test_functions_of_pgvector_casts_are_not_somebody_else_s(server, new_database, connect) -> None:
    """Line 12: enable_pgvector in a schema that another role owns."""
    name = new_database()
    meet(server, name, extension=False)
    attacker, super_ = connect(dbname=name, user=ATTACKER), connect(dbname=name)
    if sqlstate(super_, "CREATE EXTENSION vector") != "00000":
        pytest.skip("pgvector is not installed")
    attacker.execute("CREATE EXTENSION pg_modelstore")
    attacker.execute(TRAP)
    for there, source in (("to", "modelstore.tensor"), ("from", "vector")):
        result = "vector" if there == "to" else "modelstore.tensor"
        planted = f"CREATE FUNCTION modelstore.tensor_{there}_vector({source}) RETURNS {result} LANGUAGE sql AS 'SELECT NULL::{result} WHERE trap.f()'"
        assert sqlstate(attacker, planted) == "42501"  # the schema is a superuser's
        super_.execute(f"{planted}; ALTER FUNCTION modelstore.tensor_{there}_vector({source}) OWNER TO {ATTACKER}")
    state = sqlstate(super_, "SELECT modelstore.enable_pgvector()")
    assert state in ("00000", "42501", "42723")
    if state == "00000":
        owners = """SELECT DISTINCT pg_get_userbyid(p.proowner)::text FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc
                    WHERE p.proname IN ('tensor_to_vector', 'tensor_from_vector')"""
        assert super_.execute(owners).fetchall() == [("postgres",)]


def test_no_backtrace_in_an_error(server) -> None:
    """Line 14: RUST_BACKTRACE in the environment of the server."""
    traced = Server(f"test-{os.getpid()}-traced", FAST).start()
    try:
        traced.stop()
        command = '. scripts/lib.sh; as_server env RUST_BACKTRACE=full RUST_LIB_BACKTRACE=1 "$0" start -w -D "$1" -l "$2"'
        subprocess.run(["bash", "-c", command, traced.bin / "pg_ctl", traced.data, traced.log], cwd=ROOT, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        with traced.connect(autocommit=True) as c:
            c.execute("CREATE EXTENSION pg_modelstore; SELECT modelstore.create_store()")
            calls = ["find_model('x')", "shape('[')", "frombuffer('\\x00', 'f32', '{1}')", "import_safetensors('x', '1', 'junk'::bytea)", "create_store('')"]
            # Explicit NULLs were panics once: all of them, and each where a default would be.
            for f in functions(c):
                types = [t.replace("@ext@", "modelstore") for t in f.types]
                calls += [f"{f.name}({', '.join(f'NULL::{t}' for t in types)})"] if f.kind == "f" and types else []
            for call in calls:
                try:
                    c.execute(f"SELECT modelstore.{call}".encode())
                except psycopg.Error as e:
                    told = f"{e.diag.message_primary}\n{e.diag.message_detail}\n{e.diag.context}"
                    assert not re.search(r"backtrace|\.rs\b|pg_modelstore::|^\s*\d+: ", told, re.MULTILINE), told[:2000]
    finally:
        traced.remove()
