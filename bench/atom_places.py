"""Measures nearest-neighbour searches of atoms against contrib cube and, if installed, PostGIS, and paths between neighbours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import psycopg

ATOMS = 1_000_000
LAST = 2**28 - 1


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def each(db: psycopg.Connection, sql: str, arguments: list[tuple], warm: int = 50) -> float:
    """Median of one prepared statement after the other, in microseconds, rows read by the client."""
    times = []
    with db.cursor(binary=True) as cursor:
        for number, values in enumerate([*arguments[:warm], *arguments]):
            begun = time.perf_counter()
            cursor.execute(sql, values, prepare=True)
            cursor.fetchall()
            if number >= warm:
                times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def points(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of atoms. As those of contents do, all have bits of a hash as their fourth coordinate."""
    if kind == "clustered":
        centers, spread = rng.integers(0, LAST + 1, (1000, 4)), 10.0 ** rng.uniform(3, 6.5, (1000, 1))
        which = rng.integers(0, 1000, count)
        found = np.clip(centers[which] + rng.normal(0, 1, (count, 4)) * spread[which], 0, LAST).astype(np.int64)
        found[:, 3] = rng.integers(0, LAST + 1, count)
        return found
    return rng.integers(0, LAST + 1, (count, 4))


def load(b, found: np.ndarray) -> None:
    """The points as a plain table, and as atoms."""
    b.fresh_store()
    b.db.execute("DROP TABLE IF EXISTS places")
    b.db.execute("CREATE TABLE places (x int, y int, z int, m int)")
    with b.db.cursor() as cursor, cursor.copy("COPY places FROM STDIN (FORMAT binary)") as out:
        out.set_types(["int4"] * 4)
        for row in found.tolist():
            out.write_row(row)
    b.db.execute("""
        INSERT INTO store.atoms (h_xy, h_yz, h_zm, modality, content_hash, byte_length)
        SELECT DISTINCT k.h_xy, k.h_yz, k.h_zm, 0, decode(repeat('00', 32), 'hex'), 0
        FROM places p, modelstore.atom_key('text', p.x, p.y, p.z, p.m) k
    """)
    b.db.execute("VACUUM ANALYZE store.atoms")


def others(db: psycopg.Connection) -> dict[str, str]:
    """Statements that find ten neighbours by what else there is, each over a table of its own of the same points."""
    statements = {}
    available = {name for (name,) in db.execute("SELECT name FROM pg_available_extensions")}
    if "cube" in available:
        db.execute("CREATE EXTENSION IF NOT EXISTS cube")
        db.execute("DROP TABLE IF EXISTS cubes")
        db.execute("CREATE TABLE cubes AS SELECT cube(ARRAY[x, y, z, m]::float8[]) AS c FROM places")
        db.execute("CREATE INDEX ON cubes USING gist (c)")
        db.execute("VACUUM ANALYZE cubes")
        statements["cube"] = "SELECT c, c <-> cube(%s::float8[]) FROM cubes ORDER BY c <-> cube(%s::float8[]) LIMIT 10"
    if "postgis" in available:
        db.execute("CREATE EXTENSION IF NOT EXISTS postgis")
        db.execute("DROP TABLE IF EXISTS geometries")
        db.execute("CREATE TABLE geometries AS SELECT ST_MakePoint(x, y, z, m) AS g FROM places")
        db.execute("CREATE INDEX ON geometries USING gist (g gist_geometry_ops_nd)")
        db.execute("VACUUM ANALYZE geometries")
        point = "ST_MakePoint((%s::float8[])[1], (%s::float8[])[2], (%s::float8[])[3], (%s::float8[])[4])"
        statements["PostGIS"] = f"SELECT g, g <<->> {point} FROM geometries ORDER BY g <<->> {point} LIMIT 10"
    return statements


def check_same(db: psycopg.Connection, asked: list[list[int]], statements: dict[str, str]) -> None:
    """That all find the same distances: what is compared must do the same work."""
    for point in asked[:20]:
        ours = [d for (d,) in db.execute("SELECT distance FROM modelstore.nearest_points(%s::integer[], 10, 'text')", (point,))]
        for name, sql in statements.items():
            theirs = [row[-1] for row in db.execute(sql, [point] * sql.count("%s"))]
            assert np.allclose(ours, theirs, rtol=1e-6), (name, point, ours, theirs)


def bench_nearest(b, db: psycopg.Connection, kind: str, found: np.ndarray, rng: np.random.Generator) -> None:
    """Ten neighbours of places near atoms."""
    asked = np.clip(found[rng.integers(0, len(found), 50_000)] + rng.integers(-(2**17), 2**17, (50_000, 4)), 0, LAST).tolist()
    statements = others(db)
    check_same(db, asked, statements)
    ours = "SELECT * FROM modelstore.nearest_points(%s::integer[], 10, 'text')"
    every = "SELECT * FROM modelstore.nearest_points(%s::integer[], 10)"
    jobs = {"ours": ours, "every modality": every} | statements
    times: dict[str, list[float]] = {name: [] for name in jobs}
    # The first calls plan, in each partition; then everything is in memory for all.
    for _ in range(b.rounds):
        for name, sql in jobs.items():
            times[name].append(each(db, sql, [[point] * sql.count("%s") for point in asked[:300]], warm=300))
    median = {name: statistics.median(t) for name, t in times.items()}
    ratios = {name: statistics.median(t / o for t, o in zip(times[name], times["ours"])) for name in jobs}
    beside = ", ".join(f"{name} {median[name]:,.0f} us" for name in statements) or "cube not available"
    missing = [] if "PostGIS" in statements else ["PostGIS not available"]
    b.report(
        f"nearest, one point, {kind}, 1 M atoms",
        f"{median['ours']:,.0f} us ({beside})",
        ", ".join([f"{ratios[name]:.1f} times as fast as {name}" for name in statements] + missing),
        "1 ms",
    )
    b.report(f"nearest, one point, {kind}, of eight modalities", f"{median['every modality']:,.0f} us", f"{1 / ratios['every modality']:.2f} of one's speed", "1 ms")
    many = [seconds(lambda: db.execute(ours.replace("*", "count(*)"), (asked,)).fetchone()) for _ in range(b.rounds)]
    rate = len(asked) / statistics.median(many)
    b.report(f"nearest, 50 000 points in a call, {kind}", f"{rate:,.0f} points/s", "", "10 000/s")
    few = [seconds(lambda: db.execute(ours.replace("*", "count(*)"), (asked[:1000],)).fetchone()) for _ in range(b.rounds)]
    b.report(f"nearest, 1 000 points in a call, {kind}", f"{1000 / statistics.median(few):,.0f} points/s", "", "10 000/s")


def bench_neighbour_paths(b, db: psycopg.Connection, name: str) -> None:
    """From neighbour to neighbour, to where ten steps away from the start have led."""
    away = """
        SELECT n.h_xy, n.h_yz, n.h_zm
        FROM modelstore.atom_point(%s, %s, %s) s, modelstore.nearest(ROW(%s, %s, %s)::modelstore.atom, 9) n, modelstore.atom_point(n.h_xy, n.h_yz, n.h_zm) p
        ORDER BY (p.x - s.x)::float8 ^ 2 + (p.y - s.y)::float8 ^ 2 + (p.z - s.z)::float8 ^ 2 + (p.m - s.m)::float8 ^ 2 DESC LIMIT 1
    """
    pairs = []
    for start in db.execute("SELECT h_xy, h_yz, h_zm FROM store.atoms ORDER BY hashint8(h_zm) LIMIT 20").fetchall():
        end = start
        for _ in range(10):
            end = db.execute(away, (*start, *end)).fetchone()
        pairs.append((*start, *end))
    sql = "SELECT * FROM modelstore.find_path((%s, %s, %s), (%s, %s, %s), 10, 'astar', '{neighbour}')"
    hops = [len(db.execute(sql, pair).fetchall()) - 1 for pair in pairs]
    assert min(hops) >= 0, "that way leads there"
    times = [each(db, sql, pairs, warm=len(pairs)) for _ in range(b.rounds)]
    figure = f"{statistics.median(times) / 1000:.1f} ms for {statistics.median(hops):.0f} hops"
    b.report(f"find_path by neighbours, {name}", figure, "", "10 ms")


def bench_places(b, db: psycopg.Connection) -> None:
    rng = np.random.default_rng(5)
    for kind in ("uniform", "clustered"):
        load(b, points(kind, 10_000, rng))
        bench_neighbour_paths(b, db, f"{kind}, 10 000 atoms")
        found = points(kind, ATOMS, rng)
        load(b, found)
        bench_neighbour_paths(b, db, f"{kind}, 1 M atoms")
        bench_nearest(b, db, kind, found, rng)
