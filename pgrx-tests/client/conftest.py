"""Fixtures: the Python client, connected to the test's database; its command."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import pg_modelstore
import pytest
from harness import ROOT

PACKAGE = ROOT / "clients" / "python"


@pytest.fixture
def url(home, dbname: str) -> str:
    """Connection string of the test's database."""
    return f"host={home.server.socket} port={home.server.port} dbname={dbname} user={home.user}"


@pytest.fixture
def client(url: str) -> Iterator[pg_modelstore.Client]:
    """With one connection: nothing may ask for a second one while it holds the first."""
    with pg_modelstore.connect(url, max_size=1) as client:
        yield client


@pytest.fixture
def command(url: str, tmp_path: pathlib.Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """command("ls", …): runs python -m pg_modelstore against the test's database, in a folder of the test."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pg_modelstore", *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(PACKAGE / "src"), "PGMODELSTORE_URL": url, "PGTZ": "UTC"} | environment,
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    return run
