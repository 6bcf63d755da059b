"""Fixtures: sessions whose search_path contains the operators of tensor."""

from __future__ import annotations

import psycopg
import pytest


@pytest.fixture
def db(connect) -> psycopg.Connection:
    """As everywhere, and it finds the operators of tensor."""
    return connect(options="-c search_path=public,modelstore")
