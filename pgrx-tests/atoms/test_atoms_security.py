"""Row-level security and privileges of atoms: which role sees and changes which rows."""

from __future__ import annotations

import random

import psycopg
import pytest
from atoms import blake3, m_of, reconstruct
from atom_grants import APART, GRANTS
from atoms_held import Key, ingest, release, rows

pytestmark = pytest.mark.versioned

# A long line begins a leaf and ends one: the lines between them are leaves of their own.
LONG = "x" * 9000 + "\n"
COMMON = f"the same line in both\n{LONG}and another one that both have\n{LONG}"
HERS, HIS = COMMON + "only she has this line, in her document\n", COMMON + "only he has this other line, in his\n"
BLOB = random.Random(4).randbytes(200_000)
EVERYWHERE = "'{0,0,0,0}'", "'{268435455,268435455,268435455,268435455}'"


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
        "nearest point": ("SELECT h_xy, h_yz, h_zm FROM modelstore.nearest_points('{1,2,3,4}'::int[], 10000)", ()),
        "nearest points": ("SELECT DISTINCT h_xy, h_yz, h_zm FROM modelstore.nearest_points(%s::int[], 300)", (points,)),
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
    document = ingest(alice, one + LONG + other + LONG + "more of hers\n")
    assert bob.execute(sql, (*start, *end)).fetchall() == []
    publish(alice, document)
    assert bob.execute(sql, (*start, *end)).fetchall() == []
    ingest(bob, one + LONG + other)
    assert len(bob.execute(sql, (*start, *end)).fetchall()) == 3
    path = bob.execute(sql.replace("'{composition}'", "'{composition,neighbour}'"), (*start, *end)).fetchall()
    assert set(path) <= owned(secured, bob) | owned(secured, alice)


def test_roles_that_were_not_kept_apart_cannot_be_secured(db, alice, bob) -> None:
    ingest(bob, "a line\n")
    ingest(alice, "a line\n" + LONG + "and one more\n")
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
    assert state_of(bob, "SELECT * FROM modelstore.atoms_gc()") == "42501"
    assert secured.execute("SELECT * FROM modelstore.gc()").fetchone() == (0, 0, 0, 0, 0)
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
    assert secured.execute("SELECT atoms FROM modelstore.atoms_gc()").fetchone() == (1,)
    assert ingest(bob, b"secret") == his
    release(bob, his)
    release(bob, his)
    assert secured.execute("SELECT atoms FROM modelstore.atoms_gc()").fetchone() == (1,)


def test_the_same_private_content_at_once(secured, alice, bob) -> None:
    alice.execute("BEGIN")
    hers = ingest(alice, HERS)
    # Not even a wait tells what another role takes in.
    bob.execute("SET lock_timeout = '10s'")
    his = ingest(bob, HERS)
    alice.execute("COMMIT")
    assert his != hers
    assert reconstruct(bob, his) == HERS.encode()
    check_owners(secured)
    assert len(owned(secured, alice)) == len(owned(secured, bob))


# Every way in


def partitions_with_rows(db: psycopg.Connection) -> list[str]:
    return [p for (p,) in db.execute("SELECT DISTINCT tableoid::regclass::text FROM store.atoms ORDER BY 1")]


@pytest.mark.parametrize("granted", ["before", "after"])
def test_a_reader_with_all_tables_sees_nothing_of_others(granted: str, db, alice, bob, connect, role) -> None:
    """README's GRANT SELECT ON ALL TABLES: rows of partitions, bytes of leaves, parts, the log, secrets, statistics."""
    grant = "GRANT USAGE ON SCHEMA store TO {0}; GRANT SELECT ON ALL TABLES IN SCHEMA store TO {0}"
    reader = connect(user=role(grant if granted == "before" else ""))
    ingest(alice, HERS)
    ingest(alice, BLOB)
    db.execute("SELECT modelstore.refresh_spatial_summary()")
    db.execute("SELECT modelstore.secure_atoms()")
    ingest(alice, HERS + "more of hers\n")
    ingest(alice, BLOB[::-1])
    public = ingest(alice, b"for everybody")
    alice.execute("""SELECT modelstore.set_atom_meta((%s, %s, %s), '{"note": "only she has this line"}')""", public)
    publish(alice, public)
    db.execute("SELECT modelstore.refresh_spatial_summary()")
    if granted == "after":
        db.execute(grant.format(reader.info.user))
    for table in ("atoms", "atom_parts", "atom_chunks", "atom_meta_versions", "ingestion_log", "atom_salts", *partitions_with_rows(db)):
        name = table if table.startswith("store.") else f"store.{table}"
        (there,) = db.execute(f"SELECT count(*) FROM {name}").fetchone()
        assert there > 0, table
        seen_of_it = reader.execute(f"SELECT * FROM {name}").fetchall()
        assert len(seen_of_it) == (table == "atoms"), table
    relations = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'store'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
    needle = "only she has this line"
    for (relation,) in db.execute(relations).fetchall():
        for (line,) in reader.execute(f"SELECT r::text FROM {relation} r").fetchall():
            assert needle not in line and needle.encode().hex() not in line, relation
    assert reader.execute("SELECT modality_name, atoms, byte_length FROM store.atom_spatial_summary").fetchall() == [("other", 1, 13)]
    assert reader.execute("SELECT count(*) FROM store.tensor_chunks").fetchone() == (0,)


def test_a_writer_to_a_partition_is_refused(secured, alice, bob) -> None:
    hers = ingest(alice, b"hers")
    (partition,) = partitions_with_rows(secured)
    secured.execute(f"GRANT ALL ON {partition} TO {bob.info.user}")
    assert bob.execute(f"UPDATE {partition} SET ref_count = 0").rowcount == 0
    assert bob.execute(f"DELETE FROM {partition}").rowcount == 0
    assert state_of(bob, f"INSERT INTO {partition} SELECT * FROM store.atoms") is None  # there are none that he sees
    assert reconstruct(alice, hers) == b"hers"


def test_no_policy_before_and_none_after(db) -> None:
    """A store that is not secured has none, and can be distributed; switching on twice is as once."""
    policies = "SELECT polrelid::regclass::text, polname, polcmd::text, pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY 1, 2"
    assert db.execute(policies).fetchall() == []
    db.execute("SELECT modelstore.secure_atoms()")
    on = db.execute(policies).fetchall()
    assert len(on) == 12 and not any("SELECT" in qualifier.upper() for *_, qualifier in on)
    db.execute("SELECT modelstore.secure_atoms()")
    assert db.execute(policies).fetchall() == on
    without = "SELECT count(*) FROM pg_class WHERE relname ~ '^atoms(_|$)' AND relkind IN ('r', 'p') AND relrowsecurity = %s"
    assert db.execute(without, (True,)).fetchone() == (257,)
    db.execute("SELECT modelstore.secure_atoms(false)")
    assert db.execute(without, (False,)).fetchone() == (257,)
    # Secrets stay secret for as long as atoms lie by them.
    assert {table for table, *_ in db.execute(policies).fetchall()} == {"store.atom_salts"}
    assert db.execute("SELECT relrowsecurity FROM pg_class WHERE oid = 'store.atom_salts'::regclass").fetchone() == (True,)


def test_a_partition_that_comes_later(secured, alice) -> None:
    """It would show its rows: nothing is taken in until it is secured as well."""
    ingest(alice, b"before")
    secured.execute(f"ALTER TABLE {partitions_with_rows(secured)[0]} DISABLE ROW LEVEL SECURITY")
    row = alice.execute("SELECT status, error FROM modelstore.ingest('after'::bytea)").fetchone()
    assert row[0] == "failed" and "has no row-level security" in row[1]
    secured.execute("SELECT modelstore.secure_atoms()")
    ingest(alice, b"after")


def place(db: psycopg.Connection, key: Key) -> tuple:
    return db.execute("SELECT * FROM modelstore.atom_point(%s, %s, %s)", key).fetchone()


def test_no_place_tells_what_others_have(secured, alice, bob) -> None:
    """Where an atom lies depends on the role and the content alone, whatever is there; knowing the content is not enough to
    find out that another role has it, also not by writing to where it would be."""
    contents = [bytes([n]) * 7 for n in range(40)]
    hers = [ingest(alice, data) for data in contents[:20]]
    his = [ingest(bob, data) for data in contents]
    assert not set(hers) & set(his)
    assert secured.execute("SELECT max(probe) FROM store.atoms").fetchone() == (0,)
    for one, other in zip(hers, his, strict=False):
        assert place(bob, one)[:4] == place(bob, other)[:4]
    # Not one of hers lies where the hash says, nor where his salt says.
    for data, key in zip(contents, hers, strict=False):
        modality, x, y, z, m = place(secured, key)
        assert m not in (m_of(blake3(data)), place(secured, his[contents.index(data)])[4])
    insert = """INSERT INTO store.atoms (h_xy, h_yz, h_zm, value, modality, content_hash, byte_length)
                SELECT k.*, 'x', 7, %s, 1 FROM modelstore.atom_key('other', %s, %s, %s, %s) k"""
    for data in contents[:20]:
        _, x, y, z, _ = place(secured, his[contents.index(data)])
        bob.execute(insert, (blake3(data), x, y, z, m_of(blake3(data))))
    created = "SELECT created FROM modelstore.ingest(%b::bytea)"
    assert [alice.execute(created, (data,)).fetchone() for data in (contents[0], contents[30])] == [(0,), (1,)]
    assert state_of(bob, "SELECT salt FROM store.atom_salts") is None
    assert bob.execute("SELECT created_by FROM store.atom_salts").fetchall() == [(bob.info.user,)]


def test_what_was_taken_in_before_is_found(db, alice) -> None:
    key = ingest(alice, HERS)
    db.execute("SELECT modelstore.secure_atoms()")
    assert ingest(alice, HERS) == key
    longer = ingest(alice, HERS + "and more of it\n")
    db.execute("SELECT modelstore.secure_atoms(false)")
    assert ingest(alice, HERS) == key
    assert reconstruct(alice, longer) == (HERS + "and more of it\n").encode()
    db.execute("SELECT modelstore.secure_atoms()")
    assert ingest(alice, HERS + "and more of it\n") == longer
    assert db.execute("SELECT * FROM modelstore.verify_atoms()").fetchall() == []


def test_rows_under_keys_of_others_change_nothing(secured, alice, bob) -> None:
    """He may write rows of his own; those that speak of her atoms are neither read, nor published, nor counted."""
    key, secret = ingest(alice, HERS), ingest(alice, "a secret line\n")
    publish(alice, key)
    parts = "SELECT count(*) FROM store.atom_parts WHERE (parent_h_xy, parent_h_yz, parent_h_zm) = (%s, %s, %s)"
    (count,) = secured.execute(parts, key).fetchone()
    plant = """INSERT INTO store.atom_parts (parent_h_xy, parent_h_yz, parent_h_zm, part_index, h_xy, h_yz, h_zm, is_public)
               VALUES (%s, %s, %s, %s, %s, %s, %s, true)"""
    own = ingest(bob, HIS)
    for number, (parent, part) in enumerate([(key, secret), (own, key), (own, secret)]):
        bob.execute(plant, (*parent, 1000 + number, *part))
    assert secured.execute(parts, key).fetchone() == (count + 1,)
    assert reconstruct(alice, key) == HERS.encode()
    alice.execute("SELECT modelstore.set_atom_meta((%s, %s, %s), NULL)", key)
    publish(alice, key)
    assert state_of(bob, "SELECT modelstore.reconstruct((%s, %s, %s))", secret) == "42704"
    assert state_of(bob, plant.replace("is_public)", "is_public, created_by)").replace("true)", "true, %s)"), (*key, 7, *own, alice.info.user)) == "42501"
    release(alice, secret)
    secret = ingest(alice, "a secret line\n")
    release(bob, own)
    secured.execute("SELECT modelstore.atoms_gc()")
    assert reconstruct(alice, key) == HERS.encode() and reconstruct(alice, secret) == b"a secret line\n"
    release(alice, key)
    release(alice, secret)
    secured.execute("SELECT modelstore.atoms_gc()")
    secured.execute("SELECT modelstore.atoms_gc()")
    assert owned(secured, alice) == set()


# Privileges

FUNCTIONS = {
    "ingest_text('x'::text)": "w", "ingest('x'::bytea)": "w", "ingest_many('{{x}}'::bytea[])": "w",
    "queue_ingest(1)": "w", "run_queued_ingests()": "w", "find_atom(sha256('x'))": "r", "find_content('x', 'text')": "r",
    "reconstruct_lines({k})": "r", "reconstruct_bytes({k}, 2, 3)": "r", "reconstruct({k})": "r", "reconstruct_parts({k})": "r", "nearest({k})": "r", "nearest_points('{{1,2,3,4}}'::int[])": "r",
    "nearest_points(array_fill(1, '{{1000,4}}'))": "r", "within_box('{{0,0,0,0}}', '{{9,9,9,9}}')": "r",
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
    levels = ("", "GRANT USAGE ON SCHEMA store TO {0}", read, GRANTS + APART)
    states = [state_of(connect(user=role(grants)), sql) for grants in levels]
    allowed = {"r": 2, "w": 3, "o": 4}[FUNCTIONS[function]]
    assert states == ["42501"] * allowed + [None] * (4 - allowed)


GRANT_LINES = [(p, t) for t, all_ in {
    "atoms": "SELECT INSERT UPDATE DELETE", "atom_parts": "SELECT INSERT DELETE", "atom_chunks": "SELECT INSERT DELETE",
    "ingestion_log": "SELECT INSERT UPDATE", "atom_meta_versions": "SELECT DELETE",
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
    row = c.execute("SELECT status, error FROM modelstore.ingest_text('x'::text)").fetchone()
    assert row == ("failed", "permission denied for table atoms")
    assert db.execute("SELECT status, error FROM store.ingestion_log").fetchall() == [row]
    assert rows(db) == {}


def test_earlier_meta_is_for_its_owner(secured, alice, bob) -> None:
    """Others see neither the meta that an atom had before it became public nor who set it, and add nothing to it."""
    key = ingest(alice, HERS)
    say = "SELECT modelstore.set_atom_meta((%s, %s, %s), %s)"
    versions = [alice.execute(say, (*key, meta)).fetchone()[0] for meta in ('{"a": 1}', '{"a": 2}', None, '{"visibility": "public"}', '{"b": 1}')]
    assert versions == [2, 3, 4, 5, 6]
    earlier = "SELECT version, meta, updated_by, created_by FROM store.atom_meta_versions ORDER BY version"
    name = alice.info.user
    kept = [(2, {"a": 1}, name, name), (3, {"a": 2}, name, name), (5, {"visibility": "public"}, name, name)]
    assert alice.execute(earlier).fetchall() == secured.execute(earlier).fetchall() == kept
    publish(alice, key)
    assert bob.execute(earlier).fetchall() == []
    assert state_of(bob, say, (*key, '{"mine": 1}')) == "42704"
    plant = "INSERT INTO store.atom_meta_versions (h_xy, h_yz, h_zm, version, meta, updated_at, updated_by, created_by) VALUES (%s, %s, %s, 9, '1', now(), 'x', %s)"
    assert state_of(bob, plant, (*key, name)) == "42501"
    assert secured.execute("SELECT * FROM modelstore.verify_atoms()").fetchall() == []
    # It goes with the atom.
    release(alice, key)
    secured.execute("SELECT modelstore.atoms_gc()")
    assert secured.execute(earlier).fetchall() == []


def test_a_content_is_found_by_who_sees_it(secured, alice, bob) -> None:
    by_hash = "SELECT * FROM modelstore.find_atom(%b)"
    by_content = "SELECT * FROM modelstore.find_content(%b, 'text')"
    key = ingest(alice, HERS)
    content = HERS.encode()
    assert alice.execute(by_hash, (blake3(content),)).fetchall() == alice.execute(by_content, (content,)).fetchall() == [key]
    for db in (bob, alice):
        assert db.execute(by_content, (b"something else",)).fetchall() == db.execute(by_hash, (blake3(b"x"),)).fetchall() == []
    assert bob.execute(by_hash, (blake3(content),)).fetchall() == bob.execute(by_content, (content,)).fetchall() == []
    publish(alice, key)
    assert bob.execute(by_hash, (blake3(content),)).fetchall() == bob.execute(by_content, (content,)).fetchall() == [key]
    # Of his own and a public one, his own.
    his = ingest(bob, HERS)
    assert his != key
    assert bob.execute(by_hash, (blake3(content),)).fetchall() == bob.execute(by_content, (content,)).fetchall() == [his]


def test_a_queue_is_of_its_role(secured, alice, bob) -> None:
    (data,) = alice.execute("SELECT lo_from_bytea(0, 'hers')").fetchone()
    alice.execute("SELECT modelstore.queue_ingest(%s::oid)", (data,))
    assert bob.execute("SELECT * FROM modelstore.run_queued_ingests()").fetchall() == []
    assert alice.execute("SELECT status FROM modelstore.run_queued_ingests()").fetchall() == [("completed",)]


def test_a_role_runs_what_it_has_queued_itself(db, connect, role) -> None:
    """Without policies, too: another role could have queued an object that it may not read, for a superuser to read it."""
    (data,) = db.execute("SELECT lo_from_bytea(0, 'a secret of the superuser')").fetchone()
    user = connect(user=role())
    user.execute("SELECT modelstore.queue_ingest(%s::oid)", (data,))
    assert db.execute("SELECT * FROM modelstore.run_queued_ingests()").fetchall() == []
    status, error = user.execute("SELECT status, error FROM modelstore.run_queued_ingests()").fetchone()
    assert status == "failed" and "permission denied" in error
