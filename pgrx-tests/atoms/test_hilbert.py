"""Compares Hilbert codes with the Python package hilbertcurve, through its table in crates/atom/tests/data, and with each
other."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
import psycopg
import pytest
from transfer import refusal

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "crates" / "atom" / "tests" / "data" / "hilbertcurve.csv"


def test_the_table_of_the_python_package(db) -> None:
    rows = list(csv.DictReader(TABLE.read_text().splitlines()))
    assert len(rows) > 300
    for row in rows:
        axes, order, code = (int(row[name]) for name in ("axes", "order", "code"))
        point = [int(c) for c in row["point"].split()]
        encoded = db.execute("SELECT modelstore.hilbert_encode_point(%s::bigint[], %s), modelstore.hilbert_decode_point(%s, %s, %s)",
                             (point, order, code, axes, order)).fetchone()  # fmt: skip
        assert encoded == (code, point)
        if axes == 2 and order <= 31:
            assert db.execute("SELECT modelstore.hilbert_encode(%s, %s, %s)", (*point, order)).fetchone() == (code,)


@pytest.mark.parametrize("order", [1, 2, 5, 8])
def test_every_cell_once_and_neighbours_in_a_row(order: int, db) -> None:
    codes = list(range(4**order))
    xs, ys = (np.array(c) for c in db.execute("SELECT * FROM modelstore.hilbert_decode_many(%s::bigint[], %s)", (codes, order)).fetchone())
    assert (np.abs(np.diff(xs)) + np.abs(np.diff(ys)) == 1).all()
    assert len(set(zip(xs, ys, strict=True))) == 4**order
    assert (xs[0], ys[0], xs[-1], ys[-1]) == (0, 0, 2**order - 1, 0)
    encoded = db.execute("SELECT modelstore.hilbert_encode_many(%s::bigint[], %s::bigint[], %s)", (xs.tolist(), ys.tolist(), order)).fetchone()[0]
    assert encoded == codes


@pytest.mark.parametrize("order", [16, 28, 31])
def test_the_forms_agree(order: int, db) -> None:
    rng = np.random.default_rng(order)
    xs, ys = (rng.integers(0, 2**order, 200_000).tolist() for _ in range(2))
    codes = db.execute("SELECT modelstore.hilbert_encode_many(%s::bigint[], %s::bigint[], %s)", (xs, ys, order)).fetchone()[0]
    assert db.execute("SELECT * FROM modelstore.hilbert_decode_many(%s::bigint[], %s)", (codes, order)).fetchone() == (xs, ys)
    for i in range(0, len(xs), 20_000):
        one = db.execute("SELECT modelstore.hilbert_encode(%s, %s, %s)", (xs[i], ys[i], order)).fetchone()
        assert one == (codes[i],)
        assert db.execute("SELECT * FROM modelstore.hilbert_decode(%s::bigint, %s)", (codes[i], order)).fetchone() == (xs[i], ys[i])


def covered(db: psycopg.Connection, box: tuple[int, int, int, int], order: int, most: int | None) -> tuple[set[tuple[int, int]], int]:
    """The cells of the ranges, and how many ranges there are."""
    ranges = db.execute("SELECT * FROM modelstore.hilbert_ranges(%s, %s, %s, %s, %s, %s)", (*box, order, most)).fetchall()
    assert all(a[1] + 1 < b[0] for a, b in zip(ranges, ranges[1:]))
    codes = [code for first, last in ranges for code in range(first, last + 1)]
    xs, ys = db.execute("SELECT * FROM modelstore.hilbert_decode_many(%s::bigint[], %s)", (codes, order)).fetchone()
    return set(zip(xs, ys, strict=True)), len(ranges)


def test_ranges_cover_a_box(db) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        (x0, x1), (y0, y1) = (sorted(rng.integers(0, 64, 2).tolist()) for _ in range(2))
        box = {(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)}
        exact, count = covered(db, (x0, y0, x1, y1), 6, None)
        assert exact == box
        for most in {1, 2, max(1, count // 2), count, count + 5}:
            cells, ranges = covered(db, (x0, y0, x1, y1), 6, most)
            assert box <= cells and ranges <= most
            if most >= count:
                assert cells == box


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("hilbert_encode(-1, 0, 4)", "22003"),
        ("hilbert_encode(0, 16, 4)", "22003"),
        ("hilbert_encode(0, 0, 0)", "22003"),
        ("hilbert_encode(0, 0, 32)", "22003"),
        ("hilbert_encode(9223372036854775807, 0, 31)", "22003"),
        ("hilbert_decode(-1::bigint, 4)", "22003"),
        ("hilbert_decode(256::bigint, 4)", "22003"),
        ("hilbert_encode_point(ARRAY[1]::bigint[], 4)", "22003"),
        ("hilbert_encode_point(ARRAY[1,2,3]::bigint[], 22)", "22003"),
        ("hilbert_encode_point('{}'::bigint[], 4)", "22003"),
        ("hilbert_encode_point(ARRAY[1,NULL]::bigint[], 4)", "22004"),
        ("hilbert_encode_many(ARRAY[1]::bigint[], ARRAY[1,2]::bigint[], 4)", "2202E"),
        ("hilbert_decode_point(0::bigint, 9, 4)", "22003"),
        ("hilbert_decode_point(0::bigint, -1, 4)", "22003"),
        ("hilbert_ranges(0, 0, 16, 3, 4)", "22003"),
        ("hilbert_ranges(3, 0, 2, 3, 4)", "22023"),
        ("hilbert_ranges(0, 0, 3, 3, 4, 0)", "22023"),
        ("hilbert_ranges(0, 0, 3, 3, 4, -1)", "22023"),
        ("hilbert_ranges(NULL, 0, 3, 3, 4)", "22004"),
        ("hilbert_ranges(0, 1, 2147483647, 1, 31)", "54000"),
    ],
)
def test_what_is_out_of_range(call: str, sqlstate: str, db) -> None:
    assert refusal(db, f"SELECT * FROM modelstore.{call}").sqlstate == sqlstate


def test_an_element_is_named_by_its_place(db) -> None:
    xs, ys = [0] * 100_000, [0] * 100_000
    xs[70_000] = 99
    diag = refusal(db, "SELECT modelstore.hilbert_encode_many(%s::bigint[], %s::bigint[], 4)", xs, ys)
    assert (diag.sqlstate, diag.message_primary) == ("22003", "element 70001: coordinate x = 99 is out of range")
    assert diag.message_detail == "Coordinates at order 4 are 0 to 15."


def test_nulls_and_empty_arrays(db) -> None:
    assert db.execute("SELECT modelstore.hilbert_encode(NULL, 1, 4), modelstore.hilbert_encode_many('{}'::bigint[], '{}'::bigint[], 4)").fetchone() == (None, [])
