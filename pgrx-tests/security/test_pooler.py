"""Behind a transaction pooler (Debian's PgBouncer, one server connection for all clients): SET affects other clients, and the
documented ways to select a store do not (README, docs/security.md)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pg_modelstore
import psycopg
import pytest
from harness import wait_until
from models import random_tensor, safetensors_bytes
from pooler import ensure_pool_role, pgbouncer_command, pooler

STORES = ("first_store", "second_store")
ROLES = ("pool_one", "pool_two")


@pytest.fixture(scope="module")
def pgbouncer() -> str:
    """The command."""
    return pgbouncer_command()


@pytest.fixture
def pooled(pgbouncer: str, server, new_database) -> Iterator[Callable[..., psycopg.Connection]]:
    """pooled(user): a client of a pooler that has one server connection for each user; the database has two stores."""
    database = new_database()
    for role in ROLES:
        ensure_pool_role(server, role, database)
    with server.connect(database, autocommit=True) as c:
        c.execute("CREATE EXTENSION pg_modelstore")
    with server.connect(database, user="pool_one", autocommit=True) as c:
        for store in STORES:
            c.execute("SELECT modelstore.create_store(%s)", (store,))
            c.execute(f"GRANT USAGE ON SCHEMA {store} TO pool_two; GRANT SELECT ON ALL TABLES IN SCHEMA {store} TO pool_two")
    with pooler(pgbouncer, server, database, ROLES) as connect:
        yield connect
    with server.connect(autocommit=True) as c:
        c.execute("ALTER ROLE pool_one RESET ALL; ALTER ROLE pool_two RESET ALL")


CURRENT = "SELECT store FROM modelstore.stores() WHERE is_current"


def test_set_of_one_client_reaches_another(pooled) -> None:
    """Why SET is no way to name a store here. When this fails, the pooler has learned better, and the documentation may say so."""
    one, two = pooled(), pooled()
    moved = 0
    for i in range(30):
        one.execute(f"SET modelstore.store = '{STORES[i % 2]}'")
        moved += two.execute(CURRENT).fetchone() == (STORES[i % 2],)
    assert moved == 30


def test_set_local_stays_within_its_transaction(pooled) -> None:
    one, two = pooled(), pooled()
    data = safetensors_bytes({"w": random_tensor(1, 200, 100)})
    for i in range(30):
        mine = STORES[i % 2]
        with one.transaction():
            if i % 3:
                one.execute(f"SET LOCAL modelstore.store = '{mine}'")
            else:
                one.execute("SELECT set_config('modelstore.store', %s, true)", (mine,))
            assert one.execute(CURRENT).fetchone() == (mine,)
            (model,) = one.execute("SELECT model_id FROM modelstore.import_safetensors('m', %s, %b::bytea)", (str(i), data)).fetchone()
        assert two.execute(CURRENT).fetchone() is None
        with pytest.raises(psycopg.errors.InvalidSchemaName):
            two.execute("SELECT modelstore.find_model('m')")
        with two.transaction():
            two.execute(f"SET LOCAL modelstore.store = '{mine}'")
            parts = two.execute("SELECT modelstore.export_safetensors(%s)", (model,), binary=True).fetchall()
        assert hashlib.sha256(b"".join(p for (p,) in parts)).digest() == hashlib.sha256(data).digest()


def reconnected(pooled, user: str) -> psycopg.Connection:
    """A client after server connections have been ended, which the pooler may not have noticed yet."""
    clients = []

    def works() -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            client = pooled(user)
            client.execute("SELECT 1")
            clients.append(client)
        return bool(clients)

    wait_until(works, "the pooler has a new server connection")
    return clients[0]


@pytest.mark.parametrize("whose", ["ALTER ROLE {role} SET", "ALTER ROLE {role} IN DATABASE {database} SET", "ALTER DATABASE {database} SET"])
def test_a_role_or_a_database_has_its_store(whose: str, server, pooled) -> None:
    database = pooled().info.dbname
    with server.connect(database, autocommit=True) as c:
        c.execute(whose.format(role="pool_one", database=database) + f" modelstore.store = '{STORES[0]}'")
        if not whose.startswith("ALTER DATABASE"):
            c.execute(whose.format(role="pool_two", database=database) + f" modelstore.store = '{STORES[1]}'")
        # Server connections that the pooler has already are of before.
        c.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename LIKE 'pool\\_%'")
    one, two = reconnected(pooled, "pool_one"), reconnected(pooled, "pool_two")
    for _ in range(10):
        assert one.execute(CURRENT).fetchone() == (STORES[0],)
        assert two.execute(CURRENT).fetchone() == (STORES[0 if whose.startswith("ALTER DATABASE") else 1],)


def test_a_role_gives_itself_a_store(pooled, server) -> None:
    """Without superuser: the library must be loaded for PostgreSQL to know the setting, which any of its functions does."""
    one = pooled()
    database = one.info.dbname
    with one.transaction():
        one.execute("SELECT * FROM modelstore.stores()")
        one.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {database} SET modelstore.store = '{STORES[1]}'")
    with server.connect(database, autocommit=True) as c:
        c.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'pool_one'")
    assert reconnected(pooled, "pool_one").execute(CURRENT).fetchone() == (STORES[1],)


def test_an_upload_is_spread_over_transactions(pooled) -> None:
    """Nothing but the setting ties a client to its session: an upload goes on through whichever connection there is."""
    one, two = pooled(), pooled("pool_one")
    data = safetensors_bytes({"w": random_tensor(2, 300, 100)})
    use = f"SELECT set_config('modelstore.store', '{STORES[0]}', true)"
    with one.transaction():
        one.execute(use)
        (upload,) = one.execute("SELECT modelstore.begin_upload()").fetchone()
    for at in range(0, len(data), 40_000):
        client = (one, two)[at // 40_000 % 2]
        with client.transaction():
            client.execute(use)
            client.execute("SELECT modelstore.append_upload(%s, %b)", (upload, data[at : at + 40_000]))
    with two.transaction():
        two.execute(use)
        (model,) = two.execute("SELECT model_id FROM modelstore.finish_upload(%s, 'u', '1')", (upload,)).fetchone()
        parts = two.execute("SELECT modelstore.export_safetensors(%s)", (model,), binary=True).fetchall()
    assert b"".join(p for (p,) in parts) == data


def test_no_warnings_behind_a_pooler(pooled) -> None:
    one = pooled()
    notices: list[str] = []
    one.add_notice_handler(lambda d: notices.append(f"{d.severity} {d.message_primary}"))
    with one.transaction():
        one.execute(f"SET LOCAL modelstore.store = '{STORES[0]}'")
        one.execute("SELECT modelstore.import_safetensors('m', '1', %b::bytea)", (safetensors_bytes({"w": random_tensor(1, 9)}),))
        one.execute("SELECT * FROM modelstore.gc()")
    assert [n for n in notices if n.startswith("WARNING")] == []


def test_the_python_client_stays_in_its_store(pooled) -> None:
    """Two clients with a store each push, train and read in turns over one server connection."""
    info = pooled().info
    url = f"host={info.host} port={info.port} dbname={info.dbname} user={info.user}"
    with pg_modelstore.connect(url, store=STORES[0]) as one, pg_modelstore.connect(url, store=STORES[1]) as two:
        for version in map(str, range(3)):
            for number, client in enumerate((one, two)):
                state = {"w": random_tensor(number, 200, 100), "big": random_tensor(10 * int(version) + number, 1024, 600)}
                client.models.push(state, f"m:{version}")
                with client.training(f"m:{version}", "run") as run:
                    run.log(1, loss=number)
                    run.checkpoint(1, state)
        for number, client in enumerate((one, two)):
            assert np.array_equal(client.tensors.get("m", "w"), random_tensor(number, 200, 100))
            assert client.schema == STORES[number] and len(client.models.list()) == 3 and client.models.verify() == []
            assert client.query(f"SELECT DISTINCT value FROM {client.schema}.training_metrics") == [(number,)]
