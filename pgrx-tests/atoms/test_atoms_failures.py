"""Failed runs, invalid calls and tampered stores raise an error each time and never return wrong bytes."""

from __future__ import annotations

import random

import psycopg
import pytest
from atoms import (
    Held,
    as_key,
    atom_key,
    check_references,
    ingest,
    ingest_many,
    key_of,
    large_object,
    log_rows,
    reconstruct,
    reconstruct_parts,
    sizes,
    wait_for_ingest,
)
from observe import aside
from transfer import refusal


NOTHING = {"atoms": 0, "atom_parts": 0, "atom_chunks": 0}
TEXT = "".join(f"line {i} of a text, which is {i * i % 9973}\n" for i in range(5000)).encode()
NOISE = random.Random(1).randbytes(400_000)


@pytest.fixture
def warnings(db) -> list[tuple[str, str]]:
    """What the server has told the client."""
    told: list[tuple[str, str]] = []
    db.add_notice_handler(lambda diag: told.append((diag.severity_nonlocalized, diag.message_primary)))
    return told


def refuse(db, what: str, when: str = "INSERT", rows: str = "true") -> None:
    """Makes a table of the store refuse rows."""
    db.execute("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'refused by %', TG_TABLE_NAME; END$$")
    db.execute(f"CREATE TRIGGER refuse BEFORE {when} ON store.{what} FOR EACH ROW WHEN ({rows}) EXECUTE FUNCTION refuse()")


def assert_failed(row, error: str) -> None:
    assert row.status == "failed" and error in row.error
    assert (row.h_xy, row.h_yz, row.h_zm, row.byte_length, row.created, row.updated, row.skipped) == (None, None, None, None, 0, 0, 0)


def assert_logged(row, log) -> None:
    assert (log.ingestion_id, log.status, log.error) == (row.ingestion_id, "failed", row.error)
    assert (log.h_xy, log.source_hash, log.atoms_created) == (None, None, None) or log.atoms_created == 0
    assert log.ended_at is not None


def test_a_large_object_that_is_not_there(db, warnings) -> None:
    for number in (0, 4_000_000_000):
        assert_failed(ingest(db, number, uri="nowhere"), f"large object {number} does not exist")
    assert [log.status for log in log_rows(db)] == ["failed", "failed"]
    assert {log.source_uri for log in log_rows(db)} == {"nowhere"}
    assert warnings == [("WARNING", f"ingest failed: large object {n} does not exist") for n in (0, 4_000_000_000)]
    assert sizes(db) == NOTHING


def test_a_large_object_of_somebody_else(db, connect) -> None:
    number = large_object(db, b"secret")
    db.execute("DROP ROLE IF EXISTS stranger_of_atoms")
    db.execute("CREATE ROLE stranger_of_atoms LOGIN")
    db.execute("GRANT USAGE ON SCHEMA store TO stranger_of_atoms")
    db.execute("GRANT ALL ON ALL TABLES IN SCHEMA store TO stranger_of_atoms")
    assert_failed(ingest(connect(user="stranger_of_atoms"), number), "permission denied for large object")
    assert sizes(db) == NOTHING
    db.execute("DROP OWNED BY stranger_of_atoms; DROP ROLE stranger_of_atoms")


@pytest.mark.parametrize("table", ["atoms", "atom_parts", "atom_chunks"])
def test_a_table_that_refuses(table: str, db, warnings) -> None:
    refuse(db, table)
    row = ingest(db, NOISE, uri="a file")
    assert_failed(row, "refused by ")
    assert warnings == [("WARNING", f"ingest failed: {row.error}")]
    assert sizes(db) == NOTHING
    (log,) = log_rows(db)
    assert_logged(row, log)
    # ingest_many has no rows to say it with.
    assert ingest_many(db, [NOISE, b"more"], uri="two") == []
    assert [log.status for log in log_rows(db)] == ["failed"] * 2 and len(warnings) == 2
    assert sizes(db) == NOTHING
    db.execute(f"DROP TRIGGER refuse ON store.{table}")
    held = Held()
    assert reconstruct(db, ingest(db, NOISE, held=held)) == NOISE
    check_references(db, held)


def test_a_check_that_does_not_hold(db, warnings) -> None:
    db.execute("ALTER TABLE store.atoms ADD CONSTRAINT short CHECK (byte_length < 50000)")
    row = ingest(db, TEXT, "text")
    assert_failed(row, 'violates check constraint "short"')
    assert_logged(row, log_rows(db)[0])
    assert sizes(db) == NOTHING and len(warnings) == 1
    assert ingest(db, TEXT[:40_000], "text").status == "completed"


def test_references_that_cannot_be_counted(db) -> None:
    held = Held()
    ingest(db, TEXT, "text", held=held)
    before, counts = sizes(db), db.execute("SELECT sum(ref_count), count(*) FROM store.atoms").fetchone()
    refuse(db, "atoms", "UPDATE")
    assert_failed(ingest(db, TEXT + b"more\n", "text"), "refused by atoms")
    assert (sizes(db), db.execute("SELECT sum(ref_count), count(*) FROM store.atoms").fetchone()) == (before, counts)
    check_references(db, held)


def test_in_a_transaction_of_the_user(db, warnings) -> None:
    held = Held()
    refuse(db, "atom_chunks", rows="NEW.h_xy >> 56 = 7")
    with db.transaction():
        db.execute("CREATE TABLE mine AS SELECT 1 AS one")
        first = ingest(db, TEXT, "text", held=held)
        with db.transaction():
            failed = ingest(db, NOISE)
        second = ingest(db, TEXT[1000:], "text", held=held)
        assert_failed(failed, "refused by atom_chunks")
        db.execute("INSERT INTO mine VALUES (2)")
    assert db.execute("SELECT array_agg(one ORDER BY one) FROM mine").fetchone() == ([1, 2],)
    assert (reconstruct(db, first), reconstruct(db, second)) == (TEXT, TEXT[1000:])
    assert [log.status for log in log_rows(db)] == ["completed", "failed", "completed"]
    assert [kind for kind, _ in warnings] == ["WARNING"]
    count = check_references(db, held)

    with db.transaction() as transaction:
        ingest(db, TEXT * 2, "text")
        ingest(db, NOISE)
        raise psycopg.Rollback(transaction)
    assert check_references(db, held) == count and len(log_rows(db)) == 3


def test_many_failures_in_one_statement(db, warnings) -> None:
    """Subtransactions that end badly leave nothing behind: no lock, no pin, no memory context."""
    rows = db.execute("SELECT i.status FROM generate_series(1, 300) n, modelstore.ingest_large_object((n % 2 * 4000000000)::oid) i").fetchall()
    assert rows == [("failed",)] * 300
    assert len(log_rows(db)) == 300 and {m for _, m in warnings} == {f"ingest failed: large object {n} does not exist" for n in (0, 4_000_000_000)}
    assert sizes(db) == NOTHING


@pytest.mark.alone
@pytest.mark.parametrize("fraction", [0.1, 0.6, None], ids=["begun", "half way", "written"])
def test_a_cancel_leaves_nothing(fraction: float | None, db, connect) -> None:
    big = large_object(db, random.Random(2).randbytes(32 << 20))
    watcher, pid = connect(), db.info.backend_pid

    def cancelled() -> None:
        running = aside(db, "SELECT * FROM modelstore.ingest_large_object(%s::oid)", (big,))
        wait_for_ingest(watcher, pid, fraction)
        watcher.execute("SELECT pg_cancel_backend(%s)", (pid,))
        raise running.join().error or AssertionError("it was not cancelled")

    with pytest.raises(psycopg.errors.QueryCanceled):
        cancelled()
    assert log_rows(db) == [] and sizes(db) == NOTHING
    with db.transaction():
        kept = ingest(db, TEXT, "text")
        with pytest.raises(psycopg.errors.QueryCanceled), db.transaction():
            cancelled()
    assert reconstruct(db, kept) == TEXT
    assert [log.status for log in log_rows(db)] == ["completed"]
    check_references(db, Held({key_of(kept): 1}))


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("ingest(NULL::bytea)", "22004"),
        ("ingest_text(NULL::text)", "22004"),
        ("ingest_large_object(NULL)", "22004"),
        ("ingest(1)", "42883"),
        ("secure_atoms(NULL)", "22004"),
        ("gc(NULL)", "22004"),
        ("ingest('a'::bytea, NULL)", "22004"),
        ("ingest('a'::bytea, 'picture')", "22023"),
        ("ingest('a'::bytea, 'Text')", "22023"),
        ("ingest('a'::bytea, '')", "22023"),
        ("ingest_large_object(0, 'sound')", "22023"),
        ("ingest_many(NULL)", "22004"),
        ("ingest_many(ARRAY['a', NULL]::bytea[])", "22004"),
        ("ingest_many(ARRAY[NULL]::bytea[])", "22004"),
        ("ingest_many(ARRAY['a']::bytea[], NULL)", "22004"),
        ("ingest_many(ARRAY['a']::bytea[], 'none')", "22023"),
        ("reconstruct(NULL)", "22004"),
        ("reconstruct((NULL, 1, 1))", "22004"),
        ("reconstruct((1, NULL, 1))", "22004"),
        ("reconstruct((1, 1, NULL))", "22004"),
        ("reconstruct((NULL, NULL, NULL))", "22004"),
        ("reconstruct((1, 2, 3))", "22023"),
        ("reconstruct((-1, 0, 0))", "22023"),
        ("reconstruct((8::bigint << 56, 0, 0))", "22023"),
        ("reconstruct((0, 1::bigint << 56, 0))", "22023"),
        ("reconstruct((0, 0, 0))", "42704"),
        ("reconstruct((0, 0))", "42846"),
        ("reconstruct('abc')", "22P02"),
        ("reconstruct_parts(NULL)", "22004"),
        ("reconstruct_parts((1, 2, 3))", "22023"),
        ("reconstruct_parts((0, 0, 0))", "42704"),
        ("release(NULL)", "22004"),
        ("release((0, 0, 0))", "42704"),
        ("release((1, 2, 3))", "22023"),
        ("set_atom_meta((0, 0, 0), '{}')", "42704"),
        ("set_atom_meta(NULL, '{}')", "22004"),
    ],
)
def test_careless_calls(call: str, sqlstate: str, db) -> None:
    assert refusal(db, f"SELECT * FROM modelstore.{call}").sqlstate == sqlstate
    assert log_rows(db) == [] and sizes(db) == NOTHING


def test_released_more_often_than_taken_in(db) -> None:
    row = ingest(db, TEXT, "text")
    release = "SELECT modelstore.release((%s, %s, %s))"
    assert db.execute(release, key_of(row)).fetchone() == (0,)
    assert refusal(db, release, *key_of(row)).sqlstate == "55000"
    part = db.execute("SELECT h_xy, h_yz, h_zm FROM store.atom_parts LIMIT 1").fetchone()
    assert refusal(db, release, *part).sqlstate == "55000"
    assert reconstruct(db, row) == TEXT


@pytest.fixture
def damaged(db):
    """A store with a text and bytes in it, and with their keys and contents."""
    rows = {as_key(ingest(db, data, modality)): data for modality, data in (("text", TEXT), ("other", NOISE), ("code", b"short\n"))}
    return db, rows


DAMAGE = {
    "value": "UPDATE store.atoms SET value = set_byte(value, 0, get_byte(value, 0) # 1) WHERE {key} IN (SELECT h_xy, h_yz, h_zm FROM store.atoms WHERE octet_length(value) > 5 ORDER BY hashint8(h_zm + {n}) LIMIT 1)",
    "leaf gone": "DELETE FROM store.atoms WHERE {key} IN (SELECT h_xy, h_yz, h_zm FROM store.atoms WHERE value IS NOT NULL ORDER BY hashint8(h_zm + {n}) LIMIT 1)",
    "part gone": "DELETE FROM store.atom_parts WHERE (h_zm, part_index) IN (SELECT h_zm, part_index FROM store.atom_parts ORDER BY hashint8(h_zm + {n}) LIMIT 1)",
    "parts gone": "DELETE FROM store.atom_parts WHERE parent_h_zm IN (SELECT parent_h_zm FROM store.atom_parts ORDER BY hashint8(h_zm + {n}) LIMIT 1)",
    "part twice": """INSERT INTO store.atom_parts SELECT parent_h_xy, parent_h_yz, parent_h_zm, 1000, h_xy, h_yz, h_zm FROM store.atom_parts ORDER BY hashint8(h_zm + {n}) LIMIT 1""",
    "parts swapped": """WITH one AS (SELECT p.ctid FROM store.atom_parts p WHERE part_index = 1 ORDER BY hashint8(h_zm + {n}) LIMIT 1)
        UPDATE store.atom_parts SET part_index = -1 + 2 * 1000 FROM one WHERE atom_parts.ctid = one.ctid""",
    "chunk of another": """UPDATE store.atom_chunks SET chunk = (SELECT chunk FROM store.atom_chunks ORDER BY hashint8(h_zm + {n}) DESC LIMIT 1)
        WHERE h_zm = (SELECT h_zm FROM store.atom_chunks ORDER BY hashint8(h_zm + {n}) LIMIT 1)""",
    "chunk forgotten": "DELETE FROM store.atom_chunks WHERE h_zm = (SELECT h_zm FROM store.atom_chunks ORDER BY hashint8(h_zm + {n}) LIMIT 1)",
    "hash": "UPDATE store.atoms SET content_hash = set_byte(content_hash, 31, get_byte(content_hash, 31) # 1) WHERE value IS NULL AND byte_length > 100000",
    "length": "UPDATE store.atoms SET byte_length = byte_length + {n} - 2 WHERE value IS NULL AND byte_length > 100000",
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found(what: str, damaged) -> None:
    """One row is changed, another each time: what comes back is the content or an error."""
    db, rows = damaged
    for n in (0, 1, 3, 4, 5, 6):
        with db.transaction() as transaction:
            assert db.execute(DAMAGE[what].format(key="(h_xy, h_yz, h_zm)", n=n), prepare=False).rowcount > 0
            for read in (reconstruct, lambda db, key: b"".join(reconstruct_parts(db, key))):
                found = set()
                for key, data in rows.items():
                    try:
                        with db.transaction():
                            assert read(db, key) == data, f"{what}: other bytes"
                    except psycopg.Error as error:
                        found.add(error.sqlstate)
                gone = {"42704"} if what in ("leaf gone", "parts gone", "chunk forgotten") else set()
                assert found and found <= {"XX001"} | gone, (n, found)
            raise psycopg.Rollback(transaction)
    assert all(reconstruct(db, key) == data for key, data in rows.items())


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE store.atoms SET ref_count = ref_count + 1 WHERE h_zm = (SELECT min(h_zm) FROM store.atom_parts)",
        "UPDATE store.atoms SET value = set_byte(value, 0, 0) WHERE h_zm = (SELECT min(h_zm) FROM store.atoms WHERE octet_length(value) > 5)",
        "UPDATE store.atoms SET byte_length = byte_length + 1 WHERE value IS NULL",
        "UPDATE store.atoms SET content_hash = sha256(content_hash) WHERE value IS NULL",
        "DELETE FROM store.atom_parts WHERE part_index = 1",
        "DELETE FROM store.atom_chunks WHERE h_zm = (SELECT min(h_zm) FROM store.atom_chunks)",
        "DELETE FROM store.atoms WHERE h_zm = (SELECT min(h_zm) FROM store.atom_parts)",
    ],
)
def test_the_check_of_these_tests_can_fail(damage: str, damaged) -> None:
    db, rows = damaged
    held = Held(rows.keys())
    check_references(db, held)
    db.execute(damage)
    with pytest.raises(AssertionError):
        check_references(db, held)


@pytest.mark.parametrize("place", ["front", "middle", "end"])
def test_a_bit_in_a_chunk(place: str, damaged) -> None:
    db, rows = damaged
    chunks = db.execute("SELECT h_zm, chunk::text FROM store.atom_chunks WHERE h_xy >> 56 = 7 ORDER BY 1 LIMIT 5").fetchall()
    for h_zm, text in chunks:
        raw = bytearray.fromhex(text.removeprefix("\\x"))
        raw[{"front": 30, "middle": len(raw) // 2, "end": len(raw) - 1}[place]] ^= 8
        with db.transaction() as transaction:
            db.execute("UPDATE store.atom_chunks SET chunk = %s::text::modelstore.tensor_chunk WHERE h_zm = %s", ("\\x" + raw.hex(), h_zm))
            key = next(key for key, data in rows.items() if data == NOISE)
            diag = refusal(db, "SELECT modelstore.reconstruct((%s, %s, %s))", *key)
            assert diag.sqlstate == "XX001" and str(h_zm) in diag.message_primary and "verify_atoms" in diag.message_hint
            raise psycopg.Rollback(transaction)


@pytest.mark.parametrize("index", [0, 1, 1000])
def test_an_atom_inside_itself(index: int, damaged) -> None:
    """A loop is damage as well: it ends, in an error, and not with the memory of the server."""
    db, rows = damaged
    root = next(key for key, data in rows.items() if data == TEXT)
    db.execute("DELETE FROM store.atom_parts WHERE (parent_h_xy, parent_h_yz, parent_h_zm, part_index) = (%s, %s, %s, %s)", (*root, index))
    db.execute("INSERT INTO store.atom_parts VALUES (%s, %s, %s, %s, %s, %s, %s)", (*root, index, *root))
    db.execute("SET statement_timeout = '5s'")
    assert refusal(db, "SELECT modelstore.reconstruct((%s, %s, %s))", *root).sqlstate == "XX001"
    assert refusal(db, "SELECT modelstore.reconstruct_parts((%s, %s, %s))", *root).sqlstate == "XX001"


def test_a_part_whose_key_is_none(damaged) -> None:
    db, rows = damaged
    root = next(key for key, data in rows.items() if data == TEXT)
    db.execute("UPDATE store.atom_parts SET h_yz = h_yz # 255, h_xy = h_xy # 65535 WHERE (parent_h_xy, parent_h_yz, parent_h_zm) = (%s, %s, %s) AND part_index = 0", root)
    assert refusal(db, "SELECT modelstore.reconstruct((%s, %s, %s))", *root).sqlstate in ("XX001", "42704")


def test_a_length_that_no_value_has(damaged) -> None:
    """A root that claims a petabyte: an error at once."""
    db, rows = damaged
    root = next(key for key, data in rows.items() if data == TEXT)
    db.execute("UPDATE store.atoms SET byte_length = 1::bigint << 50 WHERE (h_xy, h_yz, h_zm) = (%s, %s, %s)", root)
    assert refusal(db, "SELECT modelstore.reconstruct((%s, %s, %s))", *root).sqlstate in ("54000", "XX001")
    assert refusal(db, "SELECT modelstore.reconstruct_parts((%s, %s, %s))", *root).sqlstate == "XX001"
    assert atom_key(db, "text", 0, 0, 0, 0) == (0, 0, 0)
