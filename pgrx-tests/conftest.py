"""What every test may ask for.

A test that needs a database writes `def test_x(db)`: `db` is a psycopg connection to a database of its own, with the
extension and a store in it. `connect` opens further connections to it, as any role; `server` restarts, crashes, copies
and reads the log of the server; `minilm` is the path of a real model. The server belongs to the test run, and it is an
error when one of its processes dies without a test having said so (`server.crash_expected()`).

    make pytest ARGS="pgrx-tests/server/test_regress.py"            one file, PostgreSQL 18
    make pytest ARGS="pgrx-tests -m 'not slow'" PG=15        the quick ones, PostgreSQL 15
    KEEP_SERVER=1 make pytest ARGS=…                         leaves the server up, to look at afterwards
"""

from __future__ import annotations

import itertools
import os
import pathlib
import re
from collections.abc import Callable, Iterator

import psycopg
import pytest
from databases import create_database, make_template
from harness import EXTENSION, MAJOR, Server, script

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="golden SQL: write what is expected instead of comparing")


def pytest_report_header() -> str:
    return f"PostgreSQL {MAJOR}"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of this run."""
    _remove_left_behind()
    server = Server(f"test-{os.getpid()}").start()
    try:
        yield server
        crashes = server.crashes()
        assert not crashes, "processes of the server died:\n" + "\n".join(crashes) + "\n\n" + server.log_since()[-5000:]
    finally:
        if os.environ.get("KEEP_SERVER"):
            print(f"\nkept: SERVER={server.name} scripts/server.sh psql")
        else:
            server.remove()


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """Name of a database with the extension and a store, for others to be made from."""
    return make_template(server, "with_store", f"CREATE EXTENSION {EXTENSION}; SELECT modelstore.create_store();")


@pytest.fixture
def new_database(server: Server) -> Iterator[Callable[..., str]]:
    """new_database(template='template1'): makes a database and returns its name; it is dropped after the test."""
    made: list[str] = []

    def make(template: str = "template1") -> str:
        name = f"test_{next(_numbers)}"
        made.append(name)
        create_database(server, name, template)
        return name

    yield make
    with server.connect(autocommit=True) as c:
        for name in made:
            c.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(psycopg.sql.Identifier(name)))


@pytest.fixture
def dbname(new_database: Callable[..., str], template: str) -> str:
    """Name of a fresh database with the extension and a store."""
    return new_database(template)


@pytest.fixture
def connect(server: Server, dbname: str) -> Iterator[Callable[..., psycopg.Connection]]:
    """connect(user=…, dbname=…, autocommit=True, **options): a connection, by default to the test's database."""
    opened: list[psycopg.Connection] = []

    def open_connection(user: str = "postgres", autocommit: bool = True, **options) -> psycopg.Connection:
        options = {"dbname": dbname, "user": user, "autocommit": autocommit} | options
        opened.append(server.connect(**options))
        return opened[-1]

    yield open_connection
    for connection in opened:
        connection.close()


@pytest.fixture
def db(connect: Callable[..., psycopg.Connection]) -> psycopg.Connection:
    """A connection, in autocommit mode, to a fresh database with the extension and a store."""
    return connect()


@pytest.fixture(scope="session")
def minilm() -> pathlib.Path:
    """all-MiniLM-L6-v2 as a safetensors file of 90.9 MB; its config.json lies beside it."""
    return pathlib.Path(script("model.sh").strip())


def _remove_left_behind() -> None:
    """Removes servers of runs that were killed."""
    state = pathlib.Path(__file__).resolve().parent.parent / ".local" / "state" / "servers"
    for directory in state.glob("test-*"):
        match = re.match(r"test-(\d+)", directory.name)
        if match and not pathlib.Path("/proc", match[1]).exists() and not os.environ.get("KEEP_SERVER"):
            Server(directory.name).remove()
