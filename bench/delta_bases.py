"""Models how many bytes a long run of checkpoints takes by the rule that chooses the base of a delta when a chain is full.

    python3 bench/delta_bases.py

Prints the table of docs/decisions.md, "The base of a delta": weights of f32 of which a share changes at random with each of 500
checkpoints. A delta costs the entropy of the changed positions and two bytes an element that changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

WHOLE = 0.82  # of the raw bytes, as MiniLM
MAX_DEPTH = 4


@dataclass
class Chunk:
    step: int
    base: Chunk | None
    size: float
    deltas: float = 0.0

    def chain(self) -> list[Chunk]:
        """It and what is below it, down to the root."""
        return [self, *(self.base.chain() if self.base else [])]


def delta(steps: int, share: float) -> float:
    """Of the raw bytes, after so many steps."""
    changed = 1 - (1 - share) ** steps
    entropy = -sum(p * math.log2(p) for p in (changed, 1 - changed) if p > 0)
    return (entropy + 16 * changed) / 32


def the_root(chain: list[Chunk], cost: Callable[[Chunk], float]) -> Chunk | None:
    return chain[-1]


def half_a_root(chain: list[Chunk], cost: Callable[[Chunk], float]) -> Chunk | None:
    return chain[-1] if cost(chain[-1]) < WHOLE / 2 else None


def nearest_with_room(chain: list[Chunk], cost: Callable[[Chunk], float]) -> Chunk | None:
    """As crates/chunk/src/write/bases.rs."""
    return next((chunk for chunk in chain[1:] if chunk.deltas < chunk.size), half_a_root(chain, cost))


def mean(rule: Callable[[list[Chunk], Callable[[Chunk], float]], Chunk | None], share: float) -> float:
    """Of the last 200 of 500 checkpoints, as a multiple of a delta on the one before."""
    last, sizes = Chunk(0, None, WHOLE), []
    for step in range(1, 500):
        chain = last.chain()
        cost = lambda chunk: delta(step - chunk.step, share)  # noqa: B023, E731
        base = last if len(chain) <= MAX_DEPTH else rule(chain, cost)
        size = min(cost(base), WHOLE) if base else WHOLE
        if base and size < WHOLE:
            base.deltas += size
        else:
            base = None
        last = Chunk(step, base, size)
        sizes.append(size)
    return sum(sizes[-200:]) / 200 / delta(1, share)


if __name__ == "__main__":
    print("| changed a step | against the root | a new root at half of its size | nearest chunk with room |\n| --- | --- | --- | --- |")
    for share in (0.0001, 0.001, 0.01, 0.05, 0.2):
        figures = " | ".join(f"{mean(rule, share):.2g}" for rule in (the_root, half_a_root, nearest_with_room))
        print(f"| {share:.2%} | {figures} |")
