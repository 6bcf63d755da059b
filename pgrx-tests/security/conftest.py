"""Fixtures: stores with every module, and sessions of the roles in these tests."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from databases import make_template
from harness import EXTENSION, Server
from people import ATTACKER, OWNER, PLAIN, meet
from people import template as people_template


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """Name of a database with the extension and a store with all modules, for others to be made from."""
    return make_template(server, "with_all", f"CREATE EXTENSION {EXTENSION}; SELECT modelstore.create_store(modules => ARRAY['all']);")


@pytest.fixture
def place(server: Server, new_database) -> Iterator[str]:
    """Name of a database like the template, where the owner and the attacker may create schemas. A server that a test has crashed is
    waited for."""
    name = new_database(people_template(server))
    meet(server, name, extension=False)
    yield name
    server.wait_ready()


@pytest.fixture
def plain(place: str, connect) -> psycopg.Connection:
    """A session of a role that may connect, and make temporary tables."""
    return connect(dbname=place, user=PLAIN, options="-c statement_timeout=60s")


@pytest.fixture
def attacker(place: str, connect) -> psycopg.Connection:
    """A session of the attacker, on `ms`."""
    return connect(dbname=place, user=ATTACKER, options="-c statement_timeout=60s -c modelstore.store=ms")


@pytest.fixture
def owner(place: str, connect) -> psycopg.Connection:
    """A session of the owner of `store`."""
    return connect(dbname=place, user=OWNER, options="-c statement_timeout=60s")
