"""Compares nearest, within_box and within_radius with brute force, for several kinds of point clouds and for real files."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from atoms import MODALITIES, Connection, ingest, ingest_many
from clouds import LAST, Cloud, make, put
from neighbours import CORNERS, by_array, by_atom, by_point, questions
from transfer import refusal

ROOT = pathlib.Path(__file__).resolve().parents[2]
KINDS = ["uniform", "clustered", "one place", "one column", "line", "grid"]


@pytest.fixture(scope="module")
def real(server, template):
    """A database with the lines of files of text and code in it."""
    with server.connect(dbname="postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE atoms_real TEMPLATE {template} STRATEGY file_copy")
    with server.connect(dbname="atoms_real", autocommit=True) as db:
        for name in ("docs/api.md", "CHANGELOG.md", "README.md"):
            ingest_many(db, (ROOT / name).read_bytes().splitlines(keepends=True), "text")
        for path in sorted((ROOT / "src" / "atom").glob("*.rs")):
            assert ingest(db, path.read_bytes(), "code").status == "completed"
            ingest_many(db, path.read_bytes().splitlines(keepends=True), "code")
        yield db
    with server.connect(dbname="postgres", autocommit=True) as admin:
        admin.execute("DROP DATABASE atoms_real WITH (FORCE)")


def check_against_brute_force(db: Connection, cloud: Cloud, rng: np.random.Generator, modalities: list[str | None], count: int) -> None:
    for modality in modalities:
        for number, point in enumerate(questions(cloud, rng, count)):
            k = (0, 1, 10, 100)[number % 4]
            expected = cloud.nearest(point, k, modality)
            assert by_point(db, point, k, modality) == expected, (point, k, modality)
        for n in rng.integers(0, len(cloud.keys), count):
            k = int(rng.choice([1, 10, 100]))
            of = modality or MODALITIES[cloud.modalities[n]]
            found = by_atom(db, cloud.keys[n], k, modality)
            assert found == cloud.nearest(cloud.points[n], k, of), (cloud.keys[n], k, modality)
            if modality is None:
                assert found[0] == (*cloud.keys[n], 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_of_a_cloud(kind: str, db) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    points = make(kind, 6000, rng)
    put(db, points, rng.choice(["text", "code", "other"], len(points)).tolist())
    # The same places once more, in other modalities: at one place the lower modality comes first.
    put(db, points[::3], "audio")
    cloud = Cloud(db)
    assert len(cloud.keys) > 3000
    check_against_brute_force(db, cloud, rng, [None, "text", "other"], 10)
    db.execute("ANALYZE store.atoms")
    check_against_brute_force(db, cloud, rng, [None], 5)


def test_the_nearest_of_real_data(real) -> None:
    rng = np.random.default_rng(3)
    cloud = Cloud(real)
    assert len(cloud.of_modality("text")) > 900 and len(cloud.of_modality("code")) > 1000
    check_against_brute_force(real, cloud, rng, [None, "text", "code", "image"], 15)


def rows_read(db: Connection, points: np.ndarray) -> int:
    """Entries of the index of places that a call reads; checks what it finds in some of them."""
    cloud = Cloud(db)
    # Of what the session has not reported yet, which may be more than this transaction.
    counts = """SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(inhrelid)), 0)::bigint
                FROM pg_inherits WHERE inhparent = 'store.atoms_place_idx'::regclass"""
    with db.transaction():
        (before,) = db.execute(counts).fetchone()
        found = by_array(db, points, 10, "text")
        read = db.execute(counts).fetchone()[0] - before
    assert [found[n] for n in range(0, len(points), 50)] == [cloud.nearest(points[n], 10, "text") for n in range(0, len(points), 50)]
    return read


@pytest.mark.any_server
def test_far_from_the_data_few_rows_are_read(db) -> None:
    """One point reads a part of the table, however many of them are asked for at once; a row that is not vacuumed costs more, so
    rows count."""
    rng, count = np.random.default_rng(9), 30_000
    # As lines of text: their lengths are alike, the first letters and the hash are anything.
    low, width = np.array([1 << 26, 1 << 27, 1 << 26, 0]), np.array([1 << 26, 1 << 24, 1 << 23, 1 << 28])
    put(db, low + (rng.random((count, 4)) * width).astype(np.int64), "text")
    far = np.concatenate([CORNERS, rng.integers(0, 1 << 25, (1000, 4))])
    for vacuumed in (False, True):
        if vacuumed:
            db.execute("VACUUM ANALYZE store.atoms")
        one = [rows_read(db, far[n : n + 1]) for n in range(40)]
        assert 0 < max(one) < count / 3 and sum(one) / len(one) < count / 5, one
        assert rows_read(db, far) < 3 * count


def test_more_than_there_are(db) -> None:
    rng = np.random.default_rng(0)
    put(db, make("uniform", 40, rng), rng.choice(["text", "code"], 40).tolist())
    cloud = Cloud(db)
    for k in (39, 40, 41, 1000, 2**31 - 1):
        assert by_point(db, CORNERS[2], k) == cloud.nearest(CORNERS[2], k)
        assert by_point(db, CORNERS[2], k, "code") == cloud.nearest(CORNERS[2], k, "code")
        assert by_array(db, np.array(CORNERS), k) == [cloud.nearest(c, k) for c in CORNERS]


def test_an_empty_store(db) -> None:
    assert by_point(db, CORNERS[0], 10) == []
    assert by_array(db, np.zeros((100, 4), dtype=int), 10) == [[]] * 100
    (key,) = db.execute("SELECT * FROM modelstore.atom_key('text', 1, 2, 3, 4)").fetchall()
    assert by_atom(db, key, 10) == []
    assert db.execute("SELECT * FROM modelstore.within_box('{0,0,0,0}', %s)", ([LAST] * 4,)).fetchall() == []
    assert db.execute("SELECT * FROM modelstore.within_radius('{0,0,0,0}', 'Infinity')").fetchall() == []


def test_what_was_deleted_and_put_in_since(db) -> None:
    rng = np.random.default_rng(1)
    put(db, make("clustered", 4000, rng))
    asked = questions(Cloud(db), rng, 5)
    db.execute("DELETE FROM store.atoms WHERE (h_zm & 4) = 0")
    cloud = Cloud(db)
    assert 1000 < len(cloud.keys) < 3000
    assert [by_point(db, q, 20) for q in asked] == [cloud.nearest(q, 20) for q in asked]
    with db.transaction(force_rollback=True):
        put(db, make("clustered", 500, rng))
        more = Cloud(db)
        assert len(more.keys) > len(cloud.keys)
        assert [by_point(db, q, 20) for q in asked] == [more.nearest(q, 20) for q in asked]
    assert [by_point(db, q, 20) for q in asked] == [cloud.nearest(q, 20) for q in asked]
    db.execute("TRUNCATE store.atoms")
    assert by_point(db, asked[0], 20) == []


def test_another_store(db) -> None:
    put(db, np.array([[1, 2, 3, 4]]))
    assert len(by_point(db, CORNERS[0], 5)) == 1
    db.execute("SELECT modelstore.create_store('other', ARRAY['atoms'])")
    with db.transaction():
        db.execute("SET LOCAL modelstore.store = 'other'")
        assert by_point(db, CORNERS[0], 5) == []
    assert len(by_point(db, CORNERS[0], 5)) == 1


def index_scans(db: Connection) -> int:
    """Scans of indexes of atoms in this session, as far as they are not handed on yet: in a transaction, they grow."""
    return db.execute("SELECT sum(idx_scan)::int FROM pg_stat_xact_user_tables WHERE relname ~ '^atoms_[0-9]'").fetchone()[0]


@pytest.mark.parametrize("kind", ["uniform", "clustered", "one place", "line"])
def test_many_points_at_once(kind: str, db) -> None:
    """By a tree in memory where it has room, by one search after the other where not; both exactly."""
    rng = np.random.default_rng(11)
    points = make(kind, 30_000, rng)
    if kind == "one place":
        points = np.unique(points + rng.integers(0, 40, points.shape), axis=0)
    put(db, points, rng.choice(["text", "other"], len(points)).tolist())
    db.execute("ANALYZE store.atoms")
    cloud = Cloud(db)
    assert len(cloud.keys) > 22_000
    asked = np.array([q for _ in range(25) for q in questions(cloud, rng, 10)])
    assert len(asked) >= 1000
    for modality, k in [(None, 10), ("text", 3), (None, 0)]:
        with db.transaction():
            before = index_scans(db)
            by_tree = by_array(db, asked, k, modality)
            assert index_scans(db) - before < len(asked)
        with db.transaction():
            # Room for less than 22 000 atoms.
            db.execute("SET LOCAL maintenance_work_mem = '1MB'")
            before = index_scans(db)
            assert by_array(db, asked[::3], k, modality) == by_tree[::3]
            assert (modality, k) != (None, 10) or index_scans(db) - before > 2 * len(asked[::3])
        assert by_tree[::23] == [cloud.nearest(q, k, modality) for q in asked[::23]]
        assert by_array(db, asked[:7], k, modality) == by_tree[:7]


def test_many_points_of_real_data(real) -> None:
    rng = np.random.default_rng(5)
    cloud = Cloud(real)
    asked = np.array([q for _ in range(25) for q in questions(cloud, rng, 10)])
    found = by_array(real, asked, 10)
    assert found[::29] == [cloud.nearest(q, 10) for q in asked[::29]]
    assert found[:40] == [by_point(real, q, 10) for q in asked[:40]]


def box(db: Connection, low: object, high: object, modality: str | None = None) -> list[tuple]:
    sql = "SELECT * FROM modelstore.within_box(%s::integer[], %s::integer[], %s)"
    return db.execute(sql, ([int(c) for c in low], [int(c) for c in high], modality)).fetchall()


def ball(db: Connection, point: object, radius: float, modality: str | None = None) -> list[tuple]:
    sql = "SELECT * FROM modelstore.within_radius(%s::integer[], %s::float8, %s)"
    return db.execute(sql, ([int(c) for c in point], radius, modality)).fetchall()


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_and_balls(kind: str, db) -> None:
    rng = np.random.default_rng(20 + KINDS.index(kind))
    points = make(kind, 4000, rng)
    put(db, points, rng.choice(["image", "code"], len(points)).tolist())
    cloud = Cloud(db)
    everything = [tuple(key) for key in cloud.keys]
    assert box(db, (0,) * 4, (LAST,) * 4) == everything == ball(db, CORNERS[0], np.inf) == ball(db, CORNERS[1], 2.0**29)
    assert box(db, (0,) * 4, (LAST,) * 4, "code") == cloud.in_box(np.zeros(4), np.full(4, LAST), "code")
    found = 0
    for _ in range(12):
        a, b = cloud.points[rng.integers(0, len(cloud.points), 2)]
        low, high = np.minimum(a, b), np.maximum(a, b)
        modality = [None, "image", "code"][int(rng.integers(0, 3))]
        # From one place to another; of one cell of the grid; with a side of one step less on each side.
        for low, high in ((low, high), (a, a), (np.minimum(low + 1, high), high), (low, np.maximum(high - 1, low))):
            expected = cloud.in_box(low, high, modality)
            assert box(db, low, high, modality) == expected
            found += len(expected)
        # A little more and a little less than as far as another atom.
        radius = float(np.sqrt(np.float64(((a - b) ** 2).sum())))
        for radius in (0.0, radius * (1 + 1e-12), radius * (1 - 1e-12), radius / 7, float(10.0 ** rng.uniform(0, 8))):
            expected = cloud.in_ball(a, radius, modality)
            assert ball(db, a, radius, modality) == expected
            found += len(expected)
    assert found > 200
    for corner in CORNERS:
        assert ball(db, corner, 2.0**27) == cloud.in_ball(np.array(corner), 2.0**27)
        assert box(db, corner, corner) == cloud.in_box(np.array(corner), np.array(corner))


@pytest.mark.parametrize(
    ("other", "radius"),
    [
        # As far as a whole number, whose square has more than 53 bits.
        ((101091221, 101091221, 101091221, 101091221), 202182442.0),
        ((LAST, LAST, LAST, LAST), 2.0 * LAST),
        # The square of what a double says of this distance is less than 3.
        ((1, 1, 1, 0), 3**0.5),
        ((LAST, LAST - 1, LAST - 2, LAST - 3), None),
    ],
)
def test_a_ball_reaches_what_is_as_far_as_its_radius(other: tuple[int, ...], radius: float | None, db) -> None:
    put(db, np.array([other]))
    ((*key, distance),) = by_point(db, CORNERS[0], 1)
    assert radius in (None, distance)
    assert ball(db, CORNERS[0], distance) == [tuple(key)]
    assert ball(db, CORNERS[0], np.nextafter(distance, 0)) == []


def test_boxes_and_balls_of_real_data(real) -> None:
    rng = np.random.default_rng(7)
    cloud = Cloud(real)
    for modality in (None, "text", "code"):
        for a, b in cloud.points[rng.integers(0, len(cloud.points), (10, 2))]:
            low, high = np.minimum(a, b), np.maximum(a, b)
            assert box(real, low, high, modality) == cloud.in_box(low, high, modality)
            for radius in (0.0, 3e6, 4e7):
                assert ball(real, a, radius, modality) == cloud.in_ball(a, radius, modality)


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("nearest_points('{0,0,0,0}'::integer[], -1)", "22023"),
        ("nearest(ROW(0, 0, 0)::modelstore.atom, -1)", "22023"),
        ("nearest_points('{0,0,0,0}'::integer[], NULL)", "22004"),
        ("nearest_points(NULL::integer[], 1)", "22004"),
        ("nearest(NULL::modelstore.atom, 1)", "22004"),
        ("nearest(ROW(0, NULL, 0)::modelstore.atom, 1)", "22004"),
        ("nearest(ROW(-1, 0, 0)::modelstore.atom, 1)", "22023"),
        ("nearest_points('{0,NULL,0,0}'::integer[], 1)", "22004"),
        ("nearest_points('{0,0,0}'::integer[], 1)", "2202E"),
        ("nearest_points('{0,0,0,0,0,0,0,0}'::integer[], 1)", "2202E"),
        ("nearest_points('{{{0,0,0,0}}}'::integer[], 1)", "2202E"),
        ("nearest_points('{0,0,0,268435456}'::integer[], 1)", "22003"),
        ("nearest_points('{{0,0,0,0},{0,-1,0,0}}'::integer[], 1)", "22003"),
        ("nearest_points('{0,0,0,0}'::integer[], 1, 'smell')", "22023"),
        ("within_box('{0,0,0,1}', '{0,0,0,0}')", "22023"),
        ("within_box('{5,0,0,0}', '{4,9,9,9}')", "22023"),
        ("within_box('{0,0,0}', '{0,0,0,0}')", "2202E"),
        ("within_box('{0,0,0,0}', '{}')", "2202E"),
        ("within_box('{{0,0,0,0},{0,0,0,0}}', '{1,1,1,1}')", "2202E"),
        ("within_box('{0,0,0,0}', '{268435456,0,0,0}')", "22003"),
        ("within_box('{-1,0,0,0}', '{0,0,0,0}')", "22003"),
        ("within_box(NULL, '{0,0,0,0}')", "22004"),
        ("within_box('{0,0,0,0}', NULL)", "22004"),
        ("within_radius('{0,0,0,0}', 'NaN')", "22023"),
        ("within_radius('{0,0,0,0}', -1)", "22023"),
        ("within_radius('{0,0,0,0}', NULL)", "22004"),
        ("within_radius(NULL, 1)", "22004"),
        ("within_radius('{0,0}', 1)", "2202E"),
        ("within_radius('{0,0,0,268435456}', 1)", "22003"),
    ],
)
def test_what_is_refused(call: str, sqlstate: str, db) -> None:
    assert refusal(db, f"SELECT * FROM modelstore.{call}").sqlstate == sqlstate


def test_no_points_and_no_radius(db) -> None:
    put(db, np.array([[0, 0, 0, 0]]))
    assert db.execute("SELECT count(*) FROM modelstore.nearest_points('{}'::integer[])").fetchone() == (0,)
    assert len(ball(db, CORNERS[0], -0.0)) == 1
    assert len(ball(db, CORNERS[0], 5e-324)) == 1
