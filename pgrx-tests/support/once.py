"""A progress function that does something in the middle of a transfer."""

from __future__ import annotations

from collections.abc import Callable


class Once:
    """A progress function that does something the first time a position is passed, and remembers all positions."""

    def __init__(self, position: int, action: Callable[[], object] | None) -> None:
        self.position, self.action, self.seen = position, action, []

    def __call__(self, name: str, at: int, total: int) -> None:
        self.seen.append(at)
        if at >= self.position and self.action is not None:
            action, self.action = self.action, None
            action()
