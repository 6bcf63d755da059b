"""Who sees which atoms and may do what with them: row-level security and privileges."""

from __future__ import annotations

import random
import uuid

import psycopg
import pytest
from atoms import reconstruct
from harness import wait_until
from observe import aside, is_blocked
from test_atoms_concurrency import Key, ingest, release, rows

COMMON = "the same line in both\nand another one that both have\n\n"
HERS, HIS = COMMON + "only she has this line, in her document\n", COMMON + "only he has this other line, in his\n"
BLOB = random.Random(4).randbytes(200_000)
GRANTS = """
    GRANT USAGE ON SCHEMA store TO {0};
    GRANT SELECT, INSERT, UPDATE, DELETE ON store.atoms TO {0};
    GRANT SELECT, INSERT, DELETE ON store.atom_parts, store.atom_chunks TO {0};
    GRANT SELECT, INSERT, UPDATE ON store.ingestion_log TO {0};
    GRANT SELECT, INSERT, UPDATE ON store.tensor_chunks TO {0};
"""
"""What a role needs to ingest, release and atoms_gc(): none of them may be missing, and nothing on partitions.
UPDATE on tensor_chunks is for the locks on chunks (FOR KEY SHARE)."""
EVERYWHERE = "'{0,0,0,0}'", "'{268435455,268435455,268435455,268435455}'"


@pytest.fixture
def role(db):
    """role(): makes a role that may log in, and returns its name."""
    made = []

    def make(grants: str = GRANTS) -> str:
        name = f"atoms_{uuid.uuid4().hex[:8]}"
        db.execute(f"CREATE ROLE {name} LOGIN")
        made.append(name)
        if grants:
            db.execute(grants.format(name))
        return name

    yield make
    for name in made:
        db.execute(f"DROP OWNED BY {name} CASCADE")
        db.execute(f"DROP ROLE {name}")


@pytest.fixture
def alice(connect, role) -> psycopg.Connection:
    return connect(user=role())


@pytest.fixture
def bob(connect, role) -> psycopg.Connection:
    return connect(user=role())


@pytest.fixture
def secured(db) -> psycopg.Connection:
    assert db.execute("SELECT modelstore.secure_atoms()").fetchone() == (True,)
    return db


def publish(db: psycopg.Connection, key: Key) -> None:
    db.execute("""SELECT modelstore.set_atom_meta((%s, %s, %s), '{"visibility": "public"}')""", key)


def state_of(db: psycopg.Connection, sql: str, arguments: tuple = ()) -> str | None:
    """The SQLSTATE of a statement's error."""
    try:
        db.execute(sql, arguments)
    except psycopg.Error as e:
        return e.sqlstate
    return None


def owned(db: psycopg.Connection, owner: psycopg.Connection | None = None) -> set[Key]:
    """The atoms of a role, or all, as the owner of the tables sees them."""
    sql = "SELECT h_xy, h_yz, h_zm FROM store.atoms WHERE coalesce(created_by = %s, true)"
    return set(db.execute(sql, (owner and owner.info.user,)).fetchall())


def seen(db: psycopg.Connection) -> dict[str, set[Key]]:
    """The atoms that each way to look for them finds."""
    points = [[random.Random(n).randrange(1 << 28) for _ in range(4)] for n in range(1000)]
    some = db.execute("SELECT * FROM modelstore.atom_key('text', 1, 2, 3, 4)").fetchone()
    ways = {
        "table": ("SELECT h_xy, h_yz, h_zm FROM store.atoms", ()),
        "nearest atom, text": ("SELECT h_xy, h_yz, h_zm FROM modelstore.nearest((%s, %s, %s), 10000)", some),
        "nearest atom, other": ("SELECT h_xy, h_yz, h_zm FROM modelstore.nearest((%s, %s, %s), 10000, 'other')", some),
        "nearest point": ("SELECT h_xy, h_yz, h_zm FROM modelstore.nearest('{1,2,3,4}'::int[], 10000)", ()),
        "nearest points": ("SELECT DISTINCT h_xy, h_yz, h_zm FROM modelstore.nearest(%s::int[], 300)", (points,)),
        "within_box": (f"SELECT * FROM modelstore.within_box({EVERYWHERE[0]}, {EVERYWHERE[1]})", ()),
        "within_radius": ("SELECT * FROM modelstore.within_radius('{5,5,5,5}', 5.4e8)", ()),
    }
    found = {way: set(db.execute(sql, arguments).fetchall()) for way, (sql, arguments) in ways.items()}
    found["nearest atom, text"] |= found.pop("nearest atom, other")
    return found


# Row-level security


def test_each_role_sees_its_own(secured, alice, bob) -> None:
    hers = {ingest(alice, HERS): HERS.encode(), ingest(alice, BLOB): BLOB}
    mine = {ingest(bob, HIS): HIS.encode(), ingest(bob, BLOB): BLOB}
    assert not hers.keys() & mine.keys()
    check_owners(secured)
    for session, own, other in ((alice, hers, mine), (bob, mine, hers)):
        for way, atoms in seen(session).items():
            assert atoms == owned(secured, session), way
        for key, content in own.items():
            assert reconstruct(session, key) == content
        for key in other:
            for function in ("reconstruct", "reconstruct_parts", "release"):
                assert state_of(session, f"SELECT modelstore.{function}((%s, %s, %s))", key) == "42704", function
            assert state_of(session, "SELECT modelstore.set_atom_meta((%s, %s, %s), '{}')", key) == "42704"
            path = "SELECT * FROM modelstore.find_path((%s, %s, %s), (%s, %s, %s))"
            assert state_of(session, path, (*next(iter(own)), *key)) == "42704"
            assert state_of(session, path, (*key, *next(iter(own)))) == "42704"
        for table, count in (("ingestion_log", 2), ("atom_chunks", None), ("atom_parts", None)):
            (visible,) = session.execute(f"SELECT count(*) FROM store.{table}").fetchone()
            (there,) = secured.execute(f"SELECT count(*) FROM store.{table}").fetchone()
            assert visible == (count or there / 2) or table == "atom_parts" and 0 < visible < there, table
    # The owner of the tables sees everything.
    assert seen(secured)["within_box"] == owned(secured, alice) | owned(secured, bob)
    # Switched off, everybody does.
    assert secured.execute("SELECT modelstore.secure_atoms(false)").fetchone() == (False,)
    assert reconstruct(bob, next(iter(hers))) == HERS.encode()
    assert seen(bob)["nearest points"] == owned(secured)


def check_owners(db: psycopg.Connection) -> None:
    """Nobody's composite has somebody else's private part; no part is without its composite, no chunk without its leaf."""
    crossing = """
        SELECT count(*) FROM store.atom_parts x
        LEFT JOIN store.atoms p ON (p.h_xy, p.h_yz, p.h_zm) = (x.parent_h_xy, x.parent_h_yz, x.parent_h_zm)
        LEFT JOIN store.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (x.h_xy, x.h_yz, x.h_zm)
        WHERE p IS NULL OR a IS NULL OR a.created_by <> p.created_by AND a.meta IS NULL"""
    assert db.execute(crossing).fetchone() == (0,), "parts"
    leaves = "SELECT count(*) FROM store.atom_chunks c LEFT JOIN store.atoms a USING (h_xy, h_yz, h_zm) WHERE a.h_xy IS NULL"
    assert db.execute(leaves).fetchone() == (0,), "chunks"


def test_no_path_leads_through_atoms_of_others(secured, alice, bob) -> None:
    one, other = "first line of one\n", "second line of another\n"
    start, end = ingest(bob, one), ingest(bob, other)
    sql = "SELECT h_xy, h_yz, h_zm FROM modelstore.find_path((%s, %s, %s), (%s, %s, %s), 20, 'hops', '{composition}')"
    document = ingest(alice, one + other + "\nmore of hers\n")
    assert bob.execute(sql, (*start, *end)).fetchall() == []
    publish(alice, document)
    assert bob.execute(sql, (*start, *end)).fetchall() == []
    ingest(bob, one + other)
    assert len(bob.execute(sql, (*start, *end)).fetchall()) == 3
    path = bob.execute(sql.replace("'{composition}'", "'{composition,neighbour}'"), (*start, *end)).fetchall()
    assert set(path) <= owned(secured, bob) | owned(secured, alice)


def test_roles_that_were_not_kept_apart_cannot_be_secured(db, alice, bob) -> None:
    ingest(bob, "a line\n")
    ingest(alice, "a line\nand one more\n")
    assert state_of(db, "SELECT modelstore.secure_atoms()") == "55000"
    assert owned(bob) == owned(db)


def test_public_content_is_read_by_everybody_and_changed_by_one(secured, alice, bob) -> None:
    word = ingest(alice, b"public")
    publish(alice, word)
    assert reconstruct(bob, word) == b"public"
    his = ingest(bob, b"public")
    assert his != word
    count = "SELECT ref_count, created_by FROM store.atoms ORDER BY created_by = %s"
    assert secured.execute(count, (bob.info.user,)).fetchall() == [(1, alice.info.user), (1, bob.info.user)]
    assert state_of(bob, "SELECT modelstore.release((%s, %s, %s))", word) == "42501"
    assert state_of(bob, "UPDATE store.atoms SET ref_count = 7 WHERE value = 'public'") is None
    assert secured.execute(count, (bob.info.user,)).fetchall() == [(1, alice.info.user), (7, bob.info.user)]


@pytest.mark.parametrize("content", [HERS, BLOB], ids=["document", "blob"])
def test_a_public_composite_can_be_read_until_it_is_hidden(content: str | bytes, secured, alice, bob) -> None:
    key = ingest(alice, content)
    publish(alice, key)
    assert reconstruct(bob, key) == (content.encode() if isinstance(content, str) else content)
    assert set(bob.execute("SELECT h_xy, h_yz, h_zm FROM store.atoms").fetchall()) == owned(secured, alice)
    changes = "SELECT DISTINCT version, updated_by FROM store.atoms"
    assert secured.execute(changes).fetchall() == [(2, alice.info.user)]
    alice.execute("SELECT modelstore.set_atom_meta((%s, %s, %s), NULL)", key)
    assert secured.execute(changes).fetchall() == [(3, alice.info.user)]
    assert bob.execute("SELECT count(*) FROM store.atoms").fetchone() == (0,)
    assert bob.execute("SELECT count(*) FROM store.atom_parts").fetchone() == (0,)


def test_what_another_public_atom_is_made_of_stays_public(secured, alice, bob) -> None:
    one, other = ingest(alice, HERS), ingest(alice, COMMON + "the last line is another\n")
    publish(alice, one)
    publish(alice, other)
    alice.execute("SELECT modelstore.set_atom_meta((%s, %s, %s), NULL)", one)
    assert reconstruct(bob, other) == (COMMON + "the last line is another\n").encode()
    assert state_of(bob, "SELECT modelstore.reconstruct((%s, %s, %s))", one) == "42704"
    assert bob.execute("SELECT count(*) FROM store.atoms WHERE value = 'only she has this line, in her document\n'").fetchone() == (0,)


def test_other_meta_of_a_document_leaves_its_public_line_alone(secured, alice, bob) -> None:
    document, line = ingest(alice, HERS), ingest(alice, "the same line in both\n")
    publish(alice, line)
    alice.execute("""SELECT modelstore.set_atom_meta((%s, %s, %s), '{"title": "hers"}')""", document)
    assert reconstruct(bob, line) == b"the same line in both\n"


@pytest.mark.parametrize("content", [HERS, BLOB], ids=["document", "blob"])
def test_a_public_composite_is_taken_in_as_a_copy(content: str | bytes, secured, alice, bob) -> None:
    key = ingest(alice, content)
    publish(alice, key)
    before = secured.execute("SELECT h_xy, h_yz, h_zm, ref_count FROM store.atoms ORDER BY 1, 2, 3").fetchall()
    his = ingest(bob, content)
    assert his != key and ingest(bob, content) == his
    check_owners(secured)
    assert len(owned(secured, bob)) == len(owned(secured, alice))
    hers = "SELECT h_xy, h_yz, h_zm, ref_count FROM store.atoms WHERE created_by = %s ORDER BY 1, 2, 3"
    assert secured.execute(hers, (alice.info.user,)).fetchall() == before
    # She hides it, gives it up and has it collected: his is his.
    alice.execute("SELECT modelstore.set_atom_meta((%s, %s, %s), NULL)", key)
    release(alice, key)
    secured.execute("SELECT modelstore.atoms_gc()")
    secured.execute("SELECT modelstore.gc()")
    assert reconstruct(bob, his) == (content.encode() if isinstance(content, str) else content)
    assert ingest(bob, content) == his
    for _ in range(3):
        release(bob, his)
    secured.execute("SELECT modelstore.atoms_gc()")
    secured.execute("SELECT modelstore.gc()")
    assert rows(secured) == {}


def test_collecting_is_for_who_sees_everything(secured, alice, bob) -> None:
    secured.execute(f"GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA store TO {bob.info.user}")
    key = ingest(alice, BLOB)
    release(bob, ingest(bob, HIS))
    for call in ("atoms_gc()", "gc()", "gc(true)"):
        assert state_of(bob, f"SELECT * FROM modelstore.{call}") == "42501", call
    assert secured.execute("SELECT atoms FROM modelstore.atoms_gc()").fetchone()[0] > 0
    secured.execute("SELECT modelstore.gc()")
    assert owned(secured, bob) == set()
    assert reconstruct(alice, key) == BLOB


def test_nobody_releases_what_others_hold(secured, alice, bob) -> None:
    """A line of her document is public by itself: it is not his to give up."""
    document = ingest(alice, HERS)
    line = ingest(alice, "the same line in both\n")
    count = "SELECT ref_count FROM store.atoms WHERE (h_xy, h_yz, h_zm) = (%s, %s, %s)"
    assert secured.execute(count, line).fetchone() == (2,), "it is not a part of the document"
    publish(alice, line)
    for _ in range(2):
        assert state_of(bob, "SELECT modelstore.release((%s, %s, %s))", line) == "42501"
    assert secured.execute(count, line).fetchone() == (2,)
    secured.execute("SELECT modelstore.atoms_gc()")
    assert reconstruct(alice, document) == HERS.encode()
    release(alice, line)
    assert state_of(alice, "SELECT modelstore.release((%s, %s, %s))", line) == "55000"


def test_nobody_changes_meta_of_others(secured, alice, bob) -> None:
    key = ingest(alice, b"public")
    publish(alice, key)
    sql = """SELECT modelstore.set_atom_meta((%s, %s, %s), '{"visibility": "public", "title": "mine"}')"""
    assert state_of(bob, sql, key) in ("42501", "42704")
    assert secured.execute("SELECT meta, version FROM store.atoms").fetchone() == ({"visibility": "public"}, 2)


def test_a_private_copy_is_found_again_when_the_other_is_given_up(secured, alice, bob) -> None:
    hers = ingest(alice, b"secret")
    his = ingest(bob, b"secret")
    assert his != hers
    release(alice, hers)
    # His lies where it does because of hers, which stays as long.
    assert secured.execute("SELECT atoms FROM modelstore.atoms_gc()").fetchone() == (0,)
    assert ingest(bob, b"secret") == his
    release(bob, his)
    release(bob, his)
    assert secured.execute("SELECT atoms FROM modelstore.atoms_gc()").fetchone() == (2,)


def test_the_same_private_content_at_once(secured, alice, bob) -> None:
    alice.execute("BEGIN")
    hers = ingest(alice, HERS)
    running = aside(bob, "SELECT h_xy, h_yz, h_zm, status FROM modelstore.ingest(%s::text)", (HERS,))
    wait_until(lambda: is_blocked(secured, bob.info.backend_pid), "the second waits")
    alice.execute("COMMIT")
    assert running.join().error is None
    assert running.rows[0][3] == "completed" and running.rows[0][:3] != hers
    assert reconstruct(bob, running.rows[0][:3]) == HERS.encode()
    check_owners(secured)
    assert len(owned(secured, alice)) == len(owned(secured, bob))


# Privileges

FUNCTIONS = {
    "ingest('x'::text)": "w", "ingest('x'::bytea)": "w", "ingest_many('{{x}}'::bytea[])": "w",
    "reconstruct({k})": "r", "reconstruct_parts({k})": "r", "nearest({k})": "r", "nearest('{{1,2,3,4}}'::int[])": "r",
    "nearest(array_fill(1, '{{1000,4}}'))": "r", "within_box('{{0,0,0,0}}', '{{9,9,9,9}}')": "r",
    "within_radius('{{0,0,0,0}}', 5)": "r", "find_path({k}, {k})": "r", "release({k})": "w",
    "verify_atoms()": "r", "set_atom_meta({k}, '{{}}')": "w", "atoms_gc()": "w", "secure_atoms()": "o", "secure_atoms(false)": "o",
    "refresh_spatial_summary()": "o",
}  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
def test_privileges_on_tables_decide(function: str, db, connect, role) -> None:
    """None, the schema, reading, reading and writing: each level may so much and no more."""
    key = ingest(db, "one line\nand two\n")
    sql = f"SELECT * FROM modelstore.{function}".format(k=f"({key[0]}, {key[1]}, {key[2]})")
    read = "GRANT USAGE ON SCHEMA store TO {0}; GRANT SELECT ON ALL TABLES IN SCHEMA store TO {0}"
    levels = ("", "GRANT USAGE ON SCHEMA store TO {0}", read, GRANTS)
    states = [state_of(connect(user=role(grants)), sql) for grants in levels]
    allowed = {"r": 2, "w": 3, "o": 4}[FUNCTIONS[function]]
    assert states == ["42501"] * allowed + [None] * (4 - allowed)


GRANT_LINES = [(p, t) for t, all_ in {
    "atoms": "SELECT INSERT UPDATE DELETE", "atom_parts": "SELECT INSERT DELETE", "atom_chunks": "SELECT INSERT DELETE",
    "ingestion_log": "SELECT INSERT UPDATE", "tensor_chunks": "SELECT INSERT UPDATE",
}.items() for p in all_.split()]  # fmt: skip


def test_each_of_the_grants_is_necessary(db, connect, role) -> None:
    name = role()
    c = connect(user=name)

    def everything() -> set[str | None]:
        states: set[str | None] = set()
        c.execute("BEGIN")
        try:
            for data, modality in ((BLOB, "other"), (BLOB[:100_000], "image"), (b"x", "other")):
                row = c.execute(
                    "SELECT h_xy, h_yz, h_zm, status, error FROM modelstore.ingest(%b::bytea, %s)", (data, modality)
                ).fetchone()
                assert row[3] == "completed" or "permission denied" in row[4]
                states.add("42501" if row[3] != "completed" else None)
                if row[3] == "completed":
                    reconstruct(c, row[:3])
                    release(c, row[:3])
            c.execute("SELECT modelstore.atoms_gc()")
        except psycopg.errors.InsufficientPrivilege as e:
            states.add(e.sqlstate)
        c.execute("ROLLBACK")
        return states

    db.execute("INSERT INTO store.ingestion_log (ingestion_id, modality, status) VALUES (gen_random_uuid(), 0, 'failed')")
    ingest(db, BLOB[:100_000])
    assert everything() == {None}
    for privilege, table in GRANT_LINES:
        db.execute(f"REVOKE {privilege} ON store.{table} FROM {name}")
        assert "42501" in everything(), (privilege, table)
        db.execute(f"GRANT {privilege} ON store.{table} TO {name}")
    assert everything() == {None}


def test_the_log_of_a_run_without_privileges(db, connect, role) -> None:
    """What fails after the log has begun is a row of it, and leaves nothing else."""
    c = connect(user=role("GRANT USAGE ON SCHEMA store TO {0}; GRANT INSERT, SELECT, UPDATE ON store.ingestion_log TO {0}"))
    row = c.execute("SELECT status, error FROM modelstore.ingest('x'::text)").fetchone()
    assert row == ("failed", "permission denied for table atoms")
    assert db.execute("SELECT status, error FROM store.ingestion_log").fetchall() == [row]
    assert rows(db) == {}
