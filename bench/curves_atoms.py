"""Cost curves of atoms: contents in and out by their bytes, searches by the number of atoms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from atom_places import LAST
from growth import Curve, Figures
from real_text import real_text


def contents(b, size: int, modality: str, data: bytes) -> Figures:
    """One content in, out, and deleted."""
    b.db.execute("SELECT modelstore.ingest(%b::bytea, %s)", (b"warm", modality))
    oid = b.value("SELECT lo_from_bytea(0, %b::bytea)", data)
    figures = b.once("ingest", "SELECT status FROM modelstore.ingest_large_object(%s::oid, %s)", oid, modality)
    *key, status = b.db.execute("SELECT h_xy, h_yz, h_zm, status FROM store.ingestion_log ORDER BY started_at DESC LIMIT 1").fetchone()
    assert status == "completed", status
    figures["atoms []"] = float(b.value("SELECT count(*) FROM store.atoms"))
    tables = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'store'::regnamespace AND relname ~ '^atom' AND relkind = 'r'"
    figures["tables [B]"] = float(b.value(tables))
    atom = "ROW({}, {}, {})::modelstore.atom".format(*key)
    figures |= b.once("reconstruct_parts", f"COPY (SELECT modelstore.reconstruct_parts({atom})) TO STDOUT (FORMAT binary)")
    b.db.execute("SELECT lo_unlink(%s)", (oid,))
    b.db.execute(f"SELECT modelstore.release({atom})")
    figures |= b.once("atoms_gc", "SELECT atoms FROM modelstore.atoms_gc()")
    return figures


def text(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Source code as text."""
    data = real_text(max(sizes) * 1000)
    for size in sizes:
        b.fresh()
        b.db.execute("SELECT modelstore.add_module('atoms')")
        yield size, contents(b, size, "text", data[: size * 1000].decode(errors="ignore").encode())


def opaque(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Random bytes of no modality."""
    for size in sizes:
        b.fresh()
        b.db.execute("SELECT modelstore.add_module('atoms')")
        yield size, contents(b, size, "other", np.random.default_rng(size).bytes(size * 1000))


def nearest(b, sizes: tuple[int, ...]) -> Iterator[tuple[int, Figures]]:
    """Ten neighbours of a point, among atoms in the lower half of each coordinate: near them, and in the other corner."""
    rng, done = np.random.default_rng(1), 0
    b.db.execute("SELECT modelstore.add_module('atoms')")
    b.db.execute("CREATE TABLE places (x int, y int, z int, m int)")
    search = "SELECT * FROM modelstore.nearest_points(%s::integer[], 10, 'text')"
    many = "SELECT count(*) FROM modelstore.nearest_points(%s::integer[], 10, 'text')"
    near, far = rng.integers(0, LAST // 2, (1000, 4)).tolist(), rng.integers(LAST // 8 * 7, LAST, (1000, 4)).tolist()
    for size in sizes:
        b.db.execute("TRUNCATE places")
        with b.db.cursor() as cursor, cursor.copy("COPY places FROM STDIN (FORMAT binary)") as out:
            out.set_types(["int4"] * 4)
            for row in rng.integers(0, LAST // 2, (size - done, 4)).tolist():
                out.write_row(row)
        b.db.execute("""
            INSERT INTO store.atoms (h_xy, h_yz, h_zm, modality, content_hash, byte_length)
            SELECT DISTINCT k.h_xy, k.h_yz, k.h_zm, 0, decode(repeat('00', 32), 'hex'), 0
            FROM places p, modelstore.atom_key('text', p.x, p.y, p.z, p.m) k
        """)
        figures, done = {}, size
        for state in ("never vacuumed", "vacuumed"):
            if state == "vacuumed":
                b.db.execute("VACUUM ANALYZE store.atoms")
            for name, points in (("near", near), ("far", far)):
                figures[f"{name} point, {state} [s]"] = b.median(search, [(point,) for point in points[:60]], warm=10)
                figures[f"1000 {name} points in a call, {state} [s]"] = b.median(many, [(points,)], warm=0)
        yield size, figures


CURVES = [
    Curve("text", "kB of text", (125, 250, 500, 1000), (1000, 3000, 9000, 27_000), text),
    Curve("opaque", "kB", (1000, 4000, 16_000, 32_000), (10_000, 40_000, 160_000, 640_000), opaque),
    Curve("nearest", "atoms", (5000, 20_000, 80_000, 160_000), (16_000, 64_000, 250_000, 1_000_000), nearest),
]
