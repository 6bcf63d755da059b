"""Atoms at chosen coordinates, and brute-force searches over them."""

from __future__ import annotations

import numpy as np
from atoms import MODALITIES, Connection, Key

LAST = 2**28 - 1


class Cloud:
    """The atoms of a store as they are now, in the order of their keys."""

    def __init__(self, db: Connection) -> None:
        rows = db.execute("""
            SELECT a.h_xy, a.h_yz, a.h_zm, a.modality, p.x, p.y, p.z, p.m
            FROM store.atoms a, modelstore.atom_point(a.h_xy, a.h_yz, a.h_zm) p ORDER BY 1, 2, 3
        """).fetchall()
        table = np.array(rows, dtype=np.int64).reshape(-1, 8)
        self.keys: list[Key] = [Key(*row[:3]) for row in rows]
        self.modalities, self.points = table[:, 3], table[:, 4:]
        self.number = {key: n for n, key in enumerate(self.keys)}

    def of_modality(self, modality: str | None) -> np.ndarray:
        """Numbers of the atoms of a modality, of all for none."""
        return np.flatnonzero((self.modalities == MODALITIES.index(modality)) if modality else self.modalities >= 0)

    def squares(self, point: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return ((self.points[numbers] - np.asarray(point, dtype=np.int64)) ** 2).sum(axis=1)

    def nearest(self, point: np.ndarray, k: int, modality: str | None = None) -> list[tuple[int, int, int, float]]:
        """Key and distance of the k nearest: of those as near, smaller coordinates first, then the lower modality."""
        numbers = self.of_modality(modality)
        squares = self.squares(point, numbers)
        x, y, z, m = self.points[numbers].T
        order = np.lexsort((self.modalities[numbers], m, z, y, x, squares))[:k]
        return [(*self.keys[numbers[n]], float(np.sqrt(np.float64(squares[n])))) for n in order]

    def in_ball(self, point: np.ndarray, radius: float, modality: str | None = None) -> list[Key]:
        numbers = self.of_modality(modality)
        inside = np.sqrt(self.squares(point, numbers).astype(np.float64)) <= radius
        return [self.keys[n] for n in numbers[inside]]

    def in_box(self, low: np.ndarray, high: np.ndarray, modality: str | None = None) -> list[Key]:
        numbers = self.of_modality(modality)
        inside = ((self.points[numbers] >= low) & (self.points[numbers] <= high)).all(axis=1)
        return [self.keys[n] for n in numbers[inside]]


def put(db: Connection, points: np.ndarray, modality: str | list[str] = "other") -> None:
    """Rows of atoms at these places, each place once."""
    names = [modality] * len(points) if isinstance(modality, str) else modality
    columns = np.asarray(points, dtype=np.int64).T.tolist()
    db.execute(
        """
        INSERT INTO store.atoms (h_xy, h_yz, h_zm, modality, content_hash, byte_length)
        SELECT DISTINCT k.h_xy, k.h_yz, k.h_zm, k.h_xy >> 56, decode(repeat('00', 32), 'hex'), 0
        FROM unnest(%s::text[], %s::integer[], %s::integer[], %s::integer[], %s::integer[]) AS p(modality, x, y, z, m),
             modelstore.atom_key(p.modality, p.x, p.y, p.z, p.m) k
        ON CONFLICT DO NOTHING
        """,
        (names, *columns),
    )


def make(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points of a kind of cloud."""
    if kind == "uniform":
        return rng.integers(0, LAST + 1, (count, 4))
    if kind == "clustered":
        centers = rng.integers(0, LAST + 1, (20, 4))
        spread = 10.0 ** rng.uniform(1, 7, (20, 1))
        which = rng.integers(0, 20, count)
        return np.clip(centers[which] + rng.normal(0, 1, (count, 4)) * spread[which], 0, LAST).astype(np.int64)
    if kind == "one place":
        # One cell of the index, 2^13 wide, with many ties.
        return (np.array([5, 3, 9, 1]) << 20) + rng.integers(0, 12, (count, 4))
    if kind == "one column":
        # The same x, y and z, as texts of the same first words have them.
        return np.column_stack([np.full((count, 3), 123_456_789), rng.integers(0, LAST + 1, count)])
    if kind == "line":
        # Through all partitions of the diagonal, evenly spaced: the neighbours to both sides are as near.
        return np.linspace(0, LAST, count).astype(np.int64)[:, None] * np.ones(4, dtype=np.int64)
    if kind == "grid":
        # The same distances again and again, across the borders of partitions.
        steps = np.arange(8) * (2**28 // 8) + 2**28 // 16
        return np.stack(np.meshgrid(*[steps] * 4), axis=-1).reshape(-1, 4)[:count]
    raise ValueError(kind)
