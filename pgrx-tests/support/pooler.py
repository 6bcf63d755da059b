"""Debian's PgBouncer in transaction mode, in front of a test server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest
from harness import ROOT, Server, script, wait_until

Connect = Callable[..., psycopg.Connection]


def pgbouncer_command() -> str:
    """The command that runs it; skips the test where it is not to be had."""
    try:
        return script("pooler.sh").strip()
    except RuntimeError as e:
        pytest.skip(f"no PgBouncer: {str(e).splitlines()[-1]}")


@contextlib.contextmanager
def pooler(command: str, server: Server, database: str, users: Sequence[str], connections: int = 1) -> Iterator[Connect]:
    """Yields connect(user=users[0]): a client of a pooler that has so many server connections for each user."""
    directory = tempfile.mkdtemp(prefix="pooler")  # a socket's path may have 107 bytes at most
    conf = f"""
[databases]
{database} = host={server.socket} port={server.port} dbname={database}
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = {connections}
logfile = {directory}/log
pidfile = {directory}/pid
"""
    with open(f"{directory}/conf", "w") as file:
        file.write(conf)
    with open(f"{directory}/users", "w") as file:
        file.writelines(f'"{user}" ""\n' for user in users)
    os.chmod(directory, 0o777)
    process = subprocess.Popen(
        ["bash", "-c", '. scripts/lib.sh; as_server "$0" "$1"', command, f"{directory}/conf"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    clients: list[psycopg.Connection] = []

    def connect(user: str = users[0]) -> psycopg.Connection:
        # A transaction pooler cannot keep statements that a client prepares.
        client = psycopg.connect(host=directory, port=6432, dbname=database, user=user, autocommit=True, prepare_threshold=None)
        clients.append(client)
        return client

    def answers() -> bool:
        assert process.poll() is None, open(f"{directory}/log").read()
        try:
            connect()
        except psycopg.OperationalError:
            return False
        return True

    try:
        wait_until(answers, "the pooler answers", 30)
        yield connect
    finally:
        for client in clients:
            client.close()
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(open(f"{directory}/pid").read()), signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(directory, ignore_errors=True)


def ensure_pool_role(server: Server, role: str, database: str) -> None:
    """A role that may log in and create schemas in a database, without settings of its own."""
    with server.connect(autocommit=True) as c:
        c.execute(f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        c.execute(f"ALTER ROLE {role} RESET ALL; GRANT CREATE ON DATABASE {database} TO {role}")
