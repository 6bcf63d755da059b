"""Databases of a test server."""

from __future__ import annotations

import psycopg
from harness import Server


def make_template(server: Server, name: str, sql: str) -> str:
    """Makes a database by a script."""
    with server.connect(autocommit=True) as c:
        c.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    server.psql(sql, name)
    return name


def create_database(server: Server, name: str, template: str) -> None:
    """CREATE DATABASE from a template. Copying files is the quick way where nothing is synced to disk."""
    statement = psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    with server.connect(autocommit=True) as c:
        c.execute(statement.format(psycopg.sql.Identifier(name), psycopg.sql.Identifier(template)))
