"""What every test may ask for.

A test that needs a database writes `def test_x(db)`: `db` is a psycopg connection to a database of its own, with the
extension and a store in it. `connect` opens further connections to it, as any role; `server` restarts, crashes, copies
and reads the log of the server; `minilm` is the path of a real model. The server belongs to the test run, and it is an
error when one of its processes dies without a test having said so (`server.crash_expected()`).

A module marked `any_server` runs three times: as the superuser of that server, as an owner without superuser, and on a
server with the settings it comes with. Its tests ask for `db`, `connect` and `new_database`, not for `server`; one that
needs a superuser says `any_server("superuser", "defaults")`.

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

import citus
import psycopg
import pytest
from databases import Home, create_database, ensure_role, make_template, template_again
from harness import EXTENSION, FAST, MAJOR, Server, script

_numbers = itertools.count(1)

HOMES = ("superuser", "owner", "defaults")
# As initdb writes them; what scripts/server.sh and the tests set otherwise is set back.
DEFAULTS = "shared_buffers = 128MB\nmax_wal_size = 1GB\nmax_connections = 100\njit = on\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="golden SQL: write what is expected instead of comparing")


def pytest_report_header() -> str:
    return f"PostgreSQL {MAJOR}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("any_server")
    if marker and "home" in metafunc.fixturenames:
        homes = marker.args or HOMES
        metafunc.parametrize("home", ["superuser"] if citus.USED else homes, indirect=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of this run."""
    _remove_left_behind()
    yield from _run(Server(f"test-{os.getpid()}", FAST + citus.CONF) if citus.USED else Server(f"test-{os.getpid()}"))


@pytest.fixture(scope="session")
def server_with_defaults(server: Server) -> Iterator[Server]:
    """One with the settings PostgreSQL comes with."""
    yield from _run(Server(f"{server.name}-defaults", DEFAULTS))


def _run(server: Server) -> Iterator[Server]:
    server.start()
    try:
        if citus.USED:
            citus.trust(server.data)
            server.restart()
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
    script = f"CREATE EXTENSION {EXTENSION}; SELECT modelstore.create_store();"
    if citus.USED:
        script = citus.SETUP + script + citus.DISTRIBUTE
    return make_template(server, "with_store", script)


@pytest.fixture
def home(request: pytest.FixtureRequest, server: Server, template: str) -> Home:
    """Where the test's databases are, and whose: the superuser's on the server of this run, unless the module is marked `any_server`."""
    kind = getattr(request, "param", "superuser")
    if kind == "owner":
        ensure_role(server, "plain_owner")
        return Home(server, "plain_owner", template_again(server, template, owner="plain_owner"))
    if kind == "defaults":
        defaults = request.getfixturevalue("server_with_defaults")
        return Home(defaults, "postgres", template_again(defaults, template, icu=True))
    return Home(server, "postgres", template)


@pytest.fixture
def new_database(home: Home) -> Iterator[Callable[..., str]]:
    """new_database(template='template1'): makes a database and returns its name; it is dropped after the test."""
    made: list[str] = []

    def make(template: str = "template1") -> str:
        name = f"test_{next(_numbers)}"
        made.append(name)
        create_database(home.server, name, template, home.user)
        return name

    yield make
    with home.server.connect(autocommit=True) as c:
        for name in made:
            c.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(psycopg.sql.Identifier(name)))


@pytest.fixture
def dbname(new_database: Callable[..., str], home: Home) -> str:
    """Name of a fresh database with the extension and a store."""
    return new_database(home.template)


@pytest.fixture
def connect(home: Home, dbname: str) -> Iterator[Callable[..., psycopg.Connection]]:
    """connect(user=…, dbname=…, autocommit=True, **options): a connection, by default to the test's database."""
    opened: list[psycopg.Connection] = []

    def open_connection(user: str = home.user, autocommit: bool = True, **options) -> psycopg.Connection:
        options = {"dbname": dbname, "user": user, "autocommit": autocommit} | options
        opened.append(home.server.connect(**options))
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
