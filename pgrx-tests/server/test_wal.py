"""What recovery, standbys and backups live on: every change of a store is in WAL, in records that any PostgreSQL replays."""

from __future__ import annotations

import random

import psycopg
import pytest
from atoms import ingest
from checkpoints import checkpoint
from models import random_tensor, safetensors_bytes
from transfer import import_model

pytestmark = pytest.mark.versioned

CORE = {"Heap", "Heap2", "Btree", "XLOG", "Transaction", "MultiXact", "CLOG", "Standby", "Storage", "Sequence", "RelMap", "Database"}

# Pages in use of all tables and indexes, TOAST included, that no record of WAL has brought into being.
NOT_IN_WAL = """
    SELECT c.oid::regclass::text, block FROM pg_class c, generate_series(0, pg_relation_size(c.oid) / 8192 - 1) block,
           page_header(get_raw_page(c.oid::regclass::text, block)) page
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'i', 't', 'S') AND page.upper <> 0 AND page.lsn = '0/0'"""


@pytest.fixture
def begun(db) -> str:
    """Where the WAL of a store that is made, filled and emptied begins."""
    # A slot that goes with the session: until then no WAL is removed.
    (begin,) = db.execute("SELECT lsn FROM pg_create_physical_replication_slot('test_wal', true, true)").fetchone()
    db.execute("SELECT modelstore.drop_store('store')")
    db.execute("SELECT modelstore.create_store(modules => ARRAY['all'])")
    weights = safetensors_bytes({"w": random_tensor(1, 1200, 512), "b": random_tensor(2, 64)})
    model = import_model(db, weights).model_id
    checkpoint(db, model, safetensors_bytes({"w": random_tensor(3, 1200, 512), "b": random_tensor(4, 64)}), 1)
    assert ingest(db, "a line\nanother line\n" * 50, "text").status == "completed"
    assert ingest(db, random.Random(1).randbytes(300_000)).status == "completed"
    gone = import_model(db, safetensors_bytes({"gone": random_tensor(5, 300, 300)}), "gone").model_id
    db.execute("SELECT modelstore.delete_model(%s)", (gone,))
    assert db.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (1,)
    db.execute("CHECKPOINT")
    return begin


def contrib(db: psycopg.Connection, name: str) -> None:
    if not db.execute("SELECT 1 FROM pg_available_extensions WHERE name = %s", (name,)).fetchone():
        pytest.skip(f"this PostgreSQL comes without {name}")
    db.execute(f"CREATE EXTENSION {name}")


def test_every_page_is_in_wal(db, begun) -> None:
    contrib(db, "pageinspect")
    assert db.execute(NOT_IN_WAL).fetchall() == []
    # What is not in WAL is seen.
    db.execute("CREATE UNLOGGED TABLE unlogged AS SELECT 1")
    assert db.execute(NOT_IN_WAL).fetchall() == [("unlogged", 0)]


def test_records_are_of_core_alone(db, begun) -> None:
    contrib(db, "pg_walinspect")
    kinds = """SELECT resource_manager, count(*) FROM pg_get_wal_records_info(%s::pg_lsn, pg_current_wal_flush_lsn()) GROUP BY 1"""
    found = dict(db.execute(kinds, (begun,)).fetchall())
    assert found.keys() <= CORE
    assert found["Heap"] > 100 and found["Btree"] > 100
