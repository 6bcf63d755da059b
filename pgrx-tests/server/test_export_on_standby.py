"""Exports on a hot standby while the primary removes what nobody uses: one that is cancelled is finished by from_byte, and with
hot_standby_feedback none is cancelled."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator

import pg_modelstore
import psycopg
import pytest
from harness import Server, wait_until
from models import MIB, random_tensor, safetensors_bytes
from once import Once
from transfer import import_model

pytestmark = [pytest.mark.versioned, pytest.mark.slow]

# What waits for replay is in the log at once.
CONF = {"max_standby_streaming_delay": "0", "log_recovery_conflict_waits": "on", "deadlock_timeout": "10ms"}
CONFLICTS = "SELECT confl_snapshot FROM pg_stat_database_conflicts WHERE datname = %s"


@pytest.fixture(scope="module")
def standby(server: Server) -> Iterator[Server]:
    with server.standby() as standby:
        with standby.connect(autocommit=True) as c:
            for name, value in CONF.items():
                c.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            c.execute("SELECT pg_reload_conf()")
        yield standby


@pytest.fixture
def data(db) -> bytes:
    """The file of model:1, 45 MB: more than lies in buffers between server and client. gone:1 is there as well."""
    file = safetensors_bytes({f"layer.{i}.weight": random_tensor(i, 1100, 512) for i in range(20)})
    import_model(db, file)
    import_model(db, safetensors_bytes({"w": random_tensor(100, 1024, 1024)}), "gone")
    return file


def collect(db: psycopg.Connection) -> None:
    """Removes the rows of a model on the primary for good: a snapshot from before still sees them."""
    db.execute("SELECT modelstore.delete_model('gone')")
    assert db.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (1,)
    db.execute("VACUUM store.tensor_chunks, store.tensor_metadata, store.tensor_data")


def conflict(db: psycopg.Connection, standby: Server) -> None:
    """Returns once replay waits for an export."""
    mark = standby.log_size()
    collect(db)
    wait_until(lambda: "recovery still waiting" in standby.log_since(mark), "replay is in conflict with the export")


def receive(there: psycopg.Connection, out: io.BytesIO, after_first_part=lambda: None) -> None:
    """An export by COPY into a file, from where that ends."""
    query = f"COPY (SELECT modelstore.export_safetensors('model:1', from_byte => {out.tell()})) TO STDOUT (FORMAT binary)"
    with there.cursor() as cursor, cursor.copy(query.encode()) as copy:
        copy.set_types(["bytea"])
        for (part,) in copy.rows():
            if out.tell() == 0:
                after_first_part()
            out.write(part)


IDENTITY = "SELECT model_id, sha256, manifest_hash FROM store.model_files JOIN store.models USING (model_id) WHERE model_name = 'model'"


def test_a_cancelled_export_is_finished(server: Server, standby: Server, dbname: str, db, data: bytes) -> None:
    server.catch_up(standby)
    with standby.connect(dbname, autocommit=True) as there:
        before = there.execute(IDENTITY).fetchone()
        out = io.BytesIO()
        with pytest.raises(psycopg.errors.SerializationFailure, match="conflict with recovery"):
            receive(there, out, lambda: conflict(db, standby))
        received = out.tell()
        assert 0 < received < len(data)
        server.catch_up(standby)
        # The same model: nothing of it changes once it is complete.
        assert there.execute(IDENTITY).fetchone() == before
        receive(there, out)
        assert out.getvalue() == data
        assert there.execute("SELECT count(*) FROM store.models").fetchone() == (1,)


def test_the_python_client_finishes_a_cancelled_pull(server: Server, standby: Server, dbname: str, db, data: bytes, tmp_path: pathlib.Path) -> None:
    server.catch_up(standby)
    progress = Once(4 * MIB, lambda: conflict(db, standby))
    with pg_modelstore.connect(f"host={standby.socket} port={standby.port} dbname={dbname} user=postgres") as client:
        (path,) = client.models.pull("model:1", tmp_path, progress=progress)
    with standby.connect() as there:
        there.autocommit = True
        wait_until(lambda: there.execute(CONFLICTS, (dbname,)).fetchone() == (1,), "the cancelled statement is counted")
    assert path.read_bytes() == data
    assert progress.seen == sorted(progress.seen) and progress.action is None


def test_no_export_is_cancelled_with_feedback(server: Server, standby: Server, dbname: str, db, data: bytes) -> None:
    with standby.connect(autocommit=True) as c:
        c.execute("ALTER SYSTEM SET hot_standby_feedback = on")
        c.execute("SELECT pg_reload_conf()")

    def known() -> bool:
        return db.execute("SELECT count(backend_xmin) FROM pg_stat_replication").fetchone() == (1,)

    def collected() -> None:
        collect(db)
        server.catch_up(standby)

    server.catch_up(standby)
    wait_until(known, "the primary knows what the standby reads")
    try:
        with standby.connect(dbname, autocommit=True) as there:
            out = io.BytesIO()
            receive(there, out, collected)
            assert out.getvalue() == data
    finally:
        with standby.connect(autocommit=True) as c:
            c.execute("ALTER SYSTEM RESET hot_standby_feedback")
            c.execute("SELECT pg_reload_conf()")
