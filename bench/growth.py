"""How a cost grows with a size: the exponent of the power law that fits best, and figures to print."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

# The costs at one size: "import [s]": 1.2, "import, WAL [B]": 5e6. The unit is s for seconds, B for bytes or empty for a number.
Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Curve:
    """Costs at growing sizes. `measure` is given a server with a new store and the sizes, and yields each with its costs."""

    name: str
    size: str
    quick: tuple[int, ...]
    full: tuple[int, ...]
    measure: Callable[[Any, tuple[int, ...]], Iterator[tuple[int, Figures]]]


def exponent(sizes: list[float], costs: list[float]) -> float:
    """The slope of the line that fits log cost over log size by least squares: 1 is linear, 0 does not grow. NaN where a
    cost is zero or there are no two sizes."""
    if min(costs) <= 0 or len(set(sizes)) < 2:
        return math.nan
    return statistics.linear_regression([math.log(s) for s in sizes], [math.log(c) for c in costs]).slope


def shown(cost: float, unit: str) -> str:
    """A cost with a unit in which it has one to four digits before the point."""
    steps = {"s": [(1, "s"), (1e-3, "ms"), (1e-6, "us")], "B": [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")], "": [(1, "")]}[unit]
    factor, name = next((step for step in steps if abs(cost) >= step[0]), steps[-1])
    value = cost / factor
    digits = 0 if value >= 100 or not unit else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {name}".strip()


def rows(curve: Curve, points: list[tuple[int, Figures]]) -> list[tuple[str, ...]]:
    """A row for each cost: curve, cost, sizes, cost at the smallest and the largest, exponent over all sizes and over the
    last two, which fixed costs hide less."""
    found = []
    for title in points[0][1]:
        name, _, unit = title.partition(" [")
        sizes = [float(size) for size, _ in points]
        costs = [figures[title] for _, figures in points]
        found.append((
            curve.name,
            name,
            f"{sizes[0]:,.0f} … {sizes[-1]:,.0f} {curve.size}",
            shown(costs[0], unit.rstrip("]")),
            shown(costs[-1], unit.rstrip("]")),
            f"{exponent(sizes, costs):.2f}",
            f"{exponent(sizes[-2:], costs[-2:]):.2f}",
        ))  # fmt: skip
    return found
