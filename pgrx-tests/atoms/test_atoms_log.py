"""The log: jobs and their meta, and the queue of ingests that run later."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from atoms import check_references, large_object, log_rows, reconstruct
from psycopg.rows import namedtuple_row
from transfer import refusal

pytestmark = pytest.mark.any_server

JOB = uuid.UUID("5c9bbd4e-70c1-4f3c-9df0-95ca1b0e6a42")


def queue(db: psycopg.Connection, data: int, *more) -> uuid.UUID:
    places = ", ".join(["%s::oid", *["%s"] * len(more)])
    return db.execute(f"SELECT modelstore.queue_ingest({places})", (data, *more)).fetchone()[0]


def run(db: psycopg.Connection, *arguments) -> list:
    with db.cursor(row_factory=namedtuple_row) as cursor:
        places = ", ".join(["%s", "%s::uuid"][: len(arguments)])
        return cursor.execute(f"SELECT * FROM modelstore.run_queued_ingests({places})", arguments).fetchall()


def test_a_job_of_several_runs(db) -> None:
    about = "source_uri => %s, batch_id => %s, meta => %s"
    for call in ("ingest('x'::bytea", "ingest_text('y'::text", "ingest_many('{a,b}'::bytea[]", f"ingest_large_object({large_object(db, b'z')}"):
        db.execute(f"SELECT * FROM modelstore.{call}, {about})", (call, JOB, '{"by": "hand"}')).fetchall()
    db.execute("SELECT modelstore.ingest('alone'::bytea)")
    *job, alone = log_rows(db)
    assert [(row.batch_id, row.meta, row.status, row.large_object) for row in job] == [(JOB, {"by": "hand"}, "completed", None)] * 4
    assert (alone.batch_id, alone.meta) == (None, None)
    failed = db.execute("SELECT status FROM modelstore.ingest_large_object(1::oid, batch_id => %s)", (JOB,)).fetchone()
    assert failed == ("failed",)
    assert [row.status for row in log_rows(db) if row.batch_id == JOB].count("failed") == 1


def test_a_queue_is_run_in_its_order(db) -> None:
    contents = [b"first", b"second" * 10_000, b"third"]
    objects = [large_object(db, data) for data in contents]
    ids = [queue(db, number, modality, f"file {number}", JOB, "[1]") for number, modality in zip(objects, ("text", "other", "code"))]
    waiting = log_rows(db)
    assert [(row.ingestion_id, row.status, row.large_object, row.ended_at, row.h_xy) for row in waiting] == [(i, "pending", n, None, None) for i, n in zip(ids, objects)]
    assert run(db, 0) == []
    (first,) = run(db, 1)
    assert (first.ingestion_id, first.status) == (ids[0], "completed")
    rest = run(db)
    assert [row.ingestion_id for row in rest] == ids[1:]
    assert [reconstruct(db, row) for row in (first, *rest)] == contents
    done = {row.ingestion_id: row for row in log_rows(db)}
    assert [(done[i].status, done[i].source_uri, done[i].batch_id, done[i].meta) for i in ids] == [("completed", f"file {n}", JOB, [1]) for n in objects]
    assert all(done[row.ingestion_id].started_at > row.started_at for row in waiting), "they started after they were queued"
    assert [done[i].modality for i in ids] == [0, 7, 5]
    assert run(db) == []
    check_references(db)


def test_one_job_of_the_queue(db) -> None:
    number, other = large_object(db, b"data"), uuid.uuid4()
    ids = [queue(db, number, "other", None, job) for job in (JOB, other, None, other)]
    assert [row.ingestion_id for row in run(db, None, other)] == [ids[1], ids[3]]
    assert [row.ingestion_id for row in run(db, 5, None)] == [ids[0], ids[2]]


def test_a_failure_does_not_stop_the_queue(db) -> None:
    number = large_object(db, b"data")
    ids = [queue(db, n) for n in (4_000_000_000, number)]
    rows = run(db)
    assert [(row.ingestion_id, row.status) for row in rows] == [(ids[0], "failed"), (ids[1], "completed")]
    assert rows[0].error == "large object 4000000000 does not exist"
    assert run(db) == [], "what failed is not tried again"


def test_sessions_share_a_queue(db, connect) -> None:
    number = large_object(db, b"data")
    ids = [queue(db, number, "other", f"file {n}") for n in range(4)]
    one, two = connect(), connect()
    one.execute("BEGIN")
    assert [row.ingestion_id for row in run(one, 2)] == ids[:2]
    two.execute("SET lock_timeout = '10s'")
    two.execute("BEGIN")
    # Its content is the same, whose row the other session holds: so nothing is ingested here but what waits for nobody.
    assert two.execute("SELECT ingestion_id FROM store.ingestion_log WHERE status = 'pending' ORDER BY started_at FOR UPDATE SKIP LOCKED LIMIT 1").fetchone() == (ids[2],)
    two.execute("ROLLBACK")
    one.execute("ROLLBACK")
    assert [row.ingestion_id for row in run(two)] == ids, "what was rolled back is pending again"


def test_the_queue_is_found_by_an_index(db) -> None:
    db.execute("SET enable_seqscan = off")
    plan = "EXPLAIN (COSTS off) SELECT * FROM store.ingestion_log WHERE status = 'pending' ORDER BY started_at LIMIT 1"
    assert "ingestion_log_status_started_at_idx" in str(db.execute(plan).fetchall())


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("queue_ingest(NULL::oid)", "22004"),
        ("queue_ingest(1::oid, NULL)", "22004"),
        ("queue_ingest(1::oid, 'poem')", "22023"),
        ("run_queued_ingests(-1)", "22023"),
    ],
)
def test_what_is_refused(call: str, sqlstate: str, db) -> None:
    assert refusal(db, f"SELECT modelstore.{call}").sqlstate == sqlstate
    assert log_rows(db) == []
