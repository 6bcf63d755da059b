"""Atoms in and out, and the whole table of them computed again by somebody else's rules.

`check_references(db, held)` is the check that tests end with: every content hash with BLAKE3 written again below, every
reference count from the parts and from `held`, which is what the test took in and did not release; places, lengths,
and what lies about without an owner.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import psycopg
from blake3_reference import CHUNK_END, CHUNK_START, IV, ORDER, PARENT, QUARTERS, ROOT
from harness import wait_until
from observe import has_come
from psycopg.rows import namedtuple_row

Connection = psycopg.Connection[Any]
Held = collections.Counter
MODALITIES = ("text", "audio", "image", "video", "tensor", "code", "structured", "other")
TABLES = ("atoms", "atom_parts", "atom_chunks")
MASK28 = (1 << 28) - 1
LARGE = 32 << 20
"""Bytes of a large object that are written with one statement."""


class Key(NamedTuple):
    """The key of an atom. A parameter of three: `(%s, %s, %s)`."""

    h_xy: int
    h_yz: int
    h_zm: int


def ingest(db: Connection, data: bytes | str | int, modality: str = "other", uri: str | None = None, held: Held | None = None) -> Any:
    """Takes in bytes, text or the large object of that number; the row that ingest returns. `held` counts it."""
    call = {bytes: "ingest(%b::bytea", str: "ingest_text(%s::text", int: "ingest_large_object(%s::oid"}[type(data)]
    with db.cursor(row_factory=namedtuple_row) as cursor:
        row = cursor.execute(f"SELECT * FROM modelstore.{call}, %s, %s)", (data, modality, uri)).fetchone()
    if held is not None and row.status == "completed":
        held[key_of(row)] += 1
    return row


def ingest_many(db: Connection, contents: Sequence[bytes], modality: str = "other", uri: str | None = None, held: Held | None = None) -> list[Any]:
    """Takes in many; the rows that ingest_many returns."""
    with db.cursor(row_factory=namedtuple_row) as cursor:
        rows = cursor.execute("SELECT * FROM modelstore.ingest_many(%b::bytea[], %s, %s)", (list(contents), modality, uri)).fetchall()
    if held is not None:
        held.update(key_of(row) for row in rows)
    return rows


def key_of(row: Any) -> Key:
    """The key in a row with columns h_xy, h_yz, h_zm."""
    return Key(row.h_xy, row.h_yz, row.h_zm)


def as_key(key: Any) -> Key:
    """A key, from one, from three numbers or from a row."""
    return key_of(key) if hasattr(key, "h_xy") else Key(*key)


def reconstruct(db: Connection, key: Any) -> bytes:
    """The content of an atom, by reconstruct."""
    query = "SELECT modelstore.reconstruct((%s, %s, %s))"
    return db.execute(query, as_key(key), binary=True).fetchone()[0]


def reconstruct_parts(db: Connection, key: Any) -> list[bytes]:
    """Its content by reconstruct_parts, part by part."""
    return [part for (part,) in db.execute("SELECT modelstore.reconstruct_parts((%s, %s, %s))", as_key(key), binary=True)]


def large_object(db: Connection, data: bytes) -> int:
    """Makes a large object and returns its number."""
    (number,) = db.execute("SELECT lo_from_bytea(0, %b)", (data[:LARGE],)).fetchone()
    for at in range(LARGE, len(data), LARGE):
        db.execute("SELECT lo_put(%s::oid, %s, %b)", (number, at, data[at : at + LARGE]))
    return number


def wait_for_ingest(db: Connection, pid: int, fraction: float | None) -> None:
    """Waits until an ingest has at least taken this fraction of its source apart; None: until it has written 8 MiB of large leaves."""
    size = "SELECT pg_total_relation_size('store.atom_chunks')"
    (before,) = db.execute(size).fetchone()
    end = before + (8 << 20 if fraction is None else 1)
    far = functools.partial(has_come, db, pid, fraction) if fraction is not None else bool
    wait_until(lambda: far() or db.execute(size).fetchone()[0] >= end, f"the ingest is at {fraction}")


def sizes(db: Connection) -> dict[str, int]:
    """Rows of the tables that an ingest writes, but the log."""
    return {table: db.execute(f"SELECT count(*) FROM store.{table}").fetchone()[0] for table in TABLES}


def atom_row(db: Connection, key: Any) -> Any:
    """The row of an atom, or None."""
    with db.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute("SELECT * FROM store.atoms WHERE (h_xy, h_yz, h_zm) = (%s, %s, %s)", as_key(key)).fetchone()


def log_rows(db: Connection) -> list[Any]:
    """The log, in the order of the runs."""
    with db.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute("SELECT * FROM store.ingestion_log ORDER BY started_at, ingestion_id").fetchall()


def atom_key(db: Connection, modality: str, x: int, y: int, z: int, m: int) -> Key:
    """The key of a place."""
    return Key(*db.execute("SELECT * FROM modelstore.atom_key(%s, %s, %s, %s, %s)", (modality, x, y, z, m)).fetchone())


def atom_point(db: Connection, key: Any) -> tuple[str, int, int, int, int]:
    """Modality and coordinates of a key."""
    return db.execute("SELECT * FROM modelstore.atom_point(%s, %s, %s)", as_key(key)).fetchone()


def m_of(content_hash: bytes, probe: int = 0) -> int:
    """The fourth coordinate of a content at its first, second, … try."""
    start, step = (int.from_bytes(content_hash[at : at + 4], "little") for at in (0, 4))
    return (start + (step | 1) * probe) & MASK28


def check_references(db: Connection, held: Held | None = None, rehash: bool = True) -> int:
    """Compares the tables of atoms with each other and with `held`; returns how many atoms there are.

    Without `held`, what reference counts have beyond the parts may be anything but negative.
    """
    rows = db.execute("SELECT h_xy, h_yz, h_zm, value, modality, content_hash, ref_count, byte_length FROM store.atoms", binary=True).fetchall()
    atoms = {Key(*row[:3]): row[3:] for row in rows}
    assert len(atoms) == len(rows)
    parts: dict[Key, list[Key]] = collections.defaultdict(list)
    query = "SELECT parent_h_xy, parent_h_yz, parent_h_zm, part_index, h_xy, h_yz, h_zm FROM store.atom_parts ORDER BY parent_h_xy, parent_h_yz, parent_h_zm, part_index"
    for *parent, index, h_xy, h_yz, h_zm in db.execute(query, binary=True):
        assert index == len(parts[Key(*parent)]), f"{parent}: part {len(parts[Key(*parent)])} is missing"
        parts[Key(*parent)].append(Key(h_xy, h_yz, h_zm))
    chunks = {Key(*row[:3]): row[3] for row in db.execute("SELECT h_xy, h_yz, h_zm, modelstore.decode(chunk) FROM store.atom_chunks", binary=True)}

    leaves = {key for key, row in atoms.items() if row[0] is not None}
    assert not leaves & parts.keys() and not leaves & chunks.keys() and not parts.keys() & chunks.keys()
    assert atoms.keys() == leaves | parts.keys() | chunks.keys(), "atoms without content, or contents without an atom"
    assert all(len(p) >= 2 for p in parts.values()), "a composite of fewer than two"

    counted = collections.Counter(part for list_ in parts.values() for part in list_)
    assert counted.keys() <= atoms.keys(), "parts that are not there"
    for key, (_, _, _, ref_count, _) in atoms.items():
        if held is None:
            assert ref_count >= counted[key], f"{key}: {ref_count} references, {counted[key]} places"
        else:
            assert ref_count == counted[key] + held[key], f"{key}: {ref_count} references, {counted[key]} places, held {held[key]} times"
    if held is not None:
        assert {key for key, times in held.items() if times} <= atoms.keys(), "what is held is not there"

    _check_places(db, atoms)
    if rehash:
        lengths = _check_contents(atoms, parts, chunks)
        assert all(atoms[key][4] == length for key, length in lengths)
    return len(atoms)


def _check_places(db: Connection, atoms: dict[Key, Any]) -> None:
    """Modality, m by the hash and the row of places before it, each content once in its modality and place."""
    keys = list(atoms)
    columns = [[key[i] for key in keys] for i in range(3)]
    points = db.execute(
        "SELECT p.* FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) WITH ORDINALITY k(a, b, c, n), modelstore.atom_point(a, b, c) p ORDER BY n",
        columns,
    ).fetchall()
    at = dict(zip(keys, points, strict=True))
    taken = {point: atoms[key][2] for key, point in at.items()}
    for key, point in at.items():
        content_hash = atoms[key][2]
        assert MODALITIES[atoms[key][1]] == point[0] == MODALITIES[key.h_xy >> 56]
        probe = 0
        while (place := (*point[:4], m_of(content_hash, probe))) != point:
            assert taken.get(place, content_hash) != content_hash, f"{key}: a search for it ends before it, at {place}"
            probe += 1


def _check_contents(atoms: dict[Key, Any], parts: dict[Key, list[Key]], chunks: dict[Key, bytes]) -> Iterable[tuple[Key, int]]:
    """Hashes the content of every atom, put together from the tables, and compares; keys with lengths."""
    contents: dict[Key, bytes] = {key: bytes(row[0]) for key, row in atoms.items() if row[0] is not None}
    contents.update(chunks)
    for key in _parts_first(parts):
        contents[key] = b"".join(contents[part] for part in parts[key])
    for key, actual in zip(contents, blake3_many(contents.values()), strict=True):
        assert actual == atoms[key][2], f"{key}: content has the hash {actual.hex()}, not {atoms[key][2].hex()}"
    return [(key, len(content)) for key, content in contents.items()]


def _parts_first(parts: dict[Key, list[Key]]) -> Iterator[Key]:
    """Composites, each after those inside it."""
    done: set[Key] = set()
    for root in parts:
        stack = [(root, False)]
        while stack:
            key, ready = stack.pop()
            if ready:
                done.add(key)
                yield key
            elif key not in done and (key, True) not in stack:
                stack.append((key, True))
                stack += ((part, False) for part in dict.fromkeys(parts[key]) if part in parts and part not in done)


# BLAKE3 over arrays: the rules are those of blake3_reference.py, a hundred megabytes take seconds.


def blake3(content: bytes) -> bytes:
    """The hash of a content of any size."""
    return blake3_many([content])[0]


def blake3_many(contents: Iterable[bytes], at_once: int = 64 << 20) -> list[bytes]:
    """The hashes of contents, in order."""
    hashes: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for content in contents:
        batch.append(content)
        size += len(content)
        if size > at_once or len(batch) >= 20_000:
            hashes += _hash(batch)
            batch, size = [], 0
    return hashes + (_hash(batch) if batch else [])


def _hash(contents: list[bytes]) -> list[bytes]:
    counts = np.array([max(1, (len(c) + 1023) // 1024) for c in contents])
    pieces = [c[at : at + 1024] for c in contents for at in range(0, len(c), 1024) or [0]]
    places = np.arange(len(pieces)) - np.repeat(np.cumsum(counts) - counts, counts)
    alone = np.repeat(counts == 1, counts)
    nodes = np.concatenate([_pieces(pieces[i : i + 4096], places[i : i + 4096], alone[i : i + 4096]) for i in range(0, len(pieces), 4096)])
    # Neighbours become parents until one is left; the odd one at the end goes up as it is. The last parent is the root.
    while counts.max() > 1:
        starts = np.cumsum(counts) - counts
        owner = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(nodes)) - starts[owner]
        left = (place % 2 == 0) & (place + 1 < counts[owner])
        odd = (place % 2 == 0) & (place + 1 == counts[owner])
        first = np.flatnonzero(left)
        flags = PARENT | np.where(counts[owner[first]] == 2, ROOT, 0)
        above = nodes.copy()
        above[first] = _compress(np.tile(np.array(IV, np.uint32), (len(first), 1)), np.hstack([nodes[first], nodes[first + 1]]), 0, 64, flags)
        nodes = above[left | odd]
        counts = (counts + 1) // 2
    return [node.astype("<u4").tobytes() for node in nodes]


def _pieces(pieces: list[bytes], places: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Chaining values of pieces of up to 1024 bytes: their places in the content, and whether they are all of it."""
    lengths = np.array([len(piece) for piece in pieces])
    words = np.frombuffer(b"".join(piece.ljust(1024, b"\0") for piece in pieces), "<u4").reshape(len(pieces), 16, 16)
    value = np.tile(np.array(IV, np.uint32), (len(lengths), 1))
    last = np.maximum(0, (lengths - 1) // 64)
    for block in range(int(last.max()) + 1):
        rows = np.flatnonzero(last >= block)
        ends = last[rows] == block
        flags = np.where(ends, CHUNK_END | np.where(alone[rows], ROOT, 0), 0) | (CHUNK_START if block == 0 else 0)
        value[rows] = _compress(value[rows], words[rows, block], places[rows], np.minimum(64, lengths[rows] - 64 * block), flags)
    return value


def _compress(value: np.ndarray, block: np.ndarray, counter: Any, length: Any, flags: Any) -> np.ndarray:
    n = len(value)
    v = [value[:, i].copy() for i in range(8)] + [np.full(n, IV[i], np.uint32) for i in range(4)]
    v += [np.broadcast_to(np.asarray(w), n).astype(np.uint32) for w in (counter, np.asarray(counter) >> 32, length, flags)]
    words = [np.ascontiguousarray(block[:, i]) for i in range(16)]
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(QUARTERS):
            for word, by_d, by_b in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                v[a] = v[a] + v[b] + word
                x = v[d] ^ v[a]
                v[d] = x >> by_d | x << 32 - by_d
                v[c] = v[c] + v[d]
                x = v[b] ^ v[c]
                v[b] = x >> by_b | x << 32 - by_b
        words = [words[i] for i in ORDER]
    return np.stack([v[i] ^ v[i + 8] for i in range(8)], axis=1)
