"""Golden SQL: what psql prints for tests/pg_regress/sql/NAME.sql is tests/pg_regress/expected/NAME.out, on every
supported PostgreSQL.

setup.sql comes first; every other file runs in its own copy of the database that setup.sql has made. Errors show their
SQLSTATE, DETAIL and HINT. A file without an expected output fails; `scripts/regress.sh --accept NAME` writes it.
"""

from __future__ import annotations

import difflib
import re
import subprocess

import pytest
from databases import create_database
from harness import ROOT, Server

pytestmark = pytest.mark.versioned

FOLDER = ROOT / "tests" / "pg_regress"
NAMES = sorted(p.stem for p in (FOLDER / "sql").glob("*.sql"))
SETUP = "regress_setup"

# Where in the sources of the server or the extension an error was raised.
LOCATION = re.compile(r"^LOCATION:  .*\n", re.MULTILINE)


def run_file(server: Server, name: str, database: str) -> str:
    """What psql prints, statements included."""
    with (FOLDER / "sql" / f"{name}.sql").open() as sql:
        done = server.run(
            "psql", "-X", "-a", "-q", "-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=never",
            dbname=database, stdin=sql, stderr=subprocess.STDOUT, cwd=FOLDER,
        )  # fmt: skip
    return LOCATION.sub("", done.stdout)


@pytest.fixture(scope="session")
def setup_output(server: Server) -> str:
    """What setup.sql prints, in the database that the other files get copies of."""
    create_database(server, SETUP, "template1")
    return run_file(server, "setup", SETUP)


@pytest.mark.parametrize("name", NAMES)
def test_golden_sql(name: str, server: Server, setup_output: str, new_database, pytestconfig: pytest.Config) -> None:
    printed = setup_output if name == "setup" else run_file(server, name, new_database(SETUP))
    results = FOLDER / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.out").write_text(printed)
    expected = FOLDER / "expected" / f"{name}.out"
    if pytestconfig.getoption("--accept"):
        expected.parent.mkdir(exist_ok=True)
        expected.write_text(printed)
    if not expected.exists():
        pytest.fail(f"nothing is expected yet; read results/{name}.out, then scripts/regress.sh --accept {name}", False)
    if printed != (wanted := expected.read_text()):
        lines = difflib.unified_diff(
            wanted.splitlines(True), printed.splitlines(True), f"expected/{name}.out", f"results/{name}.out"
        )
        pytest.fail("".join(lines), False)


def test_every_expected_output_has_its_file() -> None:
    assert {p.stem for p in (FOLDER / "expected").glob("*.out")} <= set(NAMES)
