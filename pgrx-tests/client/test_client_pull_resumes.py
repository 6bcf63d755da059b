"""A pull whose connection is lost, or whose server crashes, goes on at the byte where it stopped."""

from __future__ import annotations

import os
import pathlib
import random

import pg_modelstore
import psycopg
import pytest
from harness import wait_until
from models import MIB, random_tensor, safetensors_bytes
from once import Once
from pg_modelstore import client as client_module

COPYING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY (SELECT modelstore.export_file%%' AND state = 'active'"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch) -> None:
    monkeypatch.setattr(client_module, "_PAUSES", (0, 0, 0))


@pytest.fixture
def file(client: pg_modelstore.Client, tmp_path: pathlib.Path) -> bytes:
    """The bytes of a model of 45 MB, m:1: more than lies in buffers between server and client."""
    path = tmp_path / "model.safetensors"
    data = safetensors_bytes({f"layer.{i}.weight": random_tensor(i, 1100, 512) for i in range(20)})
    path.write_bytes(data)
    client.models.push(path, "m:1")
    return data


def pull(client: pg_modelstore.Client, folder: pathlib.Path, progress: Once) -> bytes:
    """The bytes that arrive. None is received twice, and nothing else is left in the folder."""
    (path,) = client.models.pull("m:1", folder, progress=progress)
    assert progress.action is None and progress.seen == sorted(progress.seen)
    assert os.listdir(folder) == [path.name]
    return path.read_bytes()


@pytest.mark.parametrize("after", [1, 10 * MIB])
def test_a_backend_that_is_ended(after: int, client, db, file, tmp_path) -> None:
    ended = []

    def end() -> None:
        ((pid,),) = db.execute(COPYING).fetchall()
        ended.append(pid)
        assert db.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)

    assert pull(client, tmp_path / "out", Once(after, end)) == file
    assert len(ended) == 1


def test_more_losses_than_one_step_is_tried_again(client, db, file, tmp_path) -> None:
    """Each time some more bytes have arrived: the count of failures starts anew."""
    losses = 2 * client_module.RETRIES

    class Often(Once):
        def __call__(self, name: str, at: int, total: int) -> None:
            nonlocal losses
            super().__call__(name, at, total)
            # What a backend has sent arrives after it has ended.
            for (pid,) in db.execute(COPYING).fetchall() if losses > 0 else ():
                losses -= 1
                db.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    assert pull(client, tmp_path / "out", Often(0, lambda: None)) == file
    assert losses == 0


@pytest.mark.crash
def test_a_crash_of_the_server(server, client, db, file, tmp_path) -> None:
    def crash() -> None:
        ((pid,),) = db.execute(COPYING).fetchall()
        mark = server.log_size()
        with server.crash_expected():
            server.kill_backend(pid)
            wait_until(lambda: "was terminated by signal" in server.log_since(mark), "the server has noticed")

    assert pull(client, tmp_path / "out", Once(10 * MIB, crash)) == file


def test_a_file_that_was_replaced_meanwhile(client, db, tmp_path) -> None:
    """Weights stay, but any other file of a model may be deleted and added again: bytes of two files are not joined."""
    data = random.Random(1).randbytes(45 * MIB)
    (folder := tmp_path / "in").mkdir()
    (folder / "data.bin").write_bytes(data)
    client.models.push(folder, "files:1")

    def replace() -> None:
        ((pid,),) = db.execute(COPYING).fetchall()
        db.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        db.execute("SELECT modelstore.delete_file('files:1', 'data.bin')")
        db.execute("SELECT modelstore.add_file('files:1', 'data.bin', %b::bytea)", (data[:-1] + b"x",))

    with pytest.raises(psycopg.errors.UndefinedObject, match="deleted or replaced"):
        client.models.pull("files:1", tmp_path / "out", progress=Once(10 * MIB, replace))
    assert os.listdir(tmp_path / "out") == []
