"""Stores are ordinary tables: they replicate to a standby, dump and restore, and can be dropped."""

from __future__ import annotations

import hashlib
import json
import pathlib
import uuid

import psycopg
import pytest
from harness import MAJOR, Server
from models import random_tensor, safetensors_bytes
from observe import exported_sha256, problems, row_counts

pytestmark = pytest.mark.versioned

SMALL = safetensors_bytes({"a": random_tensor(1, 300, 512), "b": random_tensor(2, 20, 30)})
IMPORT = "SELECT model_id FROM modelstore.import_safetensors(%s, '1', %b::bytea)"


def import_minilm(db: psycopg.Connection, minilm: pathlib.Path, server: Server) -> tuple[uuid.UUID, str]:
    """The real model, from a copy the server can read; its key and SHA-256."""
    data = minilm.read_bytes()
    copy = server.scratch / "minilm.safetensors"
    copy.write_bytes(data)
    copy.chmod(0o644)
    config = json.loads(minilm.with_name("config.json").read_text())
    (model,) = db.execute(
        "SELECT model_id FROM modelstore.import_safetensors_file('minilm', '1', %s, %s)",
        (str(copy), json.dumps(config)),
    ).fetchone()
    copy.unlink()
    return model, hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_a_hot_standby_reads_and_does_not_write(server: Server, dbname: str, db, minilm: pathlib.Path) -> None:
    model, sha256 = import_minilm(db, minilm, server)
    db.execute("SELECT modelstore.add_file(%s, 'notes.txt', 'some text'::bytea)", (model,))
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    db.execute("SELECT modelstore.append_upload(%s, %b)", (upload, SMALL))
    word = "embeddings.word_embeddings.weight"
    (tensor,) = db.execute("SELECT tensor_id FROM store.model_weights WHERE weight_name = %s", (word,)).fetchone()
    reads = {
        "find_model('minilm')": (),
        "lineage(%s)": (model,),
        "calculate_model_parameters(%s)": (model,),
        "get_tensor(%s, 'encoder.layer.0.attention.self.query.weight')": (model,),
        "get_tensor_slice(%s, %s, '100:110, :5')": (model, word),
        "embedding(%s, '{1,101,102}')": (model,),
        "diff_models(%s, %s)": (model, model),
        "find_weights_with('constant')": (),
        "weight_statistics(%s)": (model,),
        "find_weights_with('dead_rows')": (),
        "verify_model(%s)": (model,),
        "verify_store()": (),
        "space_report()": (),
        "gc(dry_run => true)": (),
        "store_version()": (),
        "stores()": (),
        "upload_offset(%s)": (upload,),
        "export_file(%s, 'notes.txt')": (model,),
    }
    writes = {
        "import_safetensors('x', '1', %s::bytea)": (SMALL,),
        "add_file(%s, 'x', %s::bytea)": (model, SMALL),
        "add_file_upload(%s, 'x', %s)": (model, upload),
        "delete_file(%s, 'notes.txt')": (model,),
        "register_model('x', '1')": (),
        "delete_model(%s)": (model,),
        "copy_model(%s, 'store', new_version => '2')": (model,),
        "set_alias('minilm:1', 'a')": (),
        "delete_alias('minilm', 'a')": (),
        "begin_upload()": (),
        "append_upload(%s, 'x'::bytea)": (upload,),
        "finish_upload(%s, 'x', '1')": (upload,),
        "abort_upload(%s)": (upload,),
        "gc()": (),
        "create_store('second')": (),
        "drop_store('store', true)": (),
        "export_safetensors_large_object(%s)": (model,),
    }
    with server.standby() as standby:
        server.catch_up(standby)
        with standby.connect(dbname, autocommit=True) as there:
            assert there.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
            for function, arguments in reads.items():
                sql = f"SELECT * FROM modelstore.{function}"
                assert there.execute(sql, arguments).fetchall() == db.execute(sql, arguments).fetchall(), function
            for view in ("v_weight_statistics", "v_model_architecture"):
                sql = f"SELECT * FROM store.{view} ORDER BY 1, 2"
                assert there.execute(sql).fetchall() == db.execute(sql).fetchall()
            digest = "SELECT md5(modelstore.tobytes(modelstore.reconstruct_tensor(%s)))"
            assert there.execute(digest, (tensor,)).fetchone() == db.execute(digest, (tensor,)).fetchone()
            assert exported_sha256(there, model) == sha256
            out = standby.scratch / "out.safetensors"
            there.execute("SELECT modelstore.export_safetensors_file(%s, %s)", (model, str(out)))
            assert hashlib.sha256(out.read_bytes()).hexdigest() == sha256
            for function, arguments in writes.items():
                with pytest.raises(psycopg.Error) as e:
                    there.execute(f"SELECT * FROM modelstore.{function}", arguments)
                # PostgreSQL 15 has no check of its own in lo_create.
                allowed = {"25006"} | ({"55000"} if MAJOR < 16 and "large_object" in function else set())
                assert e.value.sqlstate in allowed, (function, e.value)
            # What is committed later arrives as well.
            later = db.execute(IMPORT, ("later", SMALL)).fetchone()[0]
            server.catch_up(standby)
            assert exported_sha256(there, later) == hashlib.sha256(SMALL).hexdigest()
            archive = "SELECT md5(string_agg(part, '')) FROM modelstore.export_archive(%s) AS part"
            assert there.execute(archive, (later,)).fetchone() == db.execute(archive, (later,)).fetchone()
            db.execute("SELECT modelstore.delete_model(%s)", (model,))
            db.execute("SELECT modelstore.gc()")
            server.catch_up(standby)
            assert problems(there) == []
            assert row_counts(there) == row_counts(db)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["plain", "custom"])
def test_dump_and_restore(
    form: str, server: Server, dbname: str, db, new_database, minilm: pathlib.Path, tmp_path
) -> None:
    """A store with a real model, a difference to a parent, an alias, a second store with an awkward name."""
    model, sha256 = import_minilm(db, minilm, server)
    db.execute("SELECT modelstore.add_file(%s, '1_Pooling/config.json', '{}'::bytea)", (model,))
    first = random_tensor(1, 600, 512)
    second = first.copy()
    second[::50] += 0.01
    parent = db.execute(IMPORT, ("p", safetensors_bytes({"w": first}))).fetchone()[0]
    child_file = safetensors_bytes({"w": second})
    (child,) = db.execute(
        "SELECT model_id FROM modelstore.import_safetensors('c', '1', %b::bytea, parent => %s)", (child_file, parent)
    ).fetchone()
    db.execute("SELECT modelstore.set_alias('minilm:1', 'production')")
    db.execute("""SELECT modelstore.create_store('We"ird Store')""")
    db.execute("""SET modelstore.store = 'We"ird Store'""")
    other = db.execute(IMPORT, ("o", SMALL)).fetchone()[0]
    db.execute("RESET modelstore.store")
    before = row_counts(db), row_counts(db, 'We"ird Store')
    target = new_database()
    dump = tmp_path / "dump"
    done = server.run("pg_dump", f"--format={form}", "--file", str(dump), dbname=dbname)
    assert done.returncode == 0, done.stderr
    if form == "plain":
        done = server.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump), dbname=target)
    else:
        done = server.run("pg_restore", "--exit-on-error", "--jobs=2", "-d", target, str(dump), dbname=target)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    with server.connect(target, autocommit=True) as restored:
        assert (row_counts(restored), row_counts(restored, 'We"ird Store')) == before
        assert problems(restored) == []
        assert restored.execute("SELECT modelstore.find_model('minilm', 'production')").fetchone() == (model,)
        assert exported_sha256(restored, model) == sha256
        assert restored.execute("SELECT modelstore.export_file(%s, '1_Pooling/config.json')", (model,)).fetchall() == [(b"{}",)]
        assert exported_sha256(restored, child) == hashlib.sha256(child_file).hexdigest()
        views = "SELECT * FROM store.v_weight_statistics ORDER BY 1, 2"
        assert restored.execute(views).fetchall() == db.execute(views).fetchall()
        restored.execute("""SET modelstore.store = 'We"ird Store'""")
        assert problems(restored) == []
        assert exported_sha256(restored, other) == hashlib.sha256(SMALL).hexdigest()
        # It is a store like any other: it takes models, and deletes them.
        again = restored.execute(IMPORT, ("again", SMALL)).fetchone()[0]
        assert exported_sha256(restored, again) == hashlib.sha256(SMALL).hexdigest()
        for m in (other, again):
            restored.execute("SELECT modelstore.delete_model(%s)", (m,))
        assert restored.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (2,)
        assert restored.execute("""SELECT modelstore.drop_store('We"ird Store')""").fetchone()
    if form == "custom":
        # With --clean into the database it came from: everything is dropped and made again.
        done = server.run(
            "pg_restore", "--clean", "--if-exists", "--exit-on-error", "-d", target, str(dump), dbname=target
        )
        assert done.returncode == 0, done.stderr
        with server.connect(target, autocommit=True) as restored:
            assert problems(restored) == []
            assert exported_sha256(restored, model) == sha256


def test_one_store_alone_can_be_dumped(server: Server, dbname: str, db, new_database) -> None:
    model = db.execute(IMPORT, ("m", SMALL)).fetchone()[0]
    db.execute("SELECT modelstore.create_store('elsewhere')")
    dump = server.run("pg_dump", "--schema=store", dbname=dbname)
    assert dump.returncode == 0, dump.stderr
    assert "elsewhere" not in dump.stdout
    target = new_database()
    with server.connect(target, autocommit=True) as restored:
        restored.execute("CREATE EXTENSION pg_modelstore")
        server.psql(dump.stdout, target)
        assert problems(restored) == []
        assert exported_sha256(restored, model) == hashlib.sha256(SMALL).hexdigest()


# Dropping


def test_the_extension_is_not_dropped_under_a_store(db, connect) -> None:
    db.execute(IMPORT, ("m", SMALL))
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as e:
        db.execute("DROP EXTENSION pg_modelstore")
    assert "store.tensor_chunks" in e.value.diag.message_detail
    assert problems(db) == []
    db.execute("DROP EXTENSION pg_modelstore CASCADE")
    # The rest of the store is there still; a new session can begin anew.
    new = connect()
    assert new.execute("SELECT count(*) FROM store.models").fetchone() == (1,)
    new.execute("DROP SCHEMA store CASCADE")
    new.execute("DROP SCHEMA IF EXISTS modelstore")
    new.execute("CREATE EXTENSION pg_modelstore")
    new.execute("SELECT modelstore.create_store()")
    assert problems(new) == []
    new.execute("SELECT modelstore.drop_store('store')")
    new.execute("DROP EXTENSION pg_modelstore")


def test_the_remains_of_a_store_are_no_store(db, connect) -> None:
    """After DROP EXTENSION … CASCADE the chunks have lost their column."""
    db.execute("DROP EXTENSION pg_modelstore CASCADE")
    db.execute("DROP SCHEMA IF EXISTS modelstore")
    new = connect()
    new.execute("CREATE EXTENSION pg_modelstore")
    assert new.execute("SELECT * FROM modelstore.stores()").fetchall() == []
    for function in ("verify_store()", "gc()", "register_model('x', '1')"):
        with pytest.raises(psycopg.Error) as e:
            new.execute(f"SELECT * FROM modelstore.{function}")
        assert e.value.sqlstate == "3F000", (function, e.value)


def test_a_store_with_models_is_dropped_only_on_demand(db) -> None:
    db.execute(IMPORT, ("m", SMALL))
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as e:
        db.execute("SELECT modelstore.drop_store('store')")
    assert problems(db) == []
    assert db.execute(e.value.diag.message_hint.encode()).fetchone() == ("store",)
    with pytest.raises(psycopg.errors.InvalidSchemaName):
        db.execute("SELECT modelstore.drop_store('store')")
    with pytest.raises(psycopg.errors.InvalidSchemaName):
        db.execute("SELECT modelstore.gc()")


def test_an_unfinished_upload_is_not_dropped_in_passing(db) -> None:
    (upload,) = db.execute("SELECT modelstore.begin_upload()").fetchone()
    db.execute("SELECT modelstore.append_upload(%s, 'x'::bytea)", (upload,))
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        db.execute("SELECT modelstore.drop_store('store')")


def test_a_store_is_made_once(db) -> None:
    with pytest.raises(psycopg.errors.DuplicateSchema) as e:
        db.execute("SELECT modelstore.create_store()")
    assert db.execute(e.value.diag.message_hint.encode()).fetchone()
    db.execute(IMPORT, ("m", SMALL))
    with pytest.raises(psycopg.errors.DuplicateSchema):
        db.execute("SELECT modelstore.create_store('store')")
    assert problems(db) == []


def test_a_store_in_a_schema_with_other_tables(db) -> None:
    """They are none of the store's business: it lives beside them, and does not take them along when it goes."""
    db.execute("CREATE SCHEMA shared")
    db.execute("CREATE TABLE shared.mine (x int)")
    db.execute("INSERT INTO shared.mine VALUES (1)")
    db.execute("SELECT modelstore.create_store('shared')")
    db.execute("SET modelstore.store = 'shared'")
    model = db.execute(IMPORT, ("m", SMALL)).fetchone()[0]
    assert exported_sha256(db, model) == hashlib.sha256(SMALL).hexdigest()
    db.execute("SELECT modelstore.delete_model(%s)", (model,))
    db.execute("SELECT modelstore.gc()")
    assert db.execute("SELECT modelstore.drop_store('shared')").fetchone() == ("shared",)
    assert db.execute("SELECT x FROM shared.mine").fetchall() == [(1,)]
    left = "SELECT relname::text FROM pg_class WHERE relnamespace = 'shared'::regnamespace AND relkind IN ('r', 'p', 'v')"
    assert db.execute(left).fetchall() == [("mine",)]


def test_a_store_in_public(db) -> None:
    db.execute("CREATE TABLE public.mine (x int)")
    db.execute("ALTER SCHEMA public OWNER TO CURRENT_USER")
    db.execute("SELECT modelstore.create_store('public')")
    db.execute("SET modelstore.store = 'public'")
    model = db.execute(IMPORT, ("m", SMALL)).fetchone()[0]
    assert exported_sha256(db, model) == hashlib.sha256(SMALL).hexdigest()
    assert problems(db) == []
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        db.execute("SELECT modelstore.drop_store('public')")
    assert exported_sha256(db, model) == hashlib.sha256(SMALL).hexdigest()
    assert db.execute("SELECT modelstore.drop_store('public', cascade => true)").fetchone() == ("public",)
    assert db.execute("SELECT count(*) FROM public.mine").fetchone() == (0,)
    assert db.execute("SELECT to_regclass('public.models'), to_regnamespace('public') IS NOT NULL").fetchone() == (None, True)


def test_a_table_of_the_same_name_is_in_the_way(db) -> None:
    """Half a store is none: all of it is made, or nothing."""
    db.execute("CREATE SCHEMA taken")
    db.execute("CREATE TABLE taken.model_weights (x int)")
    with pytest.raises(psycopg.errors.DuplicateTable):
        db.execute("SELECT modelstore.create_store('taken')")
    tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'taken'::regnamespace"
    assert db.execute(tables).fetchall() == [("model_weights",)]


def test_dropping_a_store_that_others_build_on(db) -> None:
    """A view of somebody else's on the store's tables goes with it only when asked for."""
    db.execute("CREATE VIEW public.names AS SELECT model_name FROM store.models")
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        db.execute("SELECT modelstore.drop_store('store')")
    assert db.execute("SELECT count(*) FROM public.names").fetchone() == (0,)
    assert db.execute("SELECT modelstore.drop_store('store', cascade => true)").fetchone() == ("store",)
