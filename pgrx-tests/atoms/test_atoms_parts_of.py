"""Parts of an atom: lines and bytes by number, the same as of the whole, read from few leaves."""

from __future__ import annotations

import itertools
import random
import re

import psycopg
import pytest
from atom_files import noise, real_text
from atoms import as_key, ingest, ingest_many
from transfer import refusal

pytestmark = pytest.mark.versioned


def lines(db: psycopg.Connection, key, first: int | None, last: int | None) -> bytes:
    query = "SELECT modelstore.reconstruct_lines((%s, %s, %s), %s::bigint, %s::bigint)"
    return db.execute(query, (*as_key(key), first, last), binary=True).fetchone()[0]


def some_bytes(db: psycopg.Connection, key, first: int | None, last: int | None) -> bytes:
    query = "SELECT modelstore.reconstruct_bytes((%s, %s, %s), %s::bigint, %s::bigint)"
    return db.execute(query, (*as_key(key), first, last), binary=True).fetchone()[0]


def part_of(units: list[bytes], first: int | None, last: int | None) -> bytes:
    """As a slice of an array of PostgreSQL has it."""
    return b"".join(units[max((first or 1) - 1, 0) : max(last, 0) if last is not None else None])


def split(data: bytes) -> list[bytes]:
    """Lines that end after a line feed and nothing else."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


LONG = b"words " * 30_000
TEXTS = {
    "nothing": b"",
    "one line": b"a line\n",
    "no line end": b"a line",
    "blank lines": b"\n" * 70,
    "many blank lines": b"\n" * 50_000,
    "the end of the last line is missing": real_text(30_000) + b"end",
    "a line longer than a leaf": b"first\n" + LONG + b"\nthird\n" + LONG + b"\nfifth",
    "only long lines": b"\n".join([LONG] * 4),
    "carriage returns": b"one\r\ntwo\rstill two\r\n" * 3_000,
    "code": real_text(400_000),
}


@pytest.mark.parametrize("name", TEXTS)
def test_lines_are_those_of_the_whole(name: str, db) -> None:
    data = TEXTS[name]
    key, units, rng = ingest(db, data, "code"), split(data), random.Random(name)
    count = len(units)
    near = [None, -(1 << 63), -1, 0, 1, 2, 3, count - 1, count, count + 1, (1 << 63) - 1]
    asked = list(itertools.product(near, near))
    asked += [sorted(rng.choices(range(1, count + 2), k=2)) for _ in range(40)]
    for first, last in asked:
        assert lines(db, key, first, last) == part_of(units, first, last), (first, last)
    if count < 100_000:
        step = max(1, count // 300)
        assert all(lines(db, key, n, n) == units[n - 1] for n in range(1, count + 1, step))


@pytest.mark.parametrize("name", [*TEXTS, "noise"])
def test_bytes_are_those_of_the_whole(name: str, db) -> None:
    data = noise(700_000, 3) if name == "noise" else TEXTS[name]
    key, rng = ingest(db, data, "other" if name == "noise" else "text"), random.Random(name)
    count = len(data)
    near = [None, -(1 << 63), -1, 0, 1, 2, count - 1, count, count + 1, (1 << 63) - 1]
    asked = list(itertools.product(near, near)) + [sorted(rng.choices(range(1, count + 2), k=2)) for _ in range(60)]
    for first, last in asked:
        assert some_bytes(db, key, first, last) == data[max((first or 1) - 1, 0) : max(last, 0) if last is not None else None], (first, last)


def test_a_part_reads_few_leaves(db) -> None:
    """Leaves that are damaged do not matter to who does not ask for what is in them."""
    data = real_text(1_000_000)
    key, units = ingest(db, data, "text"), split(data)
    middle = len(units) // 2
    wanted = part_of(units, middle, middle + 20)
    at = len(b"".join(units[: middle - 1]))
    damaged = db.execute(
        """UPDATE store.atom_chunks SET chunk = (SELECT chunk FROM store.atom_chunks ORDER BY modelstore.raw_size(chunk) LIMIT 1)
           WHERE position(modelstore.decode(chunk) IN %b::bytea) = 0""",
        (data[max(at - 40_000, 0) : at + 40_000],),
    ).rowcount
    assert damaged > 100
    assert lines(db, key, middle, middle + 20) == wanted
    assert some_bytes(db, key, at + 1, at + len(wanted)) == wanted
    assert refusal(db, "SELECT modelstore.reconstruct_lines((%s, %s, %s))", *as_key(key)).sqlstate == "XX001"


def test_what_is_refused(db) -> None:
    blob, text = ingest(db, b"no text"), ingest(db, b"a line\n", "text")
    ask = "SELECT modelstore.reconstruct_{}((%s, %s, %s))"
    assert refusal(db, ask.format("lines"), *as_key(blob)).sqlstate == "22023"
    db.execute("SELECT modelstore.release((%s, %s, %s))", as_key(text))
    db.execute("SELECT modelstore.atoms_gc()")
    for unit in ("lines", "bytes"):
        assert refusal(db, ask.format(unit), *as_key(text)).sqlstate == "42704"
        assert refusal(db, f"SELECT modelstore.reconstruct_{unit}(NULL)").sqlstate == "22004"


def test_a_leaf_that_was_changed_is_an_error(db) -> None:
    (row,) = ingest_many(db, [b"a line\n"], "text")
    db.execute("UPDATE store.atoms SET value = E'b line\\n'::bytea")
    assert refusal(db, "SELECT modelstore.reconstruct_lines((%s, %s, %s), 1, 1)", *as_key(row)).sqlstate == "XX001"
