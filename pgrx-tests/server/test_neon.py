"""Neon's PostgreSQL is one with changed headers: another name of its binary interface, so that it loads nothing that was built for
PostgreSQL, and a storage manager that is told a relation's persistence. A copy of this PostgreSQL with headers changed
likewise stands for it here; the server that is asked about the library is PostgreSQL's own.

Compiles pgrx and the extension, which takes minutes; pgrx stays compiled for the next time.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

import psycopg
import pytest
from harness import EXTENSION, MAJOR, script

pytestmark = [pytest.mark.builds, pytest.mark.slow]

NAME = "Neon Postgres"
CHANGES = {
    "pg_config_manual.h": [(r'(#define FMGR_ABI_EXTRA\s+)"PostgreSQL"', rf'\1"{NAME}"')],
    "storage/smgr.h": [
        (r"(extern SMgrRelation smgropen\([^)]*)\)", r"\1, char relpersistence)"),
        (r"(\bsmgr_r(?:locator|node);[^\n]*\n)", r"\1\tchar\t\tsmgr_relpersistence;\n"),
    ],
    "utils/rel.h": [(r"(smgropen\(rel->rd_(?:locator|node), rel->rd_backend)\)", r"\1, rel->rd_rel->relpersistence)")],
}


@pytest.fixture(scope="module")
def pg_config() -> str:
    """That of the copy. It stays where it is, so that what is built for it is built once."""
    if os.environ.get("PG_CONFIG"):
        pytest.skip("changes headers, which are the user's")
    copy = script("postgres.sh", str(MAJOR), "neon").strip()
    original = script("postgres.sh", str(MAJOR)).strip()
    for name, changes in CHANGES.items():
        text = (_ask(original, "--includedir-server") / name).read_text()
        for pattern, replacement in changes:
            text, times = re.subn(pattern, replacement, text)
            assert times == 1, (name, pattern)
        changed = _ask(copy, "--includedir-server") / name
        if changed.read_text() != text:
            changed.write_text(text)
    return copy


def test_build_without_the_feature_is_refused(pg_config: str) -> None:
    with pytest.raises(RuntimeError) as refusal:
        _build(pg_config, "")
    assert "these headers are of a fork of PostgreSQL: for Neon build with the feature `neon`" in str(refusal.value)


def test_build_with_the_feature_is_of_that_name(pg_config: str, server) -> None:
    """It is installed, and PostgreSQL's own server says what it is."""
    _build(pg_config, "neon")
    library = _ask(pg_config, "--pkglibdir") / f"{EXTENSION}.so"
    with server.connect() as c, pytest.raises(psycopg.Error) as refusal:
        c.execute(psycopg.sql.SQL("LOAD {}").format(str(library)))
    assert "ABI mismatch" in refusal.value.diag.message_primary
    assert refusal.value.diag.message_detail == f'Server has ABI "PostgreSQL", library has "{NAME}".'


def _build(pg_config: str, features: str) -> None:
    """As `make install PG_CONFIG=… FEATURES=…` does, in cargo's quickest profile."""
    script("build.sh", PG_CONFIG=pg_config, PG=str(MAJOR), FEATURES=features, PROFILE="dev")


def _ask(pg_config: str, what: str) -> pathlib.Path:
    return pathlib.Path(subprocess.run([pg_config, what], capture_output=True, text=True, check=True).stdout.strip())
