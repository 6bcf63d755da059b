"""Databases of a test server."""

from __future__ import annotations

from dataclasses import dataclass

import citus
import psycopg
from harness import Server
from psycopg.sql import SQL, Identifier

_scripts: dict[str, str] = {}
_made: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Home:
    """Where the databases of a test are, whose they are, and what they are copies of."""

    server: Server
    user: str
    template: str


def make_template(server: Server, name: str, sql: str, owner: str = "postgres", locale: str = "") -> str:
    """Makes a database by a script that its owner runs."""
    with server.connect(autocommit=True) as c:
        c.execute(SQL("CREATE DATABASE {} OWNER {} {}").format(Identifier(name), Identifier(owner), SQL(locale)))
    server.psql(sql, name, "-U", owner)
    _scripts[name] = sql
    return name


def template_again(server: Server, template: str, owner: str = "postgres", icu: bool = False) -> str:
    """The same template of another owner, or on another server; there in a language's order, where the server knows ICU."""
    name = f"{template}_of_{owner}"
    if (server.name, name) not in _made:
        script = _scripts[template]
        try:
            make_template(server, name, script, owner, ICU if icu else "")
        except psycopg.errors.FeatureNotSupported:
            make_template(server, name, script, owner)
        _made.add((server.name, name))
    return name


ICU = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-AT'"


def ensure_role(server: Server, name: str) -> None:
    """A role that may log in and nothing else."""
    with server.connect(autocommit=True) as c:
        if not c.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
            c.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(name)))


def create_database(server: Server, name: str, template: str, owner: str = "postgres") -> None:
    """CREATE DATABASE from a template. Copying files is the quick way where nothing is synced to disk."""
    statement = SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy")
    with server.connect(autocommit=True) as c:
        if citus.USED:
            citus.leave(c, template)
        c.execute(statement.format(Identifier(name), Identifier(template), Identifier(owner)))


def fresh_copy(server: Server, template: str, name: str) -> str:
    """A database of this name for the tests of a module. Another process may have taken the rest of them and given them back."""
    with server.connect(autocommit=True) as c:
        c.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
    create_database(server, name, template)
    return name
