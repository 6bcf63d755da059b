"""Measures the costs and benefits of different numbers of partitions of atoms, for the recommendation in docs/atoms.md."""

from __future__ import annotations

import statistics

import numpy as np
from atom_places import LAST, each, points, seconds

COUNTS = (8, 32, 64, 256)
ATOMS = 300_000


def bench_partitions(b) -> None:
    """One store a number; atoms of all modalities, uniform. Every number is measured in each round."""
    figures: dict[int, dict[str, list[float]]] = {count: {} for count in COUNTS}
    rng = np.random.default_rng(11)
    found = points("uniform", ATOMS, rng)
    b.db.execute("DROP TABLE IF EXISTS places")
    b.db.execute("CREATE TABLE places (modality text, x int, y int, z int, m int)")
    names = ("text", "audio", "image", "video", "tensor", "code", "structured", "other")
    with b.db.cursor() as cursor, cursor.copy("COPY places FROM STDIN") as out:
        for number, row in enumerate(found.tolist()):
            out.write_row((names[number % 8], *row))
    asked = [([int(c) for c in point], "text") for point in rng.integers(0, LAST + 1, (1000, 4))]
    for _ in range(b.rounds):
        for count in COUNTS:
            times = figures[count]
            note = lambda what, value, times=times: times.setdefault(what, []).append(value)
            if b.value("SELECT count(*) FROM modelstore.stores() WHERE store = 'partitioned'"):
                b.db.execute("SELECT modelstore.drop_store('partitioned', true)")
            b.db.execute("SELECT modelstore.create_store('partitioned')")
            note("created", 1000 * seconds(lambda: b.db.execute("SELECT modelstore.add_module('atoms', 'partitioned', %s)", (count,))))
            insert = """
                INSERT INTO partitioned.atoms (h_xy, h_yz, h_zm, modality, content_hash, byte_length)
                SELECT DISTINCT k.h_xy, k.h_yz, k.h_zm, k.h_xy >> 56, decode(repeat('00', 32), 'hex'), 0
                FROM places p, modelstore.atom_key(p.modality, p.x, p.y, p.z, p.m) k
            """
            note("rows", ATOMS / seconds(lambda: b.db.execute(insert)))
            b.db.execute("VACUUM ANALYZE partitioned.atoms")
            b.db.execute("SET modelstore.store = 'partitioned'")
            note("nearest", each(b.db, "SELECT * FROM modelstore.nearest_points(%s::int[], 10, %s)", asked))
            note("all", each(b.db, "SELECT * FROM modelstore.nearest_points(%s::int[], 10)", [(point,) for point, _ in asked]))
            b.db.execute("RESET modelstore.store")
            with b.db.transaction():
                plan = b.db.execute("EXPLAIN (FORMAT json, SUMMARY) SELECT count(*) FROM partitioned.atoms").fetchone()[0]
                note("planned", plan[0]["Planning Time"])
                note("locks", b.value("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"))
    if b.value("SELECT count(*) FROM modelstore.stores() WHERE store = 'partitioned'"):
        b.db.execute("SELECT modelstore.drop_store('partitioned', true)")
    for count, times in figures.items():
        m = {what: statistics.median(values) for what, values in times.items()}
        b.report(
            f"atoms in {count} partitions",
            f"created in {m['created']:.0f} ms; {m['rows']:,.0f} rows/s in; nearest {m['nearest']:.0f} us, of all modalities {m['all']:.0f} us",
            f"count(*) planned in {m['planned']:.1f} ms, {m['locks']:.0f} locks",
            "",
        )


def bench_stores(b) -> None:
    """The first store, and the fortieth."""
    times = []
    for number in range(40):
        times.append(1000 * seconds(lambda: b.db.execute("SELECT modelstore.create_store(%s)", (f"store_{number}",))))
    size = b.value("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'store_0'::regnamespace AND relkind = 'r'")
    for number in range(40):
        b.db.execute("SELECT modelstore.drop_store(%s)", (f"store_{number}",))
    b.report(
        "create_store",
        f"{statistics.median(times[:5]):.0f} ms the first, {statistics.median(times[-5:]):.0f} ms the fortieth",
        f"{size / 1024:.0f} kB",
        "60 ms, 1 MB",
    )
