"""Nearest-neighbour searches, and points to search from."""

from __future__ import annotations

import numpy as np
from atoms import Connection, Key
from clouds import LAST, Cloud

CORNERS = [(0, 0, 0, 0), (LAST, LAST, LAST, LAST), (0, LAST, 0, LAST), (LAST, 0, 0, 0)]


def by_point(db: Connection, point: object, k: int, modality: str | None = None) -> list[tuple]:
    rows = db.execute("SELECT * FROM modelstore.nearest_points(%s::integer[], %s, %s)", ([int(c) for c in point], k, modality)).fetchall()
    assert {row[0] for row in rows} <= {1}
    return [row[1:] for row in rows]


def by_array(db: Connection, points: np.ndarray, k: int, modality: str | None = None) -> list[list[tuple]]:
    found: list[list[tuple]] = [[] for _ in points]
    last = 0
    for index, *rest in db.execute("SELECT * FROM modelstore.nearest_points(%s::integer[], %s, %s)", (np.asarray(points).tolist(), k, modality)):
        assert index >= last
        last = index
        found[index - 1].append(tuple(rest))
    return found


def by_atom(db: Connection, key: Key, k: int, modality: str | None = None) -> list[tuple]:
    return db.execute("SELECT * FROM modelstore.nearest(ROW(%s, %s, %s)::modelstore.atom, %s, %s)", (*key, k, modality)).fetchall()


def questions(cloud: Cloud, rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Places to ask about: of atoms, near them, between two of them, anywhere, and corners of the space."""
    n = rng.integers(0, len(cloud.points), (count, 2))
    a, b = cloud.points[n[:, 0]], cloud.points[n[:, 1]]
    near = np.clip(a + rng.integers(-3, 4, a.shape), 0, LAST)
    return [np.array(c) for c in CORNERS] + [q for kind in (a, near, (a + b) // 2, rng.integers(0, LAST + 1, a.shape)) for q in kind]
