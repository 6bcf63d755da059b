"""Runs the `#[pg_test]` functions, which live in the server, each in a transaction that is rolled back.

They are in the build that `scripts/build.sh pg_test` makes, in the schema `tests`. (`cargo pgrx test` runs them as well,
but not as root.) A test that expects an error says so in its source, `#[pg_test(error = "…")]`; the message has to be
exactly that.
"""

from __future__ import annotations

import ast
import os
import pathlib
import re
import subprocess

import psycopg
import pytest
from databases import make_template
from harness import EXTENSION, ROOT, Server, script

if os.environ.get("PG_VARIANT") != "pg_test":
    pytest.skip("PG_VARIANT=pg_test runs the tests inside the server", allow_module_level=True)

ATTRIBUTES_AND_NAME = re.compile(r"#\[(?:\w+::)*pg_test\b(?:[^\n]*\n)(?:\s*(?:#\[[^\n]*|//[^\n]*)\n)*[^\n]*?\bfn\s+(\w+)")
STRING = r'("(?:[^"\\]|\\.)*")'
EXPECTED = re.compile(rf"(?:#\[(?:\w+::)*pg_test\(\s*(?:error|expected)|should_panic\(\s*expected)\s*=\s*{STRING}", re.DOTALL)


def installed_tests() -> list[str]:
    """Names of the test functions, from the script that CREATE EXTENSION runs."""
    pg_config = script("postgres.sh", os.environ.get("PG") or "18", "pg_test").strip()
    share = subprocess.run([pg_config, "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
    names: set[str] = set()
    for path in pathlib.Path(share, "extension").glob(f"{EXTENSION}--*.sql"):
        names.update(re.findall(r'FUNCTION\s+"?tests"?\."?(\w+)"?\s*\(\)', path.read_text()))
    return sorted(names)


def expectations() -> tuple[dict[str, str], set[str]]:
    """From the sources: the error each test expects, and the tests that are switched off."""
    errors, ignored = {}, set()
    for path in (ROOT / "src").rglob("*.rs"):
        for match in ATTRIBUTES_AND_NAME.finditer(path.read_text()):
            if error := EXPECTED.search(match[0]):
                errors[match[1]] = ast.literal_eval(error[1])
            if "#[ignore" in match[0]:
                ignored.add(match[1])
    return errors, ignored


NAMES = installed_tests()
ERRORS, IGNORED = expectations()


@pytest.fixture(scope="module")
def database(server: Server) -> str:
    return make_template(server, "in_server", f"CREATE EXTENSION {EXTENSION};")


@pytest.mark.parametrize("name", NAMES)
def test_in_server(name: str, server: Server, database: str) -> None:
    if name in IGNORED:
        pytest.skip("#[ignore]")
    query = psycopg.sql.SQL("SELECT tests.{}()").format(psycopg.sql.Identifier(name))
    with server.connect(database) as connection:
        try:
            connection.execute(query)
            raised = None
        except psycopg.Error as error:
            raised = error.diag
        connection.rollback()
    if raised is None:
        assert name not in ERRORS, f"expected the error: {ERRORS[name]}"
    elif raised.message_primary != ERRORS.get(name):
        expected = f"expected the error: {ERRORS[name]}\n" if name in ERRORS else ""
        pytest.fail(f"{expected}{raised.sqlstate}: {raised.message_primary}\n{raised.message_detail or ''}", False)


def test_all_functions_of_the_schema_ran(server: Server, database: str) -> None:
    with server.connect(database) as connection:
        rows = connection.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'tests'::regnamespace")
        assert sorted(name for (name,) in rows) == NAMES
