"""A store that differs from what create_store created is refused, and code of its owner does not run as another role."""

from __future__ import annotations

import os
import pathlib
import re
import uuid

import psycopg
import pytest
from databases import create_database
from harness import EXTENSION, Server, wait_until
from models import random_tensor, safetensors_bytes
from observe import aside, is_blocked

pytestmark = pytest.mark.versioned

FILE = safetensors_bytes({"w": random_tensor(1, 20, 30)})
READ = "SELECT modelstore.norm(modelstore.get_tensor(modelstore.find_model('m'), 'w'))"
WRITE = "SELECT modelstore.register_model('n', %s)"


@pytest.fixture
def owner(db, connect) -> psycopg.Connection:
    """The owner of a store of her own with a model, which is the current store of every connection to the database."""
    name = f"owner_{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE ROLE {name} LOGIN")
    db.execute(f"GRANT CREATE ON DATABASE {db.info.dbname} TO {name}")
    db.execute(f"ALTER DATABASE {db.info.dbname} SET modelstore.store = 'hers'")
    c = connect(user=name)
    c.execute("SELECT modelstore.create_store('hers', ARRAY['all'])")
    c.execute("SELECT modelstore.import_safetensors('m', '1', %s::bytea)", (FILE,))
    yield c
    c.close()
    db.execute(f"DROP OWNED BY {name} CASCADE")
    db.execute(f"DROP ROLE {name}")


@pytest.fixture
def superuser(owner, connect) -> psycopg.Connection:
    """Somebody who uses the store, with all rights."""
    return connect()


def refusal(c: psycopg.Connection, sql: str, *arguments) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.Error) as caught:
        c.execute(sql, arguments)
    return caught.value.diag


def use(c: psycopg.Connection) -> None:
    """Reads, writes, and looks at everything."""
    c.execute(READ)
    c.execute(WRITE, (uuid.uuid4().hex,))
    c.execute("SELECT modelstore.ingest_text('a line'::text)")
    c.execute("SELECT * FROM modelstore.verify_store()")


# What create_store made


@pytest.mark.parametrize(
    ("change", "sqlstate", "named"),
    [
        ("ALTER TABLE hers.models RENAME TO m; CREATE VIEW hers.models AS SELECT * FROM hers.m", "42809", "models"),
        ("ALTER TABLE hers.embeddings RENAME TO e; CREATE MATERIALIZED VIEW hers.embeddings AS SELECT * FROM hers.e", "42809", "embeddings"),
        ("ALTER TABLE hers.models ALTER config TYPE bytea USING NULL", "42804", "config"),
        ("ALTER TABLE hers.tensor_chunks ALTER chunk TYPE bigint USING 64", "42804", "chunk"),
        ("ALTER TABLE hers.tensor_chunks ALTER chunk TYPE bytea USING '\\x40'", "42804", "chunk"),
        ("ALTER TABLE hers.upload_parts ALTER data TYPE text USING ''", "42804", "data"),
        ("CREATE DOMAIN hers.d AS text; ALTER TABLE hers.models ALTER derivation TYPE hers.d", "42804", "derivation"),
        ("ALTER TABLE hers.models DROP status CASCADE", "42703", "status"),
        ("ALTER TABLE hers.models DROP vocab_size CASCADE; ALTER TABLE hers.models ADD vocab_size bigint GENERATED ALWAYS AS (7) STORED", "42804", "vocab_size"),
        ("DROP TABLE hers.gradient_checkpoints", "42P01", "gradient_checkpoints"),
        ("DROP TABLE hers.gradient_checkpoints; CREATE TEMP TABLE gradient_checkpoints (i int)", "42P01", "gradient_checkpoints"),
        ("CREATE TABLE hers.below () INHERITS (hers.models)", None, ""),
    ],
)
def test_a_schema_of_other_relations_is_no_store(change, sqlstate, named, owner) -> None:
    use(owner)
    owner.execute(change)
    if sqlstate is None:
        use(owner)
        return
    for statement in (READ, "SELECT modelstore.space_report()", "SELECT modelstore.gc()", "SELECT modelstore.store_version()"):
        diag = refusal(owner, statement)
        assert (diag.sqlstate, f'"{named}"' in diag.message_primary) == (sqlstate, True), diag.message_primary
        assert diag.message_detail and diag.message_hint


def test_a_table_of_another_role_is_refused(owner, superuser) -> None:
    superuser.execute("ALTER TABLE hers.models OWNER TO postgres; GRANT ALL ON hers.models TO PUBLIC")
    assert refusal(owner, READ).sqlstate == "42501"


def test_a_foreign_table_is_refused(owner, superuser) -> None:
    superuser.execute("CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER s FOREIGN DATA WRAPPER nothing; GRANT USAGE ON FOREIGN SERVER s TO PUBLIC")
    owner.execute("DROP TABLE hers.gradient_checkpoints; CREATE FOREIGN TABLE hers.gradient_checkpoints (i int) SERVER s")
    diag = refusal(owner, READ)
    assert (diag.sqlstate, "a foreign table" in diag.message_primary) == ("42809", True)


@pytest.mark.parametrize("schema", ["pg_temp", "pg_catalog", "pg_toast", "information_schema", "modelstore", "", "hers\nx"])
def test_the_setting_names_no_schema_of_the_system(schema, owner) -> None:
    owner.execute("CREATE TEMP TABLE tensor_chunks (chunk_hash bytea, chunk bigint); CREATE TEMP TABLE store_version (version int)")
    owner.execute("SELECT set_config('modelstore.store', %s, false)", (schema,))
    assert refusal(owner, READ).sqlstate == "3F000"
    owner.execute("SELECT set_config('modelstore.store', pg_my_temp_schema()::regnamespace::text, false)")
    assert refusal(owner, READ).sqlstate == "3F000"


def test_a_change_by_another_session_is_noticed(owner, connect) -> None:
    other = connect(user=owner.info.user)
    use(other)
    owner.execute("ALTER TABLE hers.models ALTER config TYPE bytea USING NULL")
    assert refusal(other, READ).sqlstate == "42804"
    owner.execute("ALTER TABLE hers.models ALTER config TYPE jsonb USING NULL")
    use(other)


def test_columns_of_its_users_own_are_nobody_elses_business(owner, superuser) -> None:
    owner.execute("ALTER TABLE hers.models ADD team text DEFAULT 'none'")
    use(owner)
    use(superuser)


# Whose code runs

TRAP = """
    CREATE SCHEMA trap; CREATE TABLE trap.log (who name); GRANT USAGE ON SCHEMA trap TO PUBLIC; GRANT INSERT ON trap.log TO PUBLIC;
    CREATE FUNCTION trap.f() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO trap.log VALUES (current_user); RETURN true; END $$;
    CREATE FUNCTION trap.t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO trap.log VALUES (current_user); RETURN NEW; END $$;
    CREATE FUNCTION trap.i(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM trap.f(); RETURN $1; END $$;
    CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT trap.f()';
    CREATE OPERATOR trap.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
    CREATE VIEW trap.v AS SELECT 1 AS one WHERE trap.f();
    GRANT SELECT ON trap.v TO PUBLIC;
"""
TEXT_DOMAIN = "CREATE DOMAIN trap.dom AS int CHECK (trap.f()); "
SECURED = "ALTER TABLE hers.models ENABLE ROW LEVEL SECURITY; ALTER TABLE hers.models FORCE ROW LEVEL SECURITY; "


TRAPS = [
    "CREATE TRIGGER t BEFORE INSERT ON hers.models FOR EACH ROW EXECUTE FUNCTION trap.t()",
    "CREATE TRIGGER t AFTER INSERT ON hers.models EXECUTE FUNCTION trap.t()",
    "CREATE RULE r AS ON INSERT TO hers.models DO ALSO SELECT trap.f()",
    SECURED + "CREATE POLICY p ON hers.models USING (trap.f())",
    SECURED + "CREATE POLICY p ON hers.models USING (model_name OPERATOR(trap.===) 'x')",
    SECURED + "CREATE POLICY p ON hers.models USING (EXISTS (SELECT FROM trap.v))",
    SECURED + "CREATE POLICY p ON hers.models USING (query_to_xml('SELECT trap.f()', true, true, '') IS NOT NULL)",
    SECURED + "CREATE POLICY p ON hers.models USING (table_to_xml('trap.v', true, true, '') IS NOT NULL)",
    "ALTER TABLE hers.models ALTER created_by SET DEFAULT trap.i(current_user)",
    "ALTER TABLE hers.models ADD extra boolean DEFAULT trap.f()",
    "ALTER TABLE hers.models ADD CHECK (trap.i(model_name) <> '')",
    "ALTER TABLE hers.models ADD CHECK (query_to_xml('SELECT trap.f()', true, true, '') IS NOT NULL) NOT VALID",
    "CREATE INDEX ON hers.models (trap.i(model_name))",
    "CREATE INDEX ON hers.models (model_name) WHERE trap.i(model_name) <> ''",
    "CREATE DOMAIN trap.d AS text CHECK (trap.f()); ALTER TABLE hers.models ADD extra trap.d",
    "ALTER TABLE hers.models ADD extra text GENERATED ALWAYS AS (trap.i(model_name)) STORED",
    "CREATE TRIGGER t BEFORE INSERT ON hers.atoms_000_text FOR EACH ROW EXECUTE FUNCTION trap.t()",
    # Types that call functions, by themselves or inside of others
    TEXT_DOMAIN + "ALTER TABLE hers.models ADD extra trap.dom[] DEFAULT (('{1}'::text)::trap.dom[])",
    TEXT_DOMAIN + "CREATE TYPE trap.comp AS (d trap.dom); ALTER TABLE hers.models ADD extra text DEFAULT ((' (1)'::text)::trap.comp)::text",
    TEXT_DOMAIN + SECURED + "CREATE POLICY p ON hers.models USING ((('{1}'::text)::trap.dom[]) IS NOT NULL)",
    "CREATE FUNCTION trap.sd(float8, float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM trap.f(); RETURN $1 - $2; END';"
    "CREATE TYPE trap.rng AS RANGE (subtype = float8, subtype_diff = trap.sd);"
    "ALTER TABLE hers.models ADD extra trap.rng; CREATE INDEX ON hers.models USING gist (extra)",
    "CREATE STATISTICS hers.s ON trap.i('constant'), (trap.i(model_name)) FROM hers.models",
]


@pytest.mark.parametrize("number", range(len(TRAPS)))
def test_code_of_the_owner_runs_as_nobody_else(number, trapped) -> None:
    trapped(TRAPS[number])


@pytest.fixture(scope="module")
def trapped(server, template):
    """Sets a trap as the owner and uses the store as a superuser, in a transaction that is rolled back."""
    name, role = "trapped", "trapper"
    create_database(server, name, template)
    with server.connect(dbname=name, autocommit=True) as c:
        c.execute(f"CREATE ROLE {role}; GRANT CREATE ON DATABASE {name} TO {role}; SET ROLE {role}")
        c.execute("SELECT modelstore.create_store('hers', ARRAY['all']); SET modelstore.store = 'hers'")
        c.execute("SELECT modelstore.import_safetensors('m', '1', %s::bytea)", (FILE,))
        c.execute(TRAP)
        c.execute("RESET ROLE")

        def run(trap: str) -> None:
            with c.transaction(force_rollback=True):
                use(c)
                c.execute(f"SET LOCAL ROLE {role}")
                c.execute(trap)
                c.execute("RESET ROLE; TRUNCATE trap.log")
                statements = (READ, "SELECT modelstore.register_model('x', '1')", "SELECT modelstore.gc()", "SELECT modelstore.drop_store('hers', true)")
                for statement in statements:
                    with c.transaction(force_rollback=True):
                        diag = refusal(c, statement)
                    assert diag.sqlstate == "42501", diag.message_primary
                assert "of table" in diag.message_detail
                assert c.execute("SELECT who FROM trap.log").fetchall() == []
                assert diag.message_hint == "SET modelstore.trust_store_owner = on;"
                # The owner is her own business, and whoever says so trusts her.
                if "_to_xml" not in trap and "RULE" not in trap:  # which this server, or ON CONFLICT, does not take
                    with c.transaction(force_rollback=True):
                        c.execute(f"SET LOCAL ROLE {role}")
                        use(c)
                    with c.transaction(force_rollback=True):
                        c.execute("SET LOCAL modelstore.trust_store_owner = on")
                        use(c)
                assert refusal(c, READ).sqlstate == "42501"

        yield run
    with server.connect(autocommit=True) as c:
        c.execute(f"DROP DATABASE {name} WITH (FORCE)")
        c.execute(f"DROP ROLE {role}")


RACES = {
    "CREATE TRIGGER t BEFORE INSERT ON hers.models FOR EACH ROW EXECUTE FUNCTION trap.t()": "SELECT modelstore.register_model('x', '1')",
    "ALTER TABLE hers.models ADD extra boolean DEFAULT trap.f()": "SELECT modelstore.register_model('x', '1')",
    "CREATE TRIGGER t BEFORE INSERT ON hers.ingestion_log EXECUTE FUNCTION trap.t()": "SELECT modelstore.ingest_text('x'::text)",
    "CREATE TRIGGER t BEFORE INSERT ON hers.atoms_015_text FOR EACH ROW EXECUTE FUNCTION trap.t()": "SELECT modelstore.ingest_text('x'::text)",
    "ALTER TABLE hers.models RENAME TO m; CREATE VIEW hers.models AS SELECT * FROM hers.m WHERE trap.f()": "SELECT modelstore.find_model('m')",
    SECURED + "CREATE POLICY p ON hers.models USING (trap.f())": "SELECT modelstore.find_model('m')",
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("trap", RACES)
def test_code_that_comes_while_the_store_is_waited_for(trap, known, owner, superuser, connect) -> None:
    """A trap that commits between the look at the store and the statement that waits for its table."""
    owner.execute(TRAP)
    superuser.execute("SET statement_timeout = '30s'")
    if known:
        use(superuser)
    with owner.transaction():
        owner.execute(trap)
        running = aside(superuser, RACES[trap])
        wait_until(lambda: is_blocked(owner, superuser.info.backend_pid), "the statement waits")
    running.join()
    if running.error is None:  # a run of an ingest that fails returns
        assert "would run code" in str(running.rows), running.rows
    else:
        assert running.error.sqlstate in ("42501", "42809"), running.error
    # Adding a column runs its default, as who adds it.
    assert {who for (who,) in owner.execute("SELECT who FROM trap.log")} <= {owner.info.user}


def test_partitions_that_a_store_is_not_made_with_are_refused(owner, superuser) -> None:
    """Its owner could attach one, triggers and all, between a look and a statement."""
    superuser.execute("SELECT modelstore.start_training(modelstore.find_model('m'))")
    owner.execute("""
        DROP VIEW hers.v_training_progress; DROP TABLE hers.training_metrics;
        CREATE TABLE hers.training_metrics (session_id uuid, step bigint, epoch double precision, metric_name text, value double precision,
            recorded_at timestamptz DEFAULT clock_timestamp(), may_be_lowest boolean) PARTITION BY RANGE (recorded_at);
        CREATE TABLE hers.rest PARTITION OF hers.training_metrics DEFAULT
    """)
    call = "SELECT modelstore.log_metrics(session_id, 1, '{\"loss\": 1}') FROM hers.training_sessions"
    diag = refusal(superuser, call)
    assert (diag.sqlstate, "training_metrics" in diag.message_primary) == ("42809", True)
    owner.execute(call)
    owner.execute("CREATE TABLE hers.heir () INHERITS (hers.models)")
    assert refusal(superuser, READ).sqlstate == "42809"


def test_a_partition_that_is_attached_while_a_call_waits_is_not_written_to(owner, superuser, db, connect) -> None:
    """ATTACH does not wait for the locks of a call: each statement of it looks again."""
    other = f"other_{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE ROLE {other}; GRANT {other} TO {owner.info.user}; GRANT CREATE, USAGE ON SCHEMA hers TO {other}")
    owner.execute(TRAP)
    owner.execute(f"""
        GRANT ALL ON SCHEMA hers TO {other}; DROP TABLE hers.atoms_000_text;
        CREATE TABLE hers.atoms_000_text PARTITION OF hers.atoms FOR VALUES FROM (0) TO ({1 << 51}) PARTITION BY RANGE (h_yz);
        CREATE UNIQUE INDEX one_run ON hers.ingestion_log (source_uri)
    """)
    holder = connect(user=owner.info.user, autocommit=False)
    holder.execute("INSERT INTO hers.ingestion_log (ingestion_id, modality, source_uri, status) VALUES (gen_random_uuid(), 0, 'y', 'running')")
    running = aside(superuser, "SELECT status, error FROM modelstore.ingest_text('hello'::text, source_uri => 'y')")
    wait_until(lambda: is_blocked(db, superuser.info.backend_pid), "the call waits")
    try:
        with owner.transaction():
            owner.execute(f"""
                CREATE TABLE hers.sly (LIKE hers.atoms INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);
                ALTER TABLE hers.atoms_000_text ATTACH PARTITION hers.sly FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
                CREATE TRIGGER t BEFORE INSERT ON hers.sly FOR EACH ROW EXECUTE FUNCTION trap.t();
                ALTER TABLE hers.sly OWNER TO {other}
            """)
    finally:
        holder.close()
    running.join()
    assert running.error is not None or running.rows[0][0] == "failed", running.rows
    assert owner.execute("SELECT who FROM trap.log").fetchall() == []
    owner.execute("DROP SCHEMA hers CASCADE; DROP SCHEMA trap CASCADE")
    db.execute(f"DROP OWNED BY {other} CASCADE; DROP ROLE {other}")


def test_tables_that_come_later_are_looked_at_before_they_are_used(owner, superuser) -> None:
    """Else a store without a module would get it unseen, triggers and all."""
    owner.execute(f"{TRAP}; SELECT modelstore.create_store('other', ARRAY['all']); DROP MATERIALIZED VIEW hers.atom_spatial_summary")
    tables = [t for (t,) in owner.execute("SELECT relname FROM pg_class WHERE relnamespace = 'hers'::regnamespace AND relkind IN ('r', 'p') AND relname ~ '^(atom|ingestion)'")]
    owner.execute(f"DROP TABLE {', '.join('hers.' + t for t in tables)} CASCADE")
    superuser.execute(WRITE, ("before",))
    assert refusal(superuser, "SELECT modelstore.ingest_text('x'::text)").sqlstate == "0A000"
    owner.execute("""
        CREATE TRIGGER t BEFORE INSERT ON other.ingestion_log EXECUTE FUNCTION trap.t(); DROP MATERIALIZED VIEW other.atom_spatial_summary;
        ALTER TABLE other.atoms ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON other.atoms USING (trap.f());
    """)
    for table in tables:
        owner.execute(f"ALTER TABLE other.{table} SET SCHEMA hers")
    assert refusal(superuser, "SELECT modelstore.ingest_text('x'::text)").sqlstate == "42501"
    for statement in ("gc()", "verify_store()", "space_report()", "drop_store('hers')"):
        # What does not use the module does not look at its tables, or refuses the store.
        try:
            superuser.execute(f"SELECT * FROM modelstore.{statement}")
        except psycopg.Error as e:
            assert e.sqlstate in ("42501", "2BP01"), e
    assert owner.execute("SELECT who FROM trap.log").fetchall() == []


def test_triggers_of_others_do_not_run_as_the_owner(owner, superuser, db, connect) -> None:
    name = f"user_{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE ROLE {name} LOGIN; CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO {name}")
    owner.execute(f"GRANT USAGE ON SCHEMA hers TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA hers TO {name}")
    user = connect(user=name)
    user.execute(TRAP.replace("CREATE SCHEMA trap; ", "").replace("GRANT USAGE ON SCHEMA trap TO PUBLIC;", ""))
    user.execute("CREATE TRIGGER t BEFORE INSERT ON hers.models FOR EACH ROW EXECUTE FUNCTION trap.t()")
    for c in (owner, superuser):
        diag = refusal(c, WRITE, "x")
        assert (diag.sqlstate, diag.message_detail) == ("42501", 'It has trigger "t" of table "models".')
    assert user.execute("SELECT who FROM trap.log").fetchall() == []
    db.execute(f"DROP SCHEMA trap CASCADE; DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def test_a_store_as_it_was_made_serves_every_role(owner, superuser, db) -> None:
    name = f"user_{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE ROLE {name}; GRANT {name} TO postgres")
    owner.execute(f"GRANT USAGE ON SCHEMA hers TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA hers TO {name}")
    use(superuser)
    superuser.execute(f"SET ROLE {name}")
    use(superuser)
    superuser.execute("RESET ROLE")
    db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


# Schemas that were there before


def test_a_store_in_a_schema_of_another_role_is_refused(owner, superuser) -> None:
    owner.execute("CREATE SCHEMA mine")
    diag = refusal(superuser, "SELECT modelstore.create_store('mine')")
    assert (diag.sqlstate, "belongs to role" in diag.message_primary) == ("42501", True)
    assert refusal(superuser, "SELECT modelstore.create_store('public')").sqlstate == "42501"
    superuser.execute(diag.message_hint.split(";")[0])
    superuser.execute(diag.message_hint.split(";")[1])
    superuser.execute("RESET ROLE")
    assert superuser.execute("SELECT owner FROM modelstore.stores() WHERE store = 'mine'").fetchone() == (owner.info.user,)


@pytest.mark.parametrize("name", ["x\nDROP TABLE hers.models;--", "a\tb", "a\rb", "a\x7fb", "a\u0085b"])
def test_a_name_with_control_characters_is_refused(name, owner) -> None:
    assert refusal(owner, "SELECT modelstore.create_store(%s)", name).sqlstate == "42602"
    use(owner)


def test_no_template_of_ddl_has_the_name_in_a_comment() -> None:
    root = pathlib.Path(__file__).resolve().parents[2] / "sql" / "store"
    for file in root.rglob("*.sql"):
        for line in file.read_text().splitlines():
            assert not re.search(r"--.*@\w+@", line), (file.name, line)


def test_the_extension_takes_no_schema_of_another_role(new_database, server) -> None:
    name = new_database()
    role = f"squatter_{uuid.uuid4().hex[:8]}"
    with server.connect(dbname=name, autocommit=True) as c:
        c.execute(f"CREATE ROLE {role}; GRANT CREATE ON DATABASE {name} TO {role}; SET ROLE {role}")
        c.execute("CREATE SCHEMA modelstore; RESET ROLE")
        diag = refusal(c, f"CREATE EXTENSION {EXTENSION}")
        assert (diag.sqlstate, role in diag.message_primary) == ("42501", True)
        c.execute(diag.message_hint)
        c.execute(f"CREATE EXTENSION {EXTENSION}")
        c.execute(f"DROP EXTENSION {EXTENSION}; CREATE EXTENSION {EXTENSION}")
        c.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_nobody_puts_functions_beside_those_of_the_extension(new_database, server) -> None:
    """A role that installs a trusted extension does not own its schema: an overload would win over literals."""
    name = new_database()
    role = f"installer_{uuid.uuid4().hex[:8]}"
    with server.connect(dbname=name, autocommit=True) as c:
        c.execute(f"CREATE ROLE {role}; GRANT CREATE ON DATABASE {name} TO {role}; SET ROLE {role}")
        c.execute(f"CREATE EXTENSION {EXTENSION}; SELECT modelstore.create_store()")
        for statement in (
            "CREATE FUNCTION modelstore.import_safetensors(text, text, integer) RETURNS int LANGUAGE sql RETURN 1",
            "ALTER SCHEMA modelstore RENAME TO other",
        ):
            assert refusal(c, statement).sqlstate == "42501"
        c.execute("SELECT modelstore.drop_store('store')")
        c.execute(f"DROP EXTENSION {EXTENSION}; CREATE EXTENSION {EXTENSION}")
        c.execute(f"RESET ROLE; DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_types_are_those_of_the_extension_not_of_a_name(owner, superuser) -> None:
    superuser.execute("ALTER SCHEMA modelstore RENAME TO ms_old")
    owner.execute("CREATE SCHEMA modelstore; CREATE DOMAIN modelstore.tensor_chunk AS bigint")
    owner.execute("CREATE FUNCTION modelstore.atom_place(bigint, bigint, bigint) RETURNS bigint LANGUAGE sql RETURN 1")
    for statement in (READ, "SELECT modelstore.create_store('another')"):
        diag = refusal(owner, statement.replace("modelstore.", "ms_old."))
        assert diag.sqlstate == "55000", diag.message_primary
    owner.execute("DROP SCHEMA modelstore CASCADE")
    superuser.execute("ALTER SCHEMA ms_old RENAME TO modelstore")
    use(owner)


# Statements, snapshots, threads


def test_a_store_is_dropped_in_the_transaction_of_an_import(owner) -> None:
    with owner.transaction():
        owner.execute("SELECT modelstore.import_safetensors('o', '1', %s::bytea)", (FILE,))
        owner.execute("SELECT modelstore.drop_store('hers', cascade => true)")
    assert owner.execute("SELECT to_regnamespace('hers')").fetchone() == (None,)


@pytest.mark.parametrize("first", ["SELECT 1", "CREATE TEMP TABLE written (i int)", "SELECT modelstore.register_model('first', '1')"])
def test_a_stream_keeps_its_snapshot(first, owner, connect) -> None:
    """Also where the transaction has written: what another session deletes meanwhile is still there for it."""
    tensors = {f"w{i}": random_tensor(i, 300, 1000) for i in range(8)}
    file = safetensors_bytes(tensors)
    owner.execute("SET modelstore.chunk_size = '256kB'; SET modelstore.threads = 1")
    owner.execute("SELECT modelstore.import_safetensors('s', '1', %s::bytea)", (file,))
    (model,) = owner.execute("SELECT modelstore.find_model('s')").fetchone()
    other = connect(user=owner.info.user)
    with owner.transaction(), owner.cursor("parts") as cursor:
        owner.execute(first)
        cursor.itersize = 1
        cursor.execute("SELECT modelstore.export_safetensors(%s)", (model,))
        parts = [cursor.fetchone()[0] for _ in range(2)]
        other.execute("SELECT modelstore.delete_model(%s)", (model,))
        other.execute("SELECT modelstore.gc()")
        parts += [part for (part,) in cursor.fetchall()]
    assert b"".join(parts) == file


def test_a_session_has_one_pool_of_threads(owner) -> None:
    def threads() -> int:
        return len(os.listdir(f"/proc/{owner.info.backend_pid}/task"))

    before = threads()
    for size in [*range(1, 65), 3]:
        owner.execute(f"SET modelstore.threads = {size}")
        owner.execute(READ)
    wait_until(lambda: threads() <= before + 3, "the threads of pools that were ended are gone", 10)


def test_details_are_no_backtraces(server, monkeypatch) -> None:
    backtrace = Server(f"{server.name}-backtrace")
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    try:
        backtrace.start()
        with backtrace.connect(autocommit=True) as c:
            c.execute(f"CREATE EXTENSION {EXTENSION}")
            diag = refusal(c, "SELECT modelstore.store_version()")
            assert diag.message_detail == "The setting modelstore.store names the schema of the store to use."
    finally:
        backtrace.remove()


def test_every_function_has_a_fixed_search_path(db) -> None:
    """But for those of values alone, which run no statement."""
    rows = db.execute("""
        SELECT p.proname FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_modelstore'
        WHERE p.pronamespace = 'modelstore'::regnamespace AND p.provolatile <> 'i' AND NOT coalesce(p.proconfig::text LIKE '%search_path=pg_catalog, pg_temp%', false)
    """).fetchall()
    assert rows == []


def test_a_statement_reads_what_it_has_made(owner) -> None:
    """A STABLE function sees what VOLATILE ones did before it in the same statement, and nothing that others did since."""
    (total,) = owner.execute(
        "SELECT total_parameters FROM modelstore.import_safetensors('o', '1', %s::bytea) i, modelstore.calculate_model_parameters(i.model_id)", (FILE,)
    ).fetchone()
    assert total == 600
    assert owner.execute("SELECT modelstore.register_model('p', '1') = modelstore.find_model('p')").fetchone() == (True,)
    found = "SELECT count(*) FROM modelstore.ingest_text('another line'::text) i, modelstore.nearest((i.h_xy, i.h_yz, i.h_zm)::modelstore.atom, 1) n WHERE n.h_xy = i.h_xy AND n.distance = 0"
    assert owner.execute(found).fetchone() == (1,)


def test_tables_beside_a_store_are_not_asked_as_somebody_else(owner, superuser) -> None:
    """Nor by gc or verify, of a role that has not the owner's rights: a policy there may run the owner's code. And a NULL in an array."""
    owner.execute(TRAP)
    owner.execute("CREATE TABLE hers.beside (t uuid REFERENCES hers.tensor_metadata); INSERT INTO hers.beside SELECT tensor_id FROM hers.tensor_metadata")
    owner.execute("ALTER TABLE hers.beside ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON hers.beside USING (trap.f()); GRANT SELECT ON hers.beside TO PUBLIC")
    owner.execute("GRANT USAGE ON SCHEMA hers TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA hers TO PUBLIC; REVOKE TRIGGER ON ALL TABLES IN SCHEMA hers FROM PUBLIC")
    superuser.execute("SET ROLE pg_monitor")
    for call in ("verify_store()", "gc(true)", "gc()"):
        superuser.execute(f"SELECT * FROM modelstore.{call}")
    superuser.execute("RESET ROLE")
    assert {who for (who,) in owner.execute("SELECT who FROM trap.log")} <= {owner.info.user}
    owner.execute("ALTER TABLE hers.tensor_metadata DROP CONSTRAINT tensor_metadata_shape_check; UPDATE hers.tensor_metadata SET shape = '{NULL}'")
    assert refusal(owner, READ).sqlstate == "XX001"
