"""Roles and databases for the tests of this folder, and the outcome of a statement."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import psycopg
from harness import Server
from models import random_tensor, safetensors_bytes, tiny_gpt2

OWNER, ATTACKER, PLAIN, READER = "people_owner", "people_attacker", "people_plain", "people_reader"
RAN = re.compile(r"^RAN AS (\S+)")


def make_roles(server: Server) -> None:
    """Ordinary roles that may log in, once a server."""
    with server.connect(autocommit=True) as c:
        for name in (OWNER, ATTACKER, PLAIN, READER):
            with contextlib.suppress(psycopg.errors.DuplicateObject):
                c.execute(f"CREATE ROLE {name} LOGIN")


def meet(server: Server, database: str, extension: bool = True) -> None:
    """The owner and the attacker may create schemas in a database."""
    make_roles(server)
    with server.connect(database, autocommit=True) as c:
        c.execute(f"GRANT CREATE ON DATABASE {database} TO {OWNER}, {ATTACKER}")
        if extension:
            c.execute("CREATE EXTENSION IF NOT EXISTS pg_modelstore; GRANT USAGE ON SCHEMA modelstore TO PUBLIC")


def create_store(c: psycopg.Connection, name: str) -> None:
    """With all modules."""
    c.execute("SELECT modelstore.create_store(%s, ARRAY['all'])", (name,))


CONFIG = '{"model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 2, "vocab_size": 40, "n_positions": 12}'
_templates: set[str] = set()


def template(server: Server) -> str:
    """A database with the extension; the owner has the store `store` with a model, the attacker the store `ms` with a model and an
    atom, and functions that say who runs them."""
    name = "people_template"
    if server.name not in _templates:
        with server.connect(autocommit=True) as c:
            c.execute(f"CREATE DATABASE {name}")
        meet(server, name)
        with server.connect(name, user=OWNER, autocommit=True) as c:
            create_store(c, "store")
            c.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (safetensors_bytes({"w": random_tensor(1, 50, 40)}),))
        with server.connect(name, user=ATTACKER, autocommit=True) as c:
            create_store(c, "ms")
            c.execute("SET modelstore.store = 'ms'")
            c.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea, %s::jsonb)", (safetensors_bytes(tiny_gpt2()), CONFIG))
            c.execute("SELECT modelstore.ingest_text('hello world', 'text', 'x')")
            c.execute(TRAP)
        _templates.add(server.name)
    return name


def sqlstate(c: psycopg.Connection, sql: str, arguments: tuple = ()) -> str:
    """The SQLSTATE of a statement, 00000 when it went through. That the server died is a failure by itself."""
    try:
        c.execute(sql.encode() if not arguments else sql, arguments or None)
    except psycopg.Error as e:
        assert e.sqlstate is not None and not c.closed, f"the session died of {sql[:200]}: {e}"
        assert not e.sqlstate.startswith("XX000"), e
        return e.sqlstate
    return "00000"


@contextlib.contextmanager
def ran_as(*connections: psycopg.Connection) -> Iterator[set[str]]:
    """The roles that RAN_AS code of the attacker ran as while the block ran."""
    seen: set[str] = set()

    def notice(diagnostic: psycopg.errors.Diagnostic) -> None:
        if found := RAN.match(diagnostic.message_primary or ""):
            seen.add(found[1])

    for c in connections:
        c.execute("SET client_min_messages = notice")
        c.add_notice_handler(notice)
    try:
        yield seen
    finally:
        for c in connections:
            c.remove_notice_handler(notice)


TRAP = """
    CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC;
    CREATE FUNCTION trap.f() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''RAN AS %'', current_user; RETURN true; END';
    CREATE FUNCTION trap.hidden() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''RAN AS %'', current_user; RETURN false; END';
    CREATE FUNCTION trap.g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''RAN AS %'', current_user; RETURN coalesce(NEW, OLD); END';
    CREATE FUNCTION trap.same(anyelement) RETURNS anyelement LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE NOTICE ''RAN AS %'', current_user; RETURN $1; END';
"""
