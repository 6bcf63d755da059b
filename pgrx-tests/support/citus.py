"""Runs tests on stores that Citus has distributed. With CITUS set, each database is a cluster of one node.

PG_CONFIG names a PostgreSQL that has Citus: scripts/citus_check.sh.
"""

from __future__ import annotations

import os
import pathlib

import psycopg
from harness import wait_until

USED = bool(os.environ.get("CITUS"))

CONF = "shared_preload_libraries = citus\nmax_prepared_transactions = 100\ncitus.max_cached_conns_per_worker = 0\n"

SETUP = """
    CREATE EXTENSION citus;
    SELECT citus_set_coordinator_host('localhost', current_setting('port')::integer);
    SELECT citus_set_node_property('localhost', current_setting('port')::integer, 'shouldhaveshards', true);
"""

DISTRIBUTE = "SELECT modelstore.distribute_store();"


def trust(data: pathlib.Path) -> None:
    """Lets the nodes connect to each other without a password."""
    rules = data / "pg_hba.conf"
    rules.write_text(rules.read_text().replace("scram-sha-256", "trust"))


def leave(db: psycopg.Connection, template: str) -> None:
    """Ends the sessions of Citus in a template, which nothing else uses."""
    db.execute(f"ALTER DATABASE {template} ALLOW_CONNECTIONS false".encode())
    sessions = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
    wait_until(lambda: db.execute(sessions, (template,)).fetchone() == (0,), "nobody uses the template")
