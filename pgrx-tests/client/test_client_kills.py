"""Pushes whose client process, backend or server is killed at random points: the same push goes on, and the folder comes back.

PUSH_ROUNDS=50 make pytest ARGS="pgrx-tests/client/test_client_kills.py -s" runs fifty and prints what was killed when.
"""

from __future__ import annotations

import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pg_modelstore
import psycopg
import pytest
from folders import contents, sharded
from harness import ROOT, Server, wait_until
from models import MIB
from observe import dangling, problems
from rounds import seed, size

pytestmark = [pytest.mark.alone, pytest.mark.crash]

# Transactions are smaller than usual, so that there are many.
BATCH = 8 * MIB
# Prints how far it is, and each error after which it tries again.
PUSH = f"""
import sys, pg_modelstore
from pg_modelstore import client, uploads
uploads.BATCH_BYTES = {BATCH}
is_transient = client.is_transient
def told(error):
    if is_transient(error):
        print("again", type(error).__name__, flush=True)
    return is_transient(error)
client.is_transient = told
with pg_modelstore.connect(sys.argv[1]) as connected:
    print("connected", flush=True)
    connected.models.push(sys.argv[2], sys.argv[3], progress=lambda name, at, total: print("at", name, at, flush=True))
print("done", flush=True)
"""
CLIENT = "killed_push"


class Pushing:
    """A process that pushes a folder."""

    def __init__(self, server: Server, dbname: str, folder: pathlib.Path, target: str) -> None:
        url = f"host={server.socket} port={server.port} dbname={dbname} user=postgres application_name={CLIENT}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PUSH, url, str(folder), target],
            env=os.environ | {"PYTHONPATH": str(ROOT / "clients" / "python" / "src")},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.position: dict[str, int] = {}
        self.again = self.transferred = 0

    def reach(self, position: int) -> bool:
        """Waits until so many bytes are sent; false if it ends before."""
        assert self.process.stdout is not None
        while self.sent < position:
            line = self.process.stdout.readline()
            match line.split():
                case ["at", name, at]:
                    # The first position of a file is where an earlier process has stopped; one that goes back is sent again.
                    self.transferred += max(int(at) - self.position.get(name, int(at)), 0)
                    self.position[name] = int(at)
                case ["again", _]:
                    self.again += 1
                case ["done"] | []:
                    return False
        return True

    @property
    def sent(self) -> int:
        return sum(self.position.values())

    def end(self) -> tuple[int, str]:
        """Its exit code and what it says about an error."""
        self.reach(sys.maxsize)
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        return self.process.wait(120), said.strip().rpartition("\n")[2]


def backends(server: Server, dbname: str) -> list[int]:
    """Those of the pushing process, the busy ones first."""
    query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = %s ORDER BY state <> 'active', query_start DESC"
    with server.connect(autocommit=True) as db:
        return [pid for (pid,) in db.execute(query, (dbname, CLIENT))]


def kill(server: Server, dbname: str, what: str, pushing: Pushing) -> bool:
    """Whether there was something to kill."""
    if what == "client":
        pushing.process.send_signal(signal.SIGKILL)
        pushing.process.wait()
        return True
    if what == "server":
        server.crash()
        return True
    with server.crash_expected(), server.connect(autocommit=True) as other:
        for pid in backends(server, dbname)[:1]:
            server.kill_backend(pid)
            wait_until(lambda: state(other, pid) != "there", "the server has noticed")
            return state(other, pid) == "crashed"
    return False


def state(connection: psycopg.Connection, pid: int) -> str:
    """What has become of a backend. The server ends all connections when one was killed; one that was ending anyway is gone."""
    try:
        found = connection.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()
    except psycopg.OperationalError:
        return "crashed"
    return "gone" if found is None else "there"


def remembered(folder: pathlib.Path) -> bool:
    """Whether a push has left its file behind."""
    return any("push.json" in path.name for path in folder.iterdir())


class Round:
    """One push, with its kills."""

    def __init__(self, server: Server, dbname: str, folder: pathlib.Path, target: str, counts: collections.Counter) -> None:
        self.server, self.dbname, self.folder, self.target, self.counts = server, dbname, folder, target, counts
        self.total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.stat().st_size > MIB)
        self.transferred = self.kills = 0
        self.start()

    def start(self) -> None:
        self.pushing = Pushing(self.server, self.dbname, self.folder, self.target)

    def leave(self) -> None:
        """Takes the figures of a process that has ended."""
        self.counts["tried again by the client"] += self.pushing.again
        self.transferred += self.pushing.transferred

    def run(self, chance: random.Random, victims: list[str]) -> None:
        # Half of a second behind the bytes is the transaction that makes the model.
        points = sorted(chance.choice([chance.random(), chance.random(), 1]) for _ in victims)
        for victim, point in zip(victims, points):
            sending = point < 1
            if not self.pushing.reach(int(point * self.total)):
                self.counts["too late"] += 1
                break
            time.sleep(chance.uniform(0, 0.02 if sending else 0.4))  # not to wait for anything: where in a part, or in that transaction
            if kill(self.server, self.dbname, victim, self.pushing):
                self.kills += 1
                self.counts[f"{victim} killed {'while bytes were sent' if sending else 'after the bytes'}"] += 1
            if victim == "client":
                self.leave()
                if not sending and not remembered(self.folder):
                    self.counts["client killed when it was done"] += 1
                    return
                self.start()
        code, said = self.pushing.end()
        self.leave()
        assert code == 0, f"{self.target}, {list(zip(victims, points))}: {said}"

    def check(self, client: pg_modelstore.Client, db: psycopg.Connection, out: pathlib.Path) -> None:
        assert self.transferred <= self.total + self.kills * BATCH, "more was sent again than the transactions that were lost"
        self.counts["MB sent again"] += max(self.transferred - self.total, 0) // 1_000_000
        assert not remembered(self.folder)
        client.models.pull(self.target, out)
        assert contents(out) == contents(self.folder)
        shutil.rmtree(out)
        assert problems(db) == [] and dangling(db) == 0
        self.counts["uploads that nobody knows"] += db.execute("SELECT count(*) FROM store.uploads").fetchone()[0]


def test_pushes_that_are_killed(server: Server, dbname: str, url: str, minilm: pathlib.Path, tmp_path: pathlib.Path) -> None:
    chance, counts = random.Random(seed()), collections.Counter()
    folders = [
        shutil.copytree(minilm.parent, tmp_path / "MiniLM", copy_function=os.symlink),
        sharded(tmp_path / "sharded", rows=4000),
    ]
    kinds = ["client", "backend", "server"]
    for number in range(size("PUSH_ROUNDS", 3)):
        folder = folders[number % 2]
        one = Round(server, dbname, folder, f"{folder.name}:{number}", counts)
        one.run(chance, [*(chance.choice(kinds) for _ in range(chance.randrange(3))), kinds[number % 3]])
        with pg_modelstore.connect(url) as client, server.connect(dbname, autocommit=True) as db:
            one.check(client, db, tmp_path / "out")
            # So that the chunks of the next round are new. An upload is unknown if its client was killed right after begin_upload.
            db.execute("SELECT modelstore.delete_model(%s)", (one.target,))
            db.execute("SELECT modelstore.gc(abandoned_after => '0')")
            left = "SELECT (SELECT count(*) FROM store.uploads), (SELECT count(*) FROM store.tensor_chunks)"
            assert db.execute(left).fetchone() == (0, 0)
        counts["rounds"] += 1
    print(f"\nkilled {dict(sorted(counts.items()))}")
