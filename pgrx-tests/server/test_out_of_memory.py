"""Running out of memory raises 53200 in one transaction, on the session's own thread and on its workers. The test limits the
address space of one backend while it runs."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess

import numpy as np
import psycopg
import pytest
from harness import ROOT
from models import safetensors_bytes

pytestmark = [pytest.mark.alone, pytest.mark.versioned]

MIB = 1 << 20
# A session may find a little more memory than the limit leaves by what it has freed before.
ROOM = (0, 1, 4, 12)


@contextlib.contextmanager
def little_memory(pid: int, room: int):
    """Lets a process have so many bytes more than it has now."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    size = int(status.split("VmSize:")[1].split()[0]) * 1024
    _limit(pid, str(size + room))
    try:
        yield
    finally:
        _limit(pid, "unlimited")


def _limit(pid: int, soft: str) -> None:
    """As the user that the server runs as, which alone may."""
    command = f'. scripts/lib.sh && as_server "$(command -v prlimit)" --pid {pid} --as={soft}:'
    subprocess.run(["bash", "-c", command, "scripts/x"], cwd=ROOT, check=True)


@pytest.fixture
def stored(db) -> psycopg.Connection:
    """A model of 16 MiB, with values of as much in a table."""
    rng = np.random.default_rng(1)
    file = safetensors_bytes({"w": rng.standard_normal((2048, 2048), dtype=np.float32)})
    db.execute("SELECT modelstore.import_safetensors('m', '1', %s::bytea)", (file,))
    small = safetensors_bytes({"w": rng.standard_normal((2, 2), dtype=np.float32)})
    db.execute("SELECT modelstore.import_safetensors('small', '1', %s::bytea)", (small,))
    db.execute("CREATE TABLE files (f bytea); ALTER TABLE files ALTER f SET STORAGE external")
    db.execute("INSERT INTO files VALUES (%s)", (file,))
    db.execute("CREATE TABLE tensors AS SELECT modelstore.get_tensor(modelstore.find_model('m'), 'w') AS t")
    return db


CALLS = {
    "get_tensor": "SELECT modelstore.norm(modelstore.get_tensor(modelstore.find_model('m'), 'w'))",
    "astype": "SELECT modelstore.nbytes(modelstore.astype(t, 'f64')) FROM tensors",
    "text": "SELECT length(t::text) FROM tensors",
    "slice": "SELECT modelstore.norm(modelstore.slice(t, '::2, 1:')) FROM tensors",
    "export": "SELECT sum(length(p)) FROM (SELECT modelstore.export_safetensors(modelstore.find_model('m')) AS p) x",
    "verify": "SELECT count(*) FROM modelstore.verify_store()",
    "import": "SELECT modelstore.import_safetensors('n', '1', f) FROM files",
}


@pytest.mark.parametrize("name", CALLS)
def test_out_of_memory_ends_the_transaction_alone(stored, connect, name):
    failed = 0
    for room in ROOM:
        c = connect()
        c.execute("SELECT modelstore.norm(modelstore.get_tensor(modelstore.find_model('small'), 'w'))")  # starts the threads
        with little_memory(c.info.backend_pid, room * MIB):
            try:
                c.execute(CALLS[name]).fetchall()
            except psycopg.errors.OutOfMemory:
                failed += 1
        # The same session goes on, and what it reads is right.
        c.execute("SELECT modelstore.delete_model(model_id) FROM store.models WHERE model_name = 'n'")
        c.execute(CALLS["export"]).fetchall()
        c.close()
    assert failed >= 2, "the limit was never met"
