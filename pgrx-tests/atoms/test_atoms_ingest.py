"""Data is split into atoms and reconstructed byte for byte; identical data is stored once."""

from __future__ import annotations

import pathlib
import random
import re
from collections import Counter

import numpy as np
import pytest
from atom_files import FILES, noise, real_text
from atoms import MODALITIES, Held, as_key, atom_row, blake3, check_references, ingest, ingest_many, key_of, large_object, log_rows
from atoms import reconstruct, reconstruct_parts, sizes
from models import safetensors_bytes
from observe import problems

def assert_comes_back(db, row, data: bytes) -> None:
    assert (row.status, row.error, row.byte_length) == ("completed", None, len(data))
    assert reconstruct(db, row) == data
    parts = reconstruct_parts(db, row)
    assert b"".join(parts) == data
    assert max(map(len, parts)) <= 2 << 20
    root = atom_row(db, row)
    assert (bytes(root.content_hash), root.byte_length) == (blake3(data), len(data))
    assert MODALITIES[root.modality] == MODALITIES[row.h_xy >> 56]


def assert_nothing_new(db, data, modality: str, held: Held, row) -> None:
    before = sizes(db)
    again = ingest(db, data, modality, held=held)
    assert as_key(again) == as_key(row)
    assert (again.status, again.created) == ("completed", 0)
    # The root is referred to once more; nothing else is touched.
    assert (again.updated, again.updated + again.skipped) == (1, row.created + row.updated + row.skipped)
    assert sizes(db) == before


@pytest.mark.parametrize("name", FILES)
def test_a_file_comes_back(name: str, db) -> None:
    modality, make = FILES[name]
    data, held = make(), Held()
    row = ingest(db, data, modality, f"file:{name}", held)
    assert MODALITIES[row.h_xy >> 56] == modality
    assert_comes_back(db, row, data)
    before = sizes(db)
    assert (row.created, row.updated, row.skipped) == (before["atoms"], 0, 0)
    # Again as a large object, and as text where it is text: the same atoms.
    assert_nothing_new(db, large_object(db, data), modality, held, row)
    if name in ("text", "code", "json"):
        assert_nothing_new(db, data.decode(), modality, held, row)
    assert check_references(db, held) == before["atoms"]
    assert problems(db) == []
    first, *_ = log_rows(db)
    assert (first.ingestion_id, first.status, first.source_uri, bytes(first.source_hash)) == (row.ingestion_id, "completed", f"file:{name}", blake3(data))
    assert (as_key(first), first.byte_length, first.modality) == (as_key(row), len(data), MODALITIES.index(modality))
    assert (first.atoms_created, first.atoms_updated, first.atoms_skipped) == (row.created, row.updated, row.skipped)
    assert first.error is None and first.ended_at >= first.started_at


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_size_in_every_modality(modality: str, db) -> None:
    """Around every limit there is: of a row, of a window, of a leaf."""
    pool, held = real_text(200_000) + noise(200_000), Held()
    for size in (0, 1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 65_535, 65_536, 65_537, 262_144, 400_000):
        data = pool[:size]
        row = ingest(db, data, modality, held=held)
        assert_comes_back(db, row, data)
        assert_nothing_new(db, large_object(db, data), modality, held, row)
        if size <= 64:
            assert bytes(atom_row(db, row).value) == data
    check_references(db, held)


@pytest.mark.parametrize("name", ["wav", "pnm", "safetensors", "json"])
def test_a_broken_file_is_bytes(name: str, db) -> None:
    """Cut off, with a damaged header, or of another kind: never an error, and never other bytes."""
    (modality, make), held = FILES[name], Held()
    data, rng = make()[:300_000], random.Random(name)
    for _ in range(12):
        broken = bytearray(data[: rng.choice((5, 11, 44, 200, 5000, len(data)))])
        for _ in range(rng.choice((0, 1, 5))):
            broken[rng.randrange(min(60, len(broken)))] = rng.choice((0, 255, 0x7F, 0x30))
        assert_comes_back(db, ingest(db, bytes(broken), modality, held=held), bytes(broken))
    check_references(db, held)


def test_a_hundred_megabytes_of_nothing(db) -> None:
    data, held = bytes(100_000_000), Held()
    row = ingest(db, large_object(db, data), held=held)
    assert_comes_back(db, row, data)
    assert row.created < 100 and sizes(db)["atom_chunks"] < 10
    assert_nothing_new(db, data, "other", held, row)
    check_references(db, held)


@pytest.mark.slow
def test_a_real_model(db, minilm: pathlib.Path) -> None:
    data, held = minilm.read_bytes(), Held()
    row = ingest(db, data, "tensor", str(minilm), held)
    assert_comes_back(db, row, data)
    assert_nothing_new(db, large_object(db, data), "tensor", held, row)
    check_references(db, held)
    assert problems(db) == []


def edits(data: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    return {
        "changed": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "inserted": data[:middle] + b"a few words more" + data[middle:],
        "removed": data[:middle] + data[middle + 100 :],
    }


@pytest.mark.parametrize("modality", ["text", "other", "code"])
def test_an_edit_costs_the_same_in_any_file(modality: str, db) -> None:
    held, costs = Held(), {}
    for megabytes in (1, 2):
        data = noise(megabytes << 20, megabytes) if modality == "other" else real_text(megabytes << 20)
        whole = ingest(db, data, modality, held=held)
        for what, edited in edits(data).items():
            before = stored_bytes(db)
            row = ingest(db, edited, modality, held=held)
            assert reconstruct(db, row) == edited
            costs[megabytes, what] = row.created
            # A leaf or two of text, and the lists of parts above them.
            assert modality == "other" or stored_bytes(db) - before < 40_000
        assert modality == "other" or 150 < whole.created < 600 * megabytes
    assert max(costs.values()) < 80, costs
    assert min(costs.values()) >= 2, costs
    check_references(db, held)


def stored_bytes(db) -> int:
    """Bytes of all rows of atoms, without their indexes."""
    sizes = "SELECT coalesce(sum(pg_column_size(t.*)), 0) FROM store.{} t"
    return sum(db.execute(sizes.format(table)).fetchone()[0] for table in ("atoms", "atom_parts", "atom_chunks"))


def leaf_bytes(db) -> int:
    """Bytes of leaves that are not in their rows."""
    return db.execute("SELECT coalesce(sum(modelstore.raw_size(chunk)), 0) FROM store.atom_chunks").fetchone()[0]


def test_files_that_share_a_middle(db) -> None:
    for modality, middle in (("other", noise(4 << 20, 7)), ("text", real_text(1 << 20))):
        held = Held()
        first, second = noise(100_000, 8) + middle + noise(50_000, 9), b"something else\n" * 3 + middle + noise(70_000, 10)
        one, before = ingest(db, first, modality, held=held), leaf_bytes(db)
        two = ingest(db, second, modality, held=held)
        assert two.created < 0.2 * one.created
        if modality == "other":
            assert leaf_bytes(db) - before < 500_000
        assert (reconstruct(db, one), reconstruct(db, two)) == (first, second)
        db.execute("SELECT modelstore.release((%s, %s, %s)), modelstore.release((%s, %s, %s))", (*key_of(one), *key_of(two)))
        db.execute("SELECT modelstore.atoms_gc()")
        assert sizes(db)["atoms"] == 0


@pytest.mark.any_server
def test_a_tensor_in_two_files(db) -> None:
    big, held = np.random.default_rng(11).standard_normal((512, 1024), np.float32), Held()
    files = [safetensors_bytes({"a" * pad: np.arange(pad, dtype=np.float32), "z": big}) for pad in (3, 250)]
    one, two = (ingest(db, data, "tensor", held=held) for data in files)
    assert two.created < 10 < one.created
    assert [reconstruct(db, row) for row in (one, two)] == files
    alone = ingest(db, big.tobytes(), "tensor", held=held)
    assert reconstruct(db, alone) == big.tobytes()
    check_references(db, held)


def counted(db) -> dict:
    return {as_key(row[:3]): row[3] for row in db.execute("SELECT h_xy, h_yz, h_zm, ref_count FROM store.atoms")}


def inside(db, row) -> set:
    """The distinct atoms of a tree."""
    parts: dict = {}
    for a, b, c, d, e, f in db.execute("SELECT parent_h_xy, parent_h_yz, parent_h_zm, h_xy, h_yz, h_zm FROM store.atom_parts"):
        parts.setdefault((a, b, c), []).append((d, e, f))
    found, stack = set(), [tuple(key_of(row))]
    while stack:
        key = stack.pop()
        if key not in found:
            found.add(key)
            stack += parts.get(key, [])
    return found


@pytest.mark.any_server
def test_counts_are_what_happened(db) -> None:
    text, held = real_text(300_000), Held()
    files = [text, text[:100_000], text[50_000:], text, text[150_000:] + text[:150_000], text[:20_000] * 5, b"", b"", b"a\n", b"a\na\na\na\n", text + b"a\n"]
    for data in files:
        before = counted(db)
        row = ingest(db, data, "text", held=held)
        after, tree = counted(db), inside(db, row)
        assert row.created == len(after.keys() - before.keys())
        assert row.updated == sum(after[key] != references for key, references in before.items())
        assert row.skipped == len(tree) - row.created - row.updated
    check_references(db, held)


@pytest.mark.any_server
def test_many_at_once(db) -> None:
    big, held = noise(3 << 20, 12), Held()
    contents = [b"one", b"", b"two", b"one", big, b"x" * 64, b"x" * 65, b"", big[:100_000], big, b"one" * 1000]
    rows = ingest_many(db, contents, "other", "mixed", held)
    assert [row.content_index for row in rows] == list(range(1, len(contents) + 1))
    assert [row.byte_length for row in rows] == [len(c) for c in contents]
    assert [reconstruct(db, row) for row in rows] == contents
    assert len({key_of(row) for row in rows}) == len(set(contents))
    assert [row.is_new for row in rows] == [c not in contents[:n] for n, c in enumerate(contents)]
    assert atom_row(db, rows[0]).ref_count == Counter(contents)[b"one"] == 2
    check_references(db, held)
    (log,) = log_rows(db)
    assert (log.source_hash, log.h_xy, log.status) == (None, None, "completed")
    assert (log.byte_length, log.atoms_created) == (sum(map(len, contents)), sizes(db)["atoms"])

    before = sizes(db)
    again = ingest_many(db, [*reversed(contents), b"three"], "other", held=held)
    assert [row.is_new for row in again] == [False] * len(contents) + [True]
    assert [key_of(row) for row in again[:-1]] == [key_of(row) for row in reversed(rows)]
    assert sizes(db) == before | {"atoms": before["atoms"] + 1}
    assert key_of(ingest(db, big, held=held)) == key_of(rows[4])
    check_references(db, held)


def test_no_contents_at_all(db) -> None:
    assert ingest_many(db, []) == []
    (log,) = log_rows(db)
    assert (log.status, log.atoms_created, log.byte_length) == ("completed", 0, 0)
    assert sum(sizes(db).values()) == 0


def test_memory_does_not_grow_with_the_data(db) -> None:
    """Short lines, and the same ones again and again: many leaves to look up, few to store."""
    block = b"".join(b"%d\n" % (i * 7919 % 100_003) for i in range(20_000))
    row = ingest(db, block * 120, "text")
    used = []
    with db.transaction(), db.cursor(name="parts") as cursor:
        cursor.execute("SELECT modelstore.reconstruct_parts((%s, %s, %s))", key_of(row), binary=True)
        while parts := cursor.fetchmany(1):
            assert len(parts[0][0]) <= 2 << 20
            status = pathlib.Path(f"/proc/{db.info.backend_pid}/status").read_text()
            used.append(int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1024)
    assert len(used) > 10 and used[-1] - used[1] < 40, f"MB after every megabyte: {used}"
