"""How much of a random test runs, and with which seed: `make soak` sets more than the suite does."""

from __future__ import annotations

import os


def size(name: str, default: int) -> int:
    """The size of a campaign."""
    return int(os.environ.get(name) or default)


def seed() -> int:
    """The seed of this run."""
    return size("CAMPAIGN_SEED", 20260801)
