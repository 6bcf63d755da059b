"""Eight clients on two server connections: PgBouncer in transaction mode gives each transaction whichever is free, and every client
gets its own bytes. psycopg must not prepare statements: `prepare_threshold=None`."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest
from models import random_tensor, safetensors_bytes
from pooler import ensure_pool_role, pgbouncer_command, pooler

CLIENTS, CONNECTIONS, ROLE = 8, 2, "pool_many"
PART = 60_000
ROUNDS = 2


@pytest.fixture
def pooled(server, new_database) -> Iterator[Callable[..., psycopg.Connection]]:
    """pooled(): a client of a pooler with two server connections; the database has the extension and a store for each client."""
    command = pgbouncer_command()
    database = new_database()
    ensure_pool_role(server, ROLE, database)
    with server.connect(database, autocommit=True) as c:
        c.execute("CREATE EXTENSION pg_modelstore")
    with server.connect(database, user=ROLE, autocommit=True) as c:
        for number in range(CLIENTS):
            c.execute("SELECT modelstore.create_store(%s)", (f"of_{number}",))
            c.execute("SELECT modelstore.add_module('atoms', %s, partitions => 8)", (f"of_{number}",))
    with pooler(command, server, database, [ROLE], CONNECTIONS) as connect:
        yield connect


class Client:
    """One of them. Each of its steps is a transaction of its own, in its store, over the connection that the pooler gives it."""

    def __init__(self, db: psycopg.Connection, number: int, store: str, together: threading.Barrier) -> None:
        self.db, self.number, self.store, self.together = db, number, store, together
        self.pids: set[int] = set()
        self.error: BaseException | None = None

    def do(self, sql: str, *arguments: object) -> list[tuple]:
        with self.db.transaction():
            self.db.execute("SELECT set_config('modelstore.store', %s, true)", (self.store,))
            self.pids.add(self.db.execute("SELECT pg_backend_pid()").fetchone()[0])
            return self.db.execute(sql, arguments, binary=True).fetchall()

    def one(self, sql: str, *arguments: object):
        (row,) = self.do(sql, *arguments)
        return row[0]

    def run(self) -> None:
        try:
            self.together.wait(60)
            for turn in range(ROUNDS):
                model = self.upload(turn)
                self.train(model, turn)
                self.atoms(turn)
        except BaseException as e:  # noqa: BLE001 raised by the test
            self.error = e

    def upload(self, turn: int) -> uuid.UUID:
        """A file of two tensors in parts, and slices of one."""
        w = random_tensor(100 * self.number + turn, 300, 200)
        data = safetensors_bytes({"w": w, "b": random_tensor(self.number, 200)})
        upload = self.one("SELECT modelstore.begin_upload(%s)", len(data))
        for at in range(0, len(data), PART):
            self.one("SELECT modelstore.append_upload(%s, %b, %s)", upload, data[at : at + PART], at)
        model = self.one("SELECT model_id FROM modelstore.finish_upload(%s, %s, %s)", upload, f"m{self.number}", str(turn))
        assert self.export("export_safetensors", model) == data
        rng = np.random.default_rng(self.number)
        for _ in range(5):
            row, column = (int(n) for n in (rng.integers(0, 299), rng.integers(0, 199)))
            part = self.one(
                "SELECT modelstore.tobytes(modelstore.get_tensor_slice(%s, 'w', %s))", model, f"{row}:{row + 2}, {column}:"
            )
            assert part == w[row : row + 2, column:].tobytes()
        return model

    def train(self, model: uuid.UUID, turn: int) -> None:
        """Checkpoints, of which the newest is found."""
        session = self.one("SELECT modelstore.start_training(%s, session_name => %s)", model, f"run {turn}")
        assert self.one("SELECT modelstore.get_latest_checkpoint(%s)", model) is None
        for step in (1, 2, 3):
            data = safetensors_bytes({"w": random_tensor(1000 * step + self.number, 300, 200), "b": random_tensor(step, 200)})
            made = self.one(
                "SELECT checkpoint_id FROM modelstore.create_checkpoint(%s, session_id => %s, step => %s, weights => %b::bytea)",
                model, session, step, data,
            )  # fmt: skip
            assert self.one("SELECT modelstore.get_latest_checkpoint(%s)", model) == made
            assert self.export("export_checkpoint", made) == data

    def atoms(self, turn: int) -> None:
        """Data taken in, whose nearest atom is its own; the same neighbours as a comparison of all atoms in the same snapshot gives."""
        data = f"client {self.number} in turn {turn}".encode()
        (key,) = self.do("SELECT h_xy, h_yz, h_zm FROM modelstore.ingest(%b::bytea, 'other')", data)
        assert self.one("SELECT modelstore.reconstruct((%s, %s, %s))", *key) == data
        atom = "ROW(%s, %s, %s)::modelstore.atom"
        assert self.do(f"SELECT * FROM modelstore.nearest({atom}, 1, 'other')", *key) == [(*key, 0.0)]
        ((found, expected),) = self.do(
            f"""SELECT (SELECT array_agg(distance ORDER BY distance) FROM modelstore.nearest({atom}, 3, 'other')),
            (SELECT array_agg(distance ORDER BY distance) FROM (
                SELECT sqrt((p.x - q.x)::float8 ^ 2 + (p.y - q.y)::float8 ^ 2 + (p.z - q.z)::float8 ^ 2 + (p.m - q.m)::float8 ^ 2) AS distance
                FROM {self.store}.atoms a, modelstore.atom_point(a.h_xy, a.h_yz, a.h_zm) p, modelstore.atom_point(%s, %s, %s) q
                WHERE p.modality = 'other' ORDER BY 1 LIMIT 3) nearest)""",
            *key, *key,
        )  # fmt: skip
        assert found == pytest.approx(expected)

    def export(self, function: str, of: uuid.UUID) -> bytes:
        return b"".join(part for (part,) in self.do(f"SELECT modelstore.{function}(%s)", of))


@pytest.mark.parametrize("stores", [CLIENTS, 1], ids=["a_store_each", "one_store"])
def test_eight_clients_on_two_connections(stores: int, pooled) -> None:
    together = threading.Barrier(CLIENTS)
    clients = [Client(pooled(), number, f"of_{number % stores}", together) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive(), "a client has not ended"
    for client in clients:
        if client.error is not None:
            raise AssertionError(f"client {client.number}") from client.error
    # They did share: there were two connections, and clients went from one to the other.
    assert len(set().union(*(client.pids for client in clients))) == CONNECTIONS
    assert max(len(client.pids) for client in clients) == CONNECTIONS
    # What each did is there, in its store and nowhere else.
    check = pooled()
    for number in range(CLIENTS):
        with check.transaction():
            check.execute("SELECT set_config('modelstore.store', %s, true)", (f"of_{number}",))
            models = check.execute("SELECT array_agg(DISTINCT model_name ORDER BY model_name) FROM modelstore.list_models()").fetchone()[0]
            assert models == ([f"m{n}" for n in range(CLIENTS) if n % stores == number] or None)
            assert check.execute("SELECT * FROM modelstore.verify_store()").fetchall() == []
            assert check.execute(f"SELECT count(*) FROM of_{number}.uploads").fetchone() == (0,)
