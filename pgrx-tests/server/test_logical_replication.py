"""A store is published and subscribed to whole: every table has a replica identity, and every change arrives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import psycopg
import pytest
from atoms_held import ingest, release
from checkpoints import checkpoint, start
from harness import FAST, Server, wait_until
from models import random_tensor, safetensors_bytes
from observe import exported_sha256, problems, row_counts, tables
from transfer import import_model

pytestmark = pytest.mark.versioned

# For rows without a key: what the tables of a store may use besides a primary key.
IDENTITIES = {
    "d": "(SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)",
    "i": "(SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid)",
    "f": "(SELECT 1)",
}


@pytest.fixture(scope="module")
def publisher() -> Iterator[Server]:
    server = Server(f"test-{os.getpid()}-logical", FAST + "wal_level = logical\nmax_slot_wal_keep_size = 2GB\n").start()
    try:
        yield server
        assert server.crashes() == []
    finally:
        server.remove()


def test_every_table_has_an_identity(db) -> None:
    db.execute("SELECT modelstore.add_module('atoms')")
    rows = db.execute(
        "SELECT c.relname, c.relreplident::text, CASE c.relreplident "
        + " ".join(f"WHEN '{kind}' THEN EXISTS {condition}" for kind, condition in IDENTITIES.items())
        + " ELSE false END FROM pg_class c WHERE c.relnamespace = 'store'::regnamespace AND c.relkind IN ('r', 'p')"
    ).fetchall()
    assert len(rows) > 270
    assert [name for name, _, found in rows if not found] == []
    # Rows are compared as a whole only where there is no key.
    assert sorted(name for name, kind, _ in rows if kind == "f") == ["store_version", "training_metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "binary"])
def test_a_store_by_logical_replication(form: str, publisher: Server) -> None:
    here, there = f"from_{form}", f"to_{form}"
    with publisher.connect(autocommit=True) as c:
        for name in (here, there):
            c.execute(f"CREATE DATABASE {name}".encode())
    with publisher.connect(here, autocommit=True) as db, publisher.connect(there, autocommit=True) as copy:
        db.execute("CREATE EXTENSION pg_modelstore; SELECT modelstore.create_store(modules => '{atoms}')")
        before = change(db, 1)
        # The tables come from a dump: create_store would add a row that arrives as well.
        copy.execute("CREATE EXTENSION pg_modelstore")
        dump = publisher.run("pg_dump", "--schema-only", "--schema=store", dbname=here)
        assert dump.returncode == 0, dump.stderr
        publisher.psql(dump.stdout, there)
        db.execute("CREATE PUBLICATION models FOR TABLES IN SCHEMA store")
        # Of a database of the same server: a slot made by CREATE SUBSCRIPTION would wait for its own transaction.
        db.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (there,))
        copy.execute(
            f"CREATE SUBSCRIPTION {there} CONNECTION 'host={publisher.socket} port={publisher.port} user=postgres dbname={here}' "
            f"PUBLICATION models WITH (create_slot = false, slot_name = '{there}', binary = {form == 'binary'})".encode()
        )
        try:
            arrive(db, copy, there)
            check(copy, before)
            after = change(db, 2)
            db.execute("SELECT modelstore.delete_model('m1:child', cascade => true)")
            db.execute("SELECT modelstore.delete_metrics(session_id) FROM store.training_sessions ORDER BY created_at LIMIT 1")
            db.execute("SELECT modelstore.prune_checkpoints('m1:1', keep_last => 1, dry_run => false)")
            release(db, ingest(db, b"gone again" * 1000))
            db.execute("SELECT modelstore.atoms_gc()")
            db.execute("SELECT modelstore.gc()")
            arrive(db, copy, there)
            check(copy, after)
            assert row_counts(copy) == row_counts(db)
            for table in tables(db):
                digest = f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM store.{table} t".encode()
                assert copy.execute(digest).fetchone() == db.execute(digest).fetchone(), table
            # It is a store like any other.
            copy.execute("REFRESH MATERIALIZED VIEW store.atom_spatial_summary")
            assert copy.execute("SELECT count(*) FROM modelstore.verify_atoms()").fetchone() == (0,)
        finally:
            copy.execute(f"DROP SUBSCRIPTION {there}".encode())


def change(db: psycopg.Connection, number: int) -> dict[str, bytes]:
    """Models, a difference, checkpoints, metrics and atoms; the files of the models by name and version."""
    first = {"w": random_tensor(number, 700, 512), "b": random_tensor(number + 10, 512)}
    second = {**first, "w": first["w"] + (random_tensor(number + 20, 700, 512) * 1e-5).astype("float32")}
    files = {"1": safetensors_bytes(first), "child": safetensors_bytes(second)}
    parent = import_model(db, files["1"], f"m{number}").model_id
    db.execute("SELECT modelstore.import_safetensors(%s, 'child', %b::bytea, parent => %s)", (f"m{number}", files["child"], parent))
    db.execute("SELECT modelstore.add_file(%s, 'config.json', '{\"hidden_size\": 512}'::bytea)", (parent,))
    db.execute("SELECT modelstore.set_alias(%s, 'production')", (parent,))
    run = start(db, parent)
    db.execute("SELECT modelstore.log_metrics(%s, %s, '{\"loss\": 1.5, \"lr\": 0.1}')", (run, number))
    for step in (1, 2, 3):
        checkpoint(db, parent, safetensors_bytes({**first, "w": first["w"] * step}), step, run)
    ingest(db, b"some content " * 20_000)
    ingest(db, f"small {number}".encode())
    db.execute("SELECT modelstore.append_upload(modelstore.begin_upload(), %b)", (files["1"][:1000],))
    return {f"m{number}:{version}": data for version, data in files.items()}


def arrive(db: psycopg.Connection, copy: psycopg.Connection, slot: str) -> None:
    """Waits until the subscriber has everything that was committed."""
    waiting = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'"
    wait_until(lambda: copy.execute(waiting).fetchone() == (0,), "the tables are copied", 120)
    (position,) = db.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    flushed = "SELECT coalesce(confirmed_flush_lsn >= %s::pg_lsn, false) FROM pg_replication_slots WHERE slot_name = %s"
    wait_until(lambda: db.execute(flushed, (position, slot)).fetchone() == (True,), "the changes have arrived", 120)


def check(copy: psycopg.Connection, models: dict[str, bytes]) -> None:
    """Of models that are on the subscriber."""
    assert problems(copy) == []
    for label, data in models.items():
        assert exported_sha256(copy, label) == hashlib.sha256(data).hexdigest()

