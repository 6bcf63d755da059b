"""verify_atoms() reports each kind of damage, names the atom, and reports nothing for intact atoms."""

from __future__ import annotations

import pathlib
import random

import numpy as np
import pytest
from atoms import Connection, ingest, ingest_many, key_of
from atom_grants import APART, GRANTS
from transfer import refusal

# A long line begins a leaf and ends one: the lines between them are leaves in their rows.
TEXT = "".join(f"line number {n}, which is longer than a word\n" for n in range(400))
TEXT += "".join(f"{'ab'[n % 2]} line\n{'x' * (9000 + n)}\n" for n in range(16))
BLOB = random.Random(5).randbytes(300_000)


def found(db: Connection) -> list[tuple]:
    return db.execute("SELECT h_xy, h_yz, h_zm, problem FROM modelstore.verify_atoms()").fetchall()


@pytest.fixture
def filled(db) -> Connection:
    """A text, a blob with large leaves, leaves that were probed for, and something taken in, released and collected."""
    assert ingest(db, TEXT, "text").status == "completed"
    assert ingest(db, BLOB).status == "completed"
    assert len(ingest_many(db, [bytes([n]) for n in range(200)])) == 200
    key = key_of(ingest(db, BLOB[::-1]))
    db.execute("SELECT modelstore.release((%s, %s, %s))", key)
    db.execute("SELECT modelstore.atoms_gc()")
    return db


@pytest.mark.any_server
def test_nothing_is_wrong(filled) -> None:
    assert found(filled) == []
    root = pathlib.Path(__file__).resolve().parents[2]
    for path in sorted((root / "src" / "atom").glob("*.rs")):
        assert ingest(filled, path.read_bytes(), "code").status == "completed"
    assert ingest(filled, np.arange(99_999, dtype="<f4").tobytes(), "tensor").status == "completed"
    assert ingest(filled, b"").status == "completed"
    assert found(filled) == []


@pytest.mark.any_server
def test_an_empty_store(db) -> None:
    assert found(db) == []


LEAF = "(SELECT h_xy, h_yz, h_zm FROM store.atoms WHERE value = E'a line\\n')"
COMPOSITE = "(SELECT h_xy, h_yz, h_zm FROM store.atoms WHERE byte_length = 300000)"
OTHER_CHUNK = "(SELECT h_xy, h_yz, h_zm FROM store.atom_chunks ORDER BY modelstore.raw_size(chunk) DESC LIMIT 1)"
LINES = "(SELECT c.h_xy, c.h_yz, c.h_zm FROM store.atom_chunks c JOIN store.atoms a USING (h_xy, h_yz, h_zm) WHERE a.line_ends > 9 LIMIT 1)"
CHUNK = "(SELECT h_xy, h_yz, h_zm FROM store.atom_chunks WHERE h_xy >> 56 = 7 ORDER BY 1, 2, 3 LIMIT 1)"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (f"UPDATE store.atoms SET value = 'b line\n' WHERE (h_xy, h_yz, h_zm) = {LEAF}", "value does not match its BLAKE3 hash"),
        (f"UPDATE store.atoms SET content_hash = sha256('x') WHERE (h_xy, h_yz, h_zm) = {COMPOSITE}", "place is not that of the hash"),
        (f"UPDATE store.atoms SET byte_length = 299999 WHERE (h_xy, h_yz, h_zm) = {COMPOSITE}", "atom has 299999 bytes, its parts 300000"),
        (f"UPDATE store.atoms SET ref_count = 3 WHERE (h_xy, h_yz, h_zm) = {LEAF}", "atom has 3 references, and "),
        (f"DELETE FROM store.atoms WHERE (h_xy, h_yz, h_zm) = {LEAF}", "parts of the atom do not exist"),
        (f"DELETE FROM store.atoms WHERE (h_xy, h_yz, h_zm) = {COMPOSITE}", "parts of an atom that does not exist"),
        (f"DELETE FROM store.atom_parts WHERE (parent_h_xy, parent_h_yz, parent_h_zm) = {COMPOSITE}", "atom has neither a value nor parts nor a chunk"),
        (f"DELETE FROM store.atom_parts WHERE (parent_h_xy, parent_h_yz, parent_h_zm) = {COMPOSITE} AND part_index = 0", "parts, the last is number"),
        (f"DELETE FROM store.atom_chunks WHERE (h_xy, h_yz, h_zm) = {CHUNK}", "atom has neither a value nor parts nor a chunk"),
        (f"DELETE FROM store.atoms WHERE (h_xy, h_yz, h_zm) = {CHUNK}", "chunk of an atom that does not exist"),
        (
            f"UPDATE store.atom_chunks SET chunk = (SELECT chunk FROM store.atom_chunks ORDER BY modelstore.raw_size(chunk) LIMIT 1) WHERE (h_xy, h_yz, h_zm) = {OTHER_CHUNK}",
            "bytes, its chunk ",
        ),
        (
            f"""UPDATE store.atom_chunks c SET chunk = f.chunk FROM (
                    SELECT h_xy, h_yz, h_zm, overlay(chunk::text placing '0123456789' from 200)::modelstore.tensor_chunk AS chunk FROM store.atom_chunks) f
                WHERE (c.h_xy, c.h_yz, c.h_zm) = (f.h_xy, f.h_yz, f.h_zm) AND (c.h_xy, c.h_yz, c.h_zm) = {CHUNK}""",
            "is corrupted",
        ),
        (f"UPDATE store.atom_chunks SET is_public = true WHERE (h_xy, h_yz, h_zm) = {CHUNK}", "chunk is shown to other roles than the atom"),
        (f"UPDATE store.atom_chunks SET created_by = 'other' WHERE (h_xy, h_yz, h_zm) = {CHUNK}", "chunk is shown to other roles than the atom"),
        (f"UPDATE store.atom_parts SET is_public = true WHERE (parent_h_xy, parent_h_yz, parent_h_zm) = {COMPOSITE}", "parts are shown to other roles than the atom"),
        (f"UPDATE store.atom_parts SET created_by = 'other' WHERE (parent_h_xy, parent_h_yz, parent_h_zm) = {COMPOSITE}", "parts are shown to other roles than the atom"),
        (f"UPDATE store.atoms SET is_public = true WHERE (h_xy, h_yz, h_zm) = {LEAF}", "atom is public, and its meta says otherwise"),
        (f"""UPDATE store.atoms SET meta = '{{"visibility": "public"}}' WHERE (h_xy, h_yz, h_zm) = {LEAF}""", "atom is not public, and its meta says otherwise"),
        (f"UPDATE store.atoms SET probe = 1 WHERE (h_xy, h_yz, h_zm) = {LEAF}", "place is not that of the hash"),
        (f"INSERT INTO store.atom_chunks (h_xy, h_yz, h_zm, chunk) SELECT l.*, (SELECT chunk FROM store.atom_chunks LIMIT 1) FROM {LEAF} l", "atom has a value and a chunk"),
        (f"INSERT INTO store.atom_chunks (h_xy, h_yz, h_zm, chunk) SELECT l.*, (SELECT chunk FROM store.atom_chunks LIMIT 1) FROM {COMPOSITE} l", "atom has a chunk and parts"),
        (f"UPDATE store.atoms SET line_ends = 2 WHERE (h_xy, h_yz, h_zm) = {LEAF}", " line ends, its parts "),
        (f"UPDATE store.atoms SET line_ends = 2 WHERE (h_xy, h_yz, h_zm) = {LEAF}", "does not match its hash or its line ends"),
        (f"UPDATE store.atoms SET line_ends = line_ends + 1 WHERE (h_xy, h_yz, h_zm) = {LINES}", "is corrupted: it does not have "),
        (f"UPDATE store.atoms SET line_ends = NULL WHERE (h_xy, h_yz, h_zm) = {LEAF}", "atom of modality 0 has no number of line ends"),
        (f"UPDATE store.atoms SET line_ends = 0 WHERE (h_xy, h_yz, h_zm) = {COMPOSITE}", "atom of modality 7 has a number of line ends"),
        (
            f"INSERT INTO store.atom_meta_versions (h_xy, h_yz, h_zm, version, meta, updated_at, updated_by, created_by) SELECT l.*, 1, '1', now(), 'x', 'other' FROM {LEAF} l",
            "meta is shown to another role than the atom",
        ),
        (
            "INSERT INTO store.atom_meta_versions (h_xy, h_yz, h_zm, version, meta, updated_at, updated_by) VALUES (0, 0, 0, 1, '1', now(), 'x')",
            "meta of an atom that does not exist",
        ),
        # Two lines of the same length change places: only the whole tells.
        (
            """CREATE TEMP TABLE swapped AS
                   SELECT p.parent_h_xy a, p.parent_h_yz b, p.parent_h_zm c, min(part_index) FILTER (WHERE x.value = E'a line\\n') i,
                          min(part_index) FILTER (WHERE x.value = E'b line\\n') j
                   FROM store.atom_parts p JOIN store.atoms x USING (h_xy, h_yz, h_zm) GROUP BY 1, 2, 3 HAVING count(DISTINCT x.value) = 2 LIMIT 1;
               UPDATE store.atom_parts p SET part_index = 1000000 + CASE part_index WHEN i THEN j ELSE i END
               FROM swapped WHERE (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm) = (a, b, c) AND p.part_index IN (i, j);
               UPDATE store.atom_parts SET part_index = part_index - 1000000 WHERE part_index >= 1000000""",
            "are not its content",
        ),
        # Moved by hand, row and references.
        (
            f"""CREATE TEMP TABLE w AS SELECT * FROM {LEAF} l;
                UPDATE store.atoms a SET h_xy = k.h_xy, h_yz = k.h_yz, h_zm = k.h_zm FROM w, modelstore.atom_key('text', 1, 2, 3, 4) k
                WHERE (a.h_xy, a.h_yz, a.h_zm) = (w.h_xy, w.h_yz, w.h_zm);
                UPDATE store.atom_parts p SET h_xy = k.h_xy, h_yz = k.h_yz, h_zm = k.h_zm FROM w, modelstore.atom_key('text', 1, 2, 3, 4) k
                WHERE (p.h_xy, p.h_yz, p.h_zm) = (w.h_xy, w.h_yz, w.h_zm)""",
            "place is not that of the value",
        ),
    ],
)
def test_each_kind_of_damage_is_found(damage: str, problem: str, filled) -> None:
    before = filled.execute("SELECT count(*) FROM store.atoms").fetchone()
    with filled.transaction(force_rollback=True):
        filled.execute(damage)
        problems = found(filled)
        assert any(problem in text for *_, text in problems), problems
        assert problems == sorted(problems)
    assert filled.execute("SELECT count(*) FROM store.atoms").fetchone() == before
    assert found(filled) == []


def test_who_may_verify(filled, connect, role) -> None:  # noqa: F811
    assert refusal(connect(user=role("")), "SELECT * FROM modelstore.verify_atoms()").sqlstate == "42501"
    reader = connect(user=role(GRANTS))
    assert found(reader) == []
    filled.execute(f"UPDATE store.atoms SET content_hash = sha256('x') WHERE (h_xy, h_yz, h_zm) = {COMPOSITE}")
    # Whether an atom lies where its hash says, only who may read the salts can tell.
    damage = found(filled)
    assert found(reader) == [problem for problem in damage if "place" not in problem[-1]] != []
    # Kept apart, a role is told of its own.
    filled.execute("SELECT modelstore.secure_atoms()")
    assert found(reader) == []
    filled.execute(APART.format(reader.info.user))
    assert ingest(reader, TEXT, "text").status == "completed"
    assert found(reader) == []
    # Where its atoms lie is its secret; who sees all secrets can tell a wrong place.
    assert found(filled) == damage
    filled.execute("UPDATE store.atom_salts SET salt = gen_random_uuid()")
    moved = [problem for problem in found(filled) if problem not in damage]
    assert {text for *_, text in moved} == {"place is not that of the hash"}
    assert found(reader) == moved
