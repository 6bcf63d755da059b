"""Keys of atoms: the same on every machine, one partition each, and collisions of contents with equal coordinates."""

from __future__ import annotations

import os
import pathlib
import random
import re
import struct
import time

import numpy as np
import psycopg
import pytest
from atoms import MASK28, MODALITIES, Held, Key, as_key, atom_key, atom_point, atom_row, blake3, blake3_many
from atoms import check_references, ingest, ingest_many, key_of, m_of, reconstruct, sizes
from transfer import refusal

COORDINATES = pathlib.Path(__file__).resolve().parents[2] / "crates" / "atom" / "tests" / "golden" / "coordinates.txt"
# Never changes: keys are stored.
GOLDEN: list[tuple[str, bytes, tuple[int, int, int]]] = [
    ("text", b"", (0, 0, 18360485549173845)),
    ("text", b"hello world", (34817211466418441, 65641938326383620, 24412085599951253)),
    ("text", "Привет, мир".encode(), (44221093481121102, 69751009046086990, 24796989305666323)),
    ("text", b"one\ntwo\n\nthree\n", (11482897371190264, 6777372247587825, 20194391771572912)),
    ("audio", struct.pack("<4h", 0, 1000, -1000, 7), (114322510459298697, 53592547984912699, 36784669036116752)),
    ("audio", bytes(100_000), (72057594037927936, 0, 22254050920689579)),
    ("image", bytes(range(256)), (156124512200075882, 36028247254761344, 61529975026856147)),
    ("video", b"\0\0\0\x18ftypmp42", (229304665946171251, 6818734527588758, 26376094516794288)),
    ("tensor", struct.pack("<3f", 0.5, -0.25, 1e-3), (337167846413584085, 56445210869937708, 8006790342805986)),
    ("tensor", bytes(range(256)) * 400, (336268772176997034, 48038396025285290, 49826499712521216)),
    ("code", b"fn main() {}\n", (365679573539043034, 870749873893696, 17622970960620627)),
    ("code", b"\tif x:\n\t\treturn None\n" * 100, (367046872378060779, 15737789035397140, 9734031969107989)),
    ("structured", b'{"a": [1, 2.5, null]}', (466399909802508226, 65294589305820481, 13968924074482277)),
    ("structured", b"id,name\n1,Ada\n", (440154423407294174, 3636468909496677, 24400819032320422)),
    ("other", b"\x7fELF", (512479542877693601, 3190265118691019, 20459052942471483)),
    ("other", bytes(range(256)) * 4096, (540085889719358484, 66181545912107384, 17957247349669515)),
    ("other", b"", (504403158265495552, 0, 18360485549173845)),
]  # fmt: skip


def hilbert(x: int, y: int, order: int = 28) -> int:
    """The code of a cell, by turning quadrants: as textbooks have it."""
    code, side = 0, 1 << order - 1
    while side:
        right, up = int(x & side > 0), int(y & side > 0)
        code += side * side * (3 * right ^ up)
        if not up:
            if right:
                x, y = (1 << order) - 1 - x, (1 << order) - 1 - y
            x, y = y, x
        side >>= 1
    return code


def key_by_hand(modality: str, x: int, y: int, z: int, m: int) -> Key:
    return Key(MODALITIES.index(modality) << 56 | hilbert(x, y), hilbert(y, z), hilbert(z, m))


def split_mix(seed: int, count: int) -> bytes:
    out, mask = [], (1 << 64) - 1
    for i in range(1, count // 8 + 2):
        z = (seed + i * 0x9E3779B97F4A7C15) & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        out.append((z ^ z >> 31).to_bytes(8, "little"))
    return b"".join(out)[:count]


def content(description: str) -> bytes:
    """As coordinates.txt says at its top."""
    parts = []
    for part in description.split(" + "):
        part, _, times = part.rpartition(" * ") if re.search(r" \* \d+$", part) else (part, "", "1")
        kind, _, value = part.partition(" ")
        if kind == "text":
            data = value.replace("\\n", "\n").replace("\\t", "\t").encode()
        elif kind == "hex":
            data = bytes.fromhex(value)
        elif kind == "random":
            data = split_mix(*map(int, value.split()))
        else:
            data = b"".join(struct.pack({"i16": "<h", "f32": "<f"}[kind], {"i16": int, "f32": float}[kind](n)) for n in value.split(","))
        parts.append(data * int(times))
    return b"".join(parts)


def test_coordinates_of_the_crate_are_those_of_the_store(db) -> None:
    lines = [line.split("\t") for line in COORDINATES.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 40 and {line[0] for line in lines} == set(MODALITIES)
    held = Held()
    for modality, description, *xyz in lines:
        data = content(description)
        row = ingest(db, data, modality, held=held)
        point = (modality, *map(int, xyz), m_of(blake3(data)))
        assert atom_point(db, row) == point, description
        assert key_of(row) == key_by_hand(*point) == atom_key(db, *point), description
    check_references(db, held)


def test_golden_keys(db) -> None:
    assert len(GOLDEN) >= 12
    for modality, data, key in GOLDEN:
        assert as_key(ingest(db, data, modality)) == key, (modality, data[:30])
    for literal, modality in (("_text('hello world')", "text"), ("('hello world')", "other")):
        assert db.execute(f"SELECT h_xy, h_yz, h_zm FROM modelstore.ingest{literal}").fetchone() == as_key(ingest(db, b"hello world", modality))


def test_places_and_keys(db) -> None:
    rng = random.Random(1)
    for _ in range(300):
        corner = [rng.choice((0, 1, MASK28, MASK28 - 1, 1 << 27, rng.randrange(1 << 28))) for _ in range(4)]
        modality = rng.choice(MODALITIES)
        key = atom_key(db, modality, *corner)
        assert key == key_by_hand(modality, *corner)
        assert atom_point(db, key) == (modality, *corner)


INSERT = "INSERT INTO store.atoms (h_xy, h_yz, h_zm, value, modality, content_hash, byte_length) VALUES (%s, %s, %s, '', %s, %s, 0) RETURNING tableoid::regclass::text"


def test_every_legal_key_has_a_partition(db) -> None:
    names = [name for (name,) in db.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'store.atoms'::regclass ORDER BY 1")]
    assert names == [f"store.atoms_{n:03}_{MODALITIES[n // 32]}" for n in range(256)]
    rng = random.Random(2)
    for number, name in enumerate(names):
        # The first and the last code of its range, at the corners of the other axes.
        for code in (number % 32 << 51, (number % 32 + 1 << 51) - 1):
            x, y = db.execute("SELECT * FROM modelstore.hilbert_decode(%s::bigint, 28)", (code,)).fetchone()
            for z, m in ((0, 0), (MASK28, MASK28), (rng.choice((0, MASK28)), rng.randrange(1 << 28))):
                key = atom_key(db, MODALITIES[number // 32], x, y, z, m)
                assert key.h_xy == number // 32 << 56 | code
                assert db.execute(INSERT, (*key, number // 32, rng.randbytes(32))).fetchone() == (name,)
    assert db.execute("SELECT count(*), count(DISTINCT tableoid) FROM store.atoms").fetchone() == (256 * 6, 256)
    assert db.execute("SELECT count(*) FROM store.atoms, modelstore.atom_point(h_xy, h_yz, h_zm)").fetchone() == (256 * 6,)


def test_an_illegal_key_is_refused(db) -> None:
    good, other = atom_key(db, "code", 10, 20, 30, 40), atom_key(db, "code", 10, 21, 31, 40)
    wrong = {
        (good.h_xy, other.h_yz, good.h_zm): "22023",
        (other.h_xy, good.h_yz, good.h_zm): "22023",
        (good.h_xy, good.h_yz, other.h_zm): "22023",
        (good.h_xy, -1, good.h_zm): "22023",
        (good.h_xy, 1 << 56, good.h_zm): "22023",
        (good.h_xy, good.h_yz, -(1 << 63)): "22023",
        (-1, good.h_yz, good.h_zm): "23514",
        (8 << 56, good.h_yz, good.h_zm): "23514",
        ((1 << 63) - 1, good.h_yz, good.h_zm): "23514",
    }
    for key, sqlstate in wrong.items():
        assert refusal(db, INSERT, *key, 5, bytes(32)).sqlstate == sqlstate, key
    assert refusal(db, INSERT, *good, 4, bytes(32)).constraint_name.endswith("check")
    assert refusal(db, INSERT, *good, 5, bytes(31)).sqlstate == "23514"
    assert sizes(db)["atoms"] == 0
    for place in ((-1, 0, 0, 0), (0, 1 << 28, 0, 0), (0, 0, 0, -5)):
        assert refusal(db, "SELECT * FROM modelstore.atom_key('text', %s, %s, %s, %s)", *place).sqlstate == "22003"


def test_a_look_up_reads_one_partition(db) -> None:
    row = ingest(db, b"hello", "text")
    query = "SELECT content_hash FROM store.atoms WHERE h_xy = {} AND h_yz = {} AND h_zm = {}"
    plan = "\n".join(line for (line,) in db.execute("EXPLAIN " + query.format(*key_of(row))))
    assert re.findall(r"atoms_\d{3}_\w+ ", plan.replace("_pkey", " ")) and len(set(re.findall(r"atoms_(\d{3})", plan))) == 1, plan
    db.execute("PREPARE by_key(bigint, bigint, bigint) AS " + query.format("$1", "$2", "$3"))
    for mode, removed in (("force_custom_plan", None), ("force_generic_plan", "Subplans Removed: 255")):
        db.execute(f"SET plan_cache_mode = {mode}")
        plan = "\n".join(line for (line,) in db.execute("EXPLAIN (ANALYZE, COSTS off) EXECUTE by_key(%d, %d, %d)" % key_of(row)))
        assert len(set(re.findall(r"on atoms_(\d{3})", plan))) == 1 and (removed is None or removed in plan), plan
        assert "Seq Scan" not in plan, plan


# Contents that want the same place: 64 bytes of two kinds, as many of each and as many changes between them, so that sum,
# sum of squares and differences are equal; and among so many, some whose hashes begin with the same 28 bits.


def alike(count: int, seed: int = 0) -> list[bytes]:
    """Distinct contents of 64 bytes at one x, y and z."""
    rng, out = np.random.default_rng(seed), []
    while len(out) < count:
        # 16 runs of each byte, which together have 32 places each.
        cuts = np.argsort(rng.random((100_000, 2, 31)), axis=2)[:, :, :15] + 1
        cuts.sort(axis=2)
        edges = np.concatenate([np.zeros((100_000, 2, 1), int), cuts, np.full((100_000, 2, 1), 32)], axis=2)
        ends = np.diff(edges, axis=2).transpose(0, 2, 1).reshape(100_000, 32).cumsum(axis=1)
        changes = np.zeros((100_000, 65), np.uint8)
        np.put_along_axis(changes, ends, 1, axis=1)
        out += [bytes(row) for row in (97 + changes.cumsum(axis=1) % 2)[:, :64].astype(np.uint8)]
    return list(dict.fromkeys(out))[:count]


def meeting(count: int) -> tuple[list[bytes], list[list[bytes]]]:
    """So many of them, and among these groups that want the same m as well."""
    pool = alike(300_000)
    by_m: dict[int, list[bytes]] = {}
    for data, content_hash in zip(pool, blake3_many(pool), strict=True):
        by_m.setdefault(m_of(content_hash), []).append(data)
    groups = [group for group in by_m.values() if len(group) > 1]
    chosen = dict.fromkeys(data for group in groups for data in group)
    chosen.update(dict.fromkeys(pool[:count]))
    return list(chosen)[:count], groups


def test_contents_at_one_place(db) -> None:
    contents, groups = meeting(20_000)
    assert len(groups) > 50 and len(set(contents)) == 20_000
    held = Held()
    rows = ingest_many(db, contents, held=held)
    assert all(row.is_new for row in rows)
    assert len({row.h_xy for row in rows}) == len({row.h_yz for row in rows}) == 1
    assert len({key_of(row) for row in rows}) == 20_000 == sizes(db)["atoms"]
    probed = "SELECT count(*) FROM store.atoms WHERE probe > 0"
    assert db.execute(probed).fetchone()[0] == sum(len(group) - 1 for group in groups)
    stored = {as_key(r[:3]): r[3] for r in db.execute("SELECT h_xy, h_yz, h_zm, value FROM store.atoms", binary=True)}
    assert all(stored[key_of(row)] == data for row, data in zip(rows, contents, strict=True))

    order = random.Random(3).sample(range(20_000), 20_000)
    again = ingest_many(db, [contents[i] for i in order], held=held)
    assert [(key_of(row), row.is_new) for row in again] == [(key_of(rows[i]), False) for i in order]
    for group in groups[:30]:
        assert [reconstruct(db, ingest(db, data, held=held)) for data in group] == group
    check_references(db, held)


def test_who_came_first_has_the_place(db) -> None:
    """Collected in any order, what is left is found."""
    _, groups = meeting(0)
    release = "SELECT modelstore.release((%s, %s, %s))"
    for first, second, *_ in groups[:10]:
        one, two = ingest(db, first), ingest(db, second)
        assert atom_point(db, one)[4] == m_of(blake3(first)) == m_of(blake3(second))
        assert atom_point(db, two)[4] == m_of(blake3(second), 1)
        db.execute(release, key_of(one))
        assert db.execute("SELECT * FROM modelstore.atoms_gc()").fetchone() == (0, 0)
        assert ingest(db, second).created == 0 and reconstruct(db, one) == first
        db.execute(release, key_of(two))
        db.execute(release, key_of(two))
        assert db.execute("SELECT * FROM modelstore.atoms_gc()").fetchone() == (2, 128)
        assert as_key(ingest(db, second)) == as_key(one), "now the place is free"
        db.execute(release, key_of(one))
        assert db.execute("SELECT * FROM modelstore.atoms_gc()").fetchone() == (1, 64)


def occupy(db, point: tuple, content_hash: bytes, held: int = 0) -> Key:
    """Puts a row of another content, whose hash begins alike, where a content would go."""
    key = atom_key(db, *point)
    values = (*key, b"other", MODALITIES.index(point[0]), content_hash, held, 5)
    db.execute("INSERT INTO store.atoms (h_xy, h_yz, h_zm, value, modality, content_hash, ref_count, byte_length) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", values)
    return key


@pytest.mark.parametrize("taken", [1, 2, 7])
@pytest.mark.parametrize(("modality", "data"), [("text", b"a line of text\n"), ("other", random.Random(4).randbytes(3000)), ("code", b"fn main() {}\n\n" * 500)])
def test_the_next_place_that_is_free(modality: str, data: bytes, taken: int, db) -> None:
    probe = ingest(db, data, modality)
    _, *xyz, m = atom_point(db, probe)
    content_hash = blake3(data)
    assert m == m_of(content_hash)
    db.execute("SELECT modelstore.release((%s, %s, %s))", key_of(probe))
    db.execute("SELECT modelstore.atoms_gc()")
    assert sizes(db)["atoms"] == 0
    blocking = [occupy(db, (modality, *xyz, m_of(content_hash, i)), m_of(content_hash, i).to_bytes(4, "little") + bytes(28)) for i in range(taken)]

    row = ingest(db, data, modality)
    assert atom_point(db, row) == (modality, *xyz, m_of(content_hash, taken))
    assert bytes(atom_row(db, row).content_hash) == content_hash
    again = ingest(db, data, modality)
    assert (as_key(again), again.created) == (as_key(row), 0)
    assert reconstruct(db, row) == data and all(reconstruct_fails(db, key) for key in blocking)
    # Nothing refers to what blocks, but the search for the content passes it.
    assert db.execute("SELECT atoms FROM modelstore.atoms_gc()").fetchone() == (0,)
    (found,) = ingest_many(db, [data], modality)
    assert key_of(found) == key_of(row) and not found.is_new
    for _ in range(3):
        db.execute("SELECT modelstore.release((%s, %s, %s))", key_of(row))
    assert db.execute("SELECT atoms FROM modelstore.atoms_gc()").fetchone() == (row.created + taken,)
    assert sizes(db) == sizes(db) | {"atoms": 0, "atom_parts": 0, "atom_chunks": 0}


def reconstruct_fails(db, key: Key) -> bool:
    """The made-up content has not the hash that its row says."""
    with pytest.raises(psycopg.errors.DataCorrupted):
        reconstruct(db, key)
    return True


@pytest.mark.slow
@pytest.mark.skipif("MODELSTORE_FULL" not in os.environ, reason="ten million contents at one place: MODELSTORE_FULL=1")
def test_ten_million_contents_at_one_place(db) -> None:
    total, batch = int(os.environ.get("MODELSTORE_CONTENTS", 10_000_000)), 250_000
    for is_new in (True, False):
        began, news = time.monotonic(), 0
        for number in range(total // batch):
            rows = db.execute("SELECT is_new FROM modelstore.ingest_many(%b::bytea[])", (alike(batch, number),)).fetchall()
            news += sum(new for (new,) in rows)
        print(f"\n{total} contents, {'new' if is_new else 'again'}: {time.monotonic() - began:.0f} s, {news} new", flush=True)
        if is_new:
            size = db.execute("SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'store.atoms'::regclass").fetchone()[0]
            probed = db.execute("SELECT count(*) FROM store.atoms WHERE probe > 0").fetchone()[0]
            atoms = sizes(db)["atoms"]
            print(f"{atoms} atoms, {size / 1e6:.0f} MB, {size / atoms:.0f} bytes each, {probed} probed", flush=True)
            # Chance makes a few contents twice.
            assert total * 0.999 < news == atoms <= total
            assert probed > 0.5 * total**2 / 2**29
        assert is_new or news == 0
