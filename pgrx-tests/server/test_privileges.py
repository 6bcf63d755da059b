"""Only the privileges on a store's tables control access; names and search paths of other roles have no effect."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import psycopg
import pytest
from doc_blocks import ERROR, blocks_of
from harness import MAJOR, ROOT
from hostile_names import HOSTILE, NAMES
from models import random_tensor, safetensors_bytes
from observe import exported_sha256, problems, row_counts

pytestmark = pytest.mark.versioned

DATA = safetensors_bytes({
    "embeddings.word_embeddings.weight": random_tensor(1, 100, 32),
    "encoder.layer.0.attention.self.query.weight": random_tensor(4, 32, 32),
    "w": random_tensor(2, 600, 512),
    "broken": np.array([[np.nan, 1.0, 2.0, 3.0], [0.0] * 4, [1.0, 2.0, 3.0, 4.0]], dtype="float32"),
})  # fmt: skip
OTHER = safetensors_bytes({"other": random_tensor(3, 50, 64)})
IMPORT = "SELECT model_id FROM modelstore.import_safetensors(%s, '1', %b::bytea)"


@pytest.fixture
def role(db):
    """role('option', …): makes a role that may log in and use the extension, and returns its name."""
    made = []

    def make(*options: str) -> str:
        name = f"role_{uuid.uuid4().hex[:8]}"
        db.execute(f"CREATE ROLE {name} LOGIN {' '.join(options)}")
        made.append(name)
        return name

    yield make
    for name in made:
        db.execute(f"DROP OWNED BY {name} CASCADE")
        # It may own things in other databases of the test; those are dropped later, the role stays then.
        try:
            db.execute(f"DROP ROLE {name}")
        except psycopg.errors.DependentObjectsStillExist:
            pass


@pytest.fixture
def model(db) -> uuid.UUID:
    return db.execute(IMPORT, ("m", DATA)).fetchone()[0]


def test_everybody_may_use_the_types_and_functions(db, connect, role) -> None:
    """A tensor is a type like any other. What a function may reach, the tables decide."""
    c = connect(user=role())
    assert c.execute("SELECT modelstore.shape('[1,2]'::modelstore.tensor)").fetchone() == ([2],)
    c.execute("CREATE TEMP TABLE t (v modelstore.tensor)")
    c.execute("INSERT INTO t VALUES ('[1]')")


READS = """
    find_model('m')
    lineage($m)
    calculate_model_parameters($m)
    get_tensor($m, 'w')
    get_tensor_slice($m, 'w', '0:2')
    reconstruct_tensor($t)
    embedding($m, '{1}')
    diff_models($m, $m)
    find_weights_with('nan')
    weight_statistics($m)
    find_weights_with('dead_rows')
    verify_model($m)
    verify_store()
    space_report()
    export_safetensors($m)
    export_file($m, 'notes.txt')
    store_version()
    gc(true)
    upload_offset($u)
""".split("\n")
WRITES = """
    register_model('x', '1')
    set_alias('m:1', 'a')
    delete_alias('m', 'a')
    import_safetensors('y', '1', $d)
    add_file($m, 'b.safetensors', $d)
    add_file($m, 'c.txt', 'text'::bytea)
    delete_file($m, 'notes.txt')
    begin_upload()
    append_upload($u, 'x'::bytea)
    abort_upload($u)
    finish_upload($u, 'z', '1')
    add_file_upload($m, 'c.safetensors', $u)
    gc()
    delete_model($m)
    drop_store('store', true)
""".split("\n")
READS, WRITES = ([line.strip() for line in lines if line.strip()] for lines in (READS, WRITES))


@pytest.fixture
def call(db, model):
    """call(connection, 'f($m, …)'): calls a function with the model, a tensor, an upload or a file in place of $…"""
    (tensor,) = db.execute("SELECT tensor_id FROM store.model_weights WHERE weight_name = 'w'").fetchone()
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    db.execute("SELECT modelstore.append_upload(%s, %b)", (upload, OTHER))
    db.execute("SELECT modelstore.add_file(%s, 'notes.txt', 'notes'::bytea)", (model,))
    values = {"$m": f"'{model}'", "$t": f"'{tensor}'", "$u": f"'{upload}'", "$d": f"'\\x{OTHER.hex()}'::bytea"}

    def do(c: psycopg.Connection, function: str) -> list[tuple]:
        for name, value in values.items():
            function = function.replace(name, value)
        return c.execute(f"SELECT * FROM modelstore.{function}").fetchall()

    return do


@pytest.mark.parametrize("function", READS + WRITES)
@pytest.mark.parametrize("rights", ["none", "usage of the schema"])
def test_without_rights_nothing_is_possible(rights: str, function: str, db, connect, role, call, model) -> None:
    name = role()
    db.execute(f"GRANT USAGE ON SCHEMA modelstore TO {name}")
    if rights != "none":
        db.execute(f"GRANT USAGE ON SCHEMA store TO {name}")
    before = row_counts(db)
    c = connect(user=name)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        call(c, function)
    assert row_counts(db) == before


@pytest.mark.parametrize("function", READS)
def test_who_may_read_the_tables_may_read_models(function: str, db, connect, role, call) -> None:
    name = role()
    db.execute(f"GRANT USAGE ON SCHEMA modelstore, store TO {name}")
    db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA store TO {name}")
    c = connect(user=name)
    rows = call(c, function)
    # The words of a row, as NaN is not equal to itself.
    assert repr(rows) == repr(call(db, function))
    assert bool(rows) == (not function.startswith("verify")), "whether there is something to read"
    assert c.execute("SELECT count(*) FROM store.v_weight_statistics").fetchone() == (4,)
    assert c.execute("SELECT count(*) FROM store.v_model_architecture").fetchone() == (1,)


@pytest.mark.parametrize("function", WRITES)
def test_who_may_only_read_cannot_write(function: str, db, connect, role, call) -> None:
    name = role()
    db.execute(f"GRANT USAGE ON SCHEMA modelstore, store TO {name}")
    db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA store TO {name}")
    before = row_counts(db)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        call(connect(user=name), function)
    assert row_counts(db) == before


def test_who_may_write_the_tables_may_do_everything(db, connect, role, call) -> None:
    name = role()
    db.execute(f"GRANT USAGE ON SCHEMA modelstore, store TO {name}")
    db.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA store TO {name}")
    c = connect(user=name)
    model = c.execute(IMPORT, ("mine", OTHER)).fetchone()[0]
    assert exported_sha256(c, model) == hashlib.sha256(OTHER).hexdigest()
    assert c.execute("SELECT created_by FROM store.models WHERE model_id = %s", (model,)).fetchone() == (name,)
    for function in ("set_alias('mine:1', 'a')", "delete_alias('mine', 'a')", "finish_upload($u, 'x', '1')"):
        call(c, function)
    c.execute("SELECT modelstore.delete_model(%s)", (model,))
    c.execute("SELECT * FROM modelstore.gc()")
    assert problems(db) == []


def test_plans_that_a_session_keeps_know_whose_they_are(db, connect, role, call, model) -> None:
    """SET ROLE in one session: what one role may, the next may not, whatever was called before."""
    reader, stranger = role(), role()
    for name in (reader, stranger):
        db.execute(f"GRANT USAGE ON SCHEMA modelstore, store TO {name}")
    db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA store TO {reader}")
    session = connect()
    for _ in range(2):
        call(session, "get_tensor($m, 'w')")
        session.execute(f"SET ROLE {reader}")
        call(session, "get_tensor($m, 'w')")
        session.execute(f"SET ROLE {stranger}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            call(session, "get_tensor($m, 'w')")
        session.execute("RESET ROLE")


def test_row_security_hides_models(db, connect, role, call, model) -> None:
    """A policy on the tables is a policy on the functions, also in a session that has read as somebody else."""
    name = role()
    db.execute(f"""
        GRANT USAGE ON SCHEMA modelstore, store TO {name};
        GRANT SELECT ON ALL TABLES IN SCHEMA store TO {name};
        ALTER TABLE store.model_weights ENABLE ROW LEVEL SECURITY;
        ALTER TABLE store.models ENABLE ROW LEVEL SECURITY;
    """)
    session = connect()
    call(session, "get_tensor($m, 'w')")
    session.execute(f"SET ROLE {name}")
    with pytest.raises(psycopg.errors.UndefinedObject):
        call(session, "get_tensor($m, 'w')")
    session.execute("RESET ROLE")
    call(session, "get_tensor($m, 'w')")


# Files and large objects of the server


def test_server_files_need_the_roles_that_copy_needs(db, connect, role, server, model) -> None:
    path, out = server.scratch / "privileges.safetensors", server.scratch / "privileges.out"
    path.write_bytes(OTHER)
    path.chmod(0o644)
    name = role()
    db.execute(f"GRANT USAGE ON SCHEMA modelstore, store TO {name}")
    db.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA store TO {name}")
    c = connect(user=name)
    read = "SELECT model_id FROM modelstore.import_safetensors_file('f', '1', %s)"
    write = "SELECT modelstore.export_safetensors_file(%s, %s)"
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="read a server file") as e:
        c.execute(read, (str(path),))
    c.execute(e.value.diag.message_hint)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="read a server file"):
        c.execute(read, ("/nowhere/at/all",))  # and does not say whether it is there
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="write a server file") as e:
        c.execute(write, (model, str(out)))
    # What to do instead must be a way to export.
    assert "export_safetensors" in e.value.diag.message_hint
    assert not out.exists()
    db.execute(f"GRANT pg_read_server_files TO {name}")
    assert c.execute(read, (str(path),)).fetchone()
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="write a server file"):
        c.execute(write, (model, str(out)))
    db.execute(f"REVOKE pg_read_server_files FROM {name}")
    db.execute(f"GRANT pg_write_server_files TO {name}")
    assert c.execute(write, (model, str(out))).fetchone() == (len(DATA),)
    assert hashlib.sha256(out.read_bytes()).digest() == hashlib.sha256(DATA).digest()
    # Never over a file that is there.
    with pytest.raises(psycopg.errors.DuplicateFile):
        c.execute(write, (model, str(out)))
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="read a server file"):
        c.execute(read, (str(path),))
    out.unlink()
    path.unlink()


def test_large_objects_keep_their_privileges(db, connect, role, model) -> None:
    name = role()
    db.execute(f"GRANT USAGE ON SCHEMA modelstore, store TO {name}")
    db.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA store TO {name}")
    c = connect(user=name)
    (oid,) = db.execute("SELECT pg_catalog.lo_from_bytea(0, %b)", (OTHER,)).fetchone()
    sql = "SELECT model_id FROM modelstore.import_safetensors_large_object('l', '1', %s::oid)"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        c.execute(sql, (oid,))
    db.execute(f"GRANT SELECT ON LARGE OBJECT {oid} TO {name}")
    assert c.execute(sql, (oid,)).fetchone()
    (made,) = c.execute("SELECT modelstore.export_safetensors_large_object(%s)", (model,)).fetchone()
    owner = "SELECT pg_get_userbyid(lomowner)::text FROM pg_largeobject_metadata WHERE oid = %s"
    assert c.execute(owner, (made,)).fetchone() == (name,)
    assert c.execute("SELECT pg_catalog.lo_get(%s)", (made,)).fetchone() == (DATA,)
    # Another one cannot read it.
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connect(user=role()).execute("SELECT pg_catalog.lo_get(%s)", (made,))


# Ownership


def test_the_owner_of_a_database_installs_and_owns_everything(server, db, connect, role) -> None:
    """The extension is trusted: no superuser is needed for any of it."""
    name = role()
    database = f"owned_{name}"
    db.execute(f"CREATE DATABASE {database} OWNER {name}")
    try:
        with server.connect(database, user=name, autocommit=True) as c:
            c.execute("CREATE EXTENSION pg_modelstore")
            assert c.execute("SELECT modelstore.create_store('mine')").fetchone() == ("mine",)
            c.execute("SET modelstore.store = 'mine'")
            model = c.execute(IMPORT, ("m", DATA)).fetchone()[0]
            assert exported_sha256(c, model) == hashlib.sha256(DATA).hexdigest()
            assert c.execute("SELECT * FROM modelstore.stores()").fetchall() == [("mine", name, True, ["models", "tensors", "training"])]
            c.execute("SELECT modelstore.delete_model(%s)", (model,))
            c.execute("SELECT modelstore.gc()")
            assert row_counts(c, "mine") == {}
            c.execute("SELECT modelstore.drop_store('mine')")
            c.execute("DROP EXTENSION pg_modelstore")
    finally:
        db.execute(f"DROP DATABASE {database} WITH (FORCE)")


def test_a_role_that_may_create_schemas_has_a_store_of_its_own(db, connect, role, model) -> None:
    name = role()
    (database,) = db.execute("SELECT current_database()").fetchone()
    db.execute(f"GRANT CREATE ON DATABASE {database} TO {name}")
    db.execute(f"GRANT USAGE ON SCHEMA modelstore TO {name}")
    c = connect(user=name)
    c.execute("SELECT modelstore.create_store('mine')")
    c.execute("SET modelstore.store = 'mine'")
    mine = c.execute(IMPORT, ("m", OTHER)).fetchone()[0]
    assert exported_sha256(c, mine) == hashlib.sha256(OTHER).hexdigest()
    assert ("mine", name) in [row[:2] for row in db.execute("SELECT * FROM modelstore.stores()")]
    # It cannot drop somebody else's.
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        c.execute("SELECT modelstore.drop_store('store', true)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connect(user=role()).execute("SELECT modelstore.create_store('theirs')")


def test_the_examples_are_safe_for_an_owner_without_superuser(server, db, role, tmp_path) -> None:
    """From PostgreSQL 16 on, creating a role does not allow SET ROLE to it; statements after a failed SET ROLE must not run as the owner."""
    (super_model,) = db.execute(IMPORT, ("minilm", DATA)).fetchone()
    name = role("CREATEROLE")
    database = f"owned_{name}"
    db.execute(f"CREATE DATABASE {database} OWNER {name}")
    blocks = [b for b in blocks_of(ROOT / "README.md") if "model_reader" in b.sql and "DROP" not in b.sql]
    assert len(blocks) >= 2
    script = "".join(b.sql for b in blocks)
    assert "delete_model" in script
    try:
        with server.connect(database, user=name, autocommit=True) as c:
            c.execute("CREATE EXTENSION pg_modelstore; SELECT modelstore.create_store()")
            c.execute(IMPORT, ("minilm", DATA))
        for granted in (True, False):
            # Also for a reader who leaves the GRANT out: SET ROLE fails, and nothing is deleted.
            text = script if granted else script.replace("GRANT model_reader TO CURRENT_USER;", "")
            assert granted or text != script
            done = server.run("psql", "-X", "-q", "-U", name, dbname=database, input=text)
            errors = [line for line in done.stderr.splitlines() if ERROR.search(line)]
            assert "permission denied" in errors[0], done.stderr
            with server.connect(database, user=name, autocommit=True) as c:
                if granted:
                    assert "permission denied for table" in errors[0], done.stderr
                    assert "total_parameters" in done.stdout
                assert c.execute("SELECT count(*) FROM store.models").fetchone() == (1,)
                c.execute("GRANT model_reader TO CURRENT_USER; DROP OWNED BY model_reader; DROP ROLE model_reader")
    finally:
        db.execute(f"DROP DATABASE {database} WITH (FORCE)")
    assert exported_sha256(db, super_model) == hashlib.sha256(DATA).hexdigest()


# Names



def test_a_hostile_search_path_changes_nothing(db, connect, call, model) -> None:
    expected = {f: call(db, f) for f in READS if not f.startswith(("upload_offset",))}
    views = {v: db.execute(f"SELECT * FROM store.{v}").fetchall() for v in ("v_weight_statistics", "v_model_architecture")}
    db.execute(HOSTILE)
    c = connect()
    c.execute("SET search_path = hostile, pg_catalog, store")
    c.execute("CREATE TEMP TABLE models (boom int4)")
    c.execute("CREATE TEMP TABLE tensor_chunks (boom int4)")
    c.execute("CREATE TEMP TABLE pg_namespace (boom int4)")
    # The trap is set:
    with pytest.raises(psycopg.errors.RaiseException, match="hijacked"):
        c.execute("SELECT lower('x'::pg_catalog.text)")
    for function, rows in expected.items():
        assert repr(call(c, function)) == repr(rows), function
    for view in views:
        rows = c.execute(f"SELECT * FROM store.{view}").fetchall()
        assert rows
        assert repr(rows) == repr(views[view])
    c.execute("SELECT modelstore.create_store('second')")
    c.execute("SET modelstore.store = 'second'")
    other = c.execute(
        "SELECT model_id FROM modelstore.import_safetensors('o', '1', %b::pg_catalog.bytea)", (OTHER,)
    ).fetchone()[0]
    assert exported_sha256(c, other) == hashlib.sha256(OTHER).hexdigest()
    (oid,) = c.execute("SELECT modelstore.export_safetensors_large_object(%s)", (other,)).fetchone()
    c.execute("SELECT modelstore.import_safetensors_large_object('o', '2', %s::pg_catalog.oid)", (oid,))
    c.execute("SELECT modelstore.delete_model(%s)", (other,))
    c.execute("SELECT modelstore.gc()")
    assert c.execute("SELECT * FROM modelstore.verify_store()").fetchall() == []
    assert c.execute("SELECT modelstore.drop_store('second', true)").fetchone() == ("second",)
    c.execute("SET modelstore.store = 'store'")
    last = ("delete_file", "append_upload", "add_file_upload", "abort_upload", "delete_model", "drop_store")
    for function in WRITES:
        if not function.startswith(last):
            call(c, function)
    c.execute("SELECT modelstore.delete_model(%s)", (model,))


def test_a_session_without_pg_catalog_in_front(db, connect, model) -> None:
    c = connect()
    c.execute("SET search_path = ''")
    assert exported_sha256(c, model) == hashlib.sha256(DATA).hexdigest()
    c.execute("SELECT modelstore.create_store('second')")




@pytest.mark.parametrize("name", NAMES)
def test_names_that_need_quoting(name: str, db, model) -> None:
    assert db.execute("SELECT modelstore.create_store(%s)", (name,)).fetchone() == (name,)
    db.execute("SELECT set_config('modelstore.store', %s, false)", (name,))
    mine = db.execute(IMPORT, ("m", OTHER)).fetchone()[0]
    assert exported_sha256(db, mine) == hashlib.sha256(OTHER).hexdigest()
    assert problems(db) == []
    assert (name, "postgres", True) in db.execute("SELECT store, owner, is_current FROM modelstore.stores()").fetchall()
    # HINTs quote it too.
    with pytest.raises(psycopg.errors.UndefinedObject) as e:
        db.execute("SELECT modelstore.get_tensor(%s, 'x')", (uuid.uuid4(),))
    assert db.execute(e.value.diag.message_hint.encode()).fetchall()
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as e:
        db.execute("SELECT modelstore.drop_store(%s)", (name,))
    db.execute("SELECT modelstore.delete_model(%s)", (mine,))
    db.execute("SELECT modelstore.gc()")
    assert db.execute(e.value.diag.message_hint.encode()).fetchone() == (name,)
    db.execute("SET modelstore.store = 'store'")
    assert problems(db) == []
    assert exported_sha256(db, model) == hashlib.sha256(DATA).hexdigest()


def test_two_stores_do_not_touch_each_other(db, model) -> None:
    db.execute("SELECT modelstore.create_store('second')")
    first = row_counts(db)
    db.execute("SET modelstore.store = 'second'")
    same = db.execute(IMPORT, ("m", DATA)).fetchone()[0]
    assert row_counts(db) == first == row_counts(db, "second")
    with pytest.raises(psycopg.errors.UndefinedObject):
        exported_sha256(db, model)
    with pytest.raises(psycopg.errors.UndefinedObject):
        db.execute("SELECT modelstore.delete_model(%s)", (model,))
    db.execute("SELECT modelstore.delete_model(%s)", (same,))
    db.execute("SELECT modelstore.gc()")
    assert row_counts(db, "second") == {}
    assert row_counts(db) == first
    db.execute("SELECT modelstore.drop_store('second')")
    db.execute("SET modelstore.store = 'store'")
    assert problems(db) == []
    assert exported_sha256(db, model) == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("name", ["nowhere", 'no"where', "it's", "Ünï"])
def test_a_store_that_is_missing_is_one_statement_away(name: str, db) -> None:
    db.execute("SELECT set_config('modelstore.store', %s, false)", (name,))
    with pytest.raises(psycopg.errors.InvalidSchemaName) as e:
        db.execute("SELECT * FROM modelstore.gc()")
    assert e.value.sqlstate == "3F000"
    assert db.execute(e.value.diag.message_hint.encode()).fetchone() == (name,)
    db.execute("SELECT * FROM modelstore.gc()")


@pytest.mark.parametrize("name", ["", "x" * 64, "modelstore", "pg_catalog"])
def test_no_hint_that_does_not_work(name: str, db) -> None:
    """Names that no store can have: the error is the same, but the way out is another."""
    db.execute("SELECT set_config('modelstore.store', %s, false)", (name,))
    with pytest.raises(psycopg.Error) as e:
        db.execute("SELECT * FROM modelstore.gc()")
    assert e.value.sqlstate in ("3F000", "42939", "42602")
    assert e.value.diag.message_hint == "RESET modelstore.store;"
    db.execute(e.value.diag.message_hint.encode())
    db.execute("SELECT * FROM modelstore.gc()")


@pytest.mark.skipif(MAJOR < 18, reason="one version is enough")
def test_system_schemas_hold_no_store(db) -> None:
    for name in ("pg_catalog", "pg_toast", "pg_own", "information_schema"):
        with pytest.raises(psycopg.Error) as e:
            db.execute("SELECT modelstore.create_store(%s)", (name,))
        assert e.value.sqlstate in ("42939", "42501", "42602")


def test_sql_that_is_composed_by_clients(db, model) -> None:
    """Weight and model names are data: no name of one is part of a statement."""
    evil = """w'; DROP TABLE store.models; --"@store@\\"""
    data = safetensors_bytes({evil: random_tensor(1, 4, 4)})
    name = evil.replace("@", "")  # which no name of a model has
    mine = db.execute(IMPORT, (name, data)).fetchone()[0]
    assert exported_sha256(db, mine) == hashlib.sha256(data).hexdigest()
    assert db.execute("SELECT modelstore.ndim(modelstore.get_tensor(%s, %s))", (mine, evil)).fetchone() == (2,)
    with pytest.raises(psycopg.errors.UndefinedObject):
        db.execute("SELECT modelstore.find_model(%s, %s)", (name, name))
    db.execute("SELECT modelstore.set_alias(%s, %s)", (f"{name}:1", name))
    assert db.execute("SELECT modelstore.find_model(%s, %s)", (name, name)).fetchone() == (mine,)
