"""Uploads at the same time, and uploads whose client, backend or server is killed."""

from __future__ import annotations

import hashlib
import random
import threading
import time
import uuid

import numpy as np
import psycopg
import pytest
from harness import Server, wait_until
from models import safetensors_bytes
from observe import dangling, exported_sha256, problems
from rounds import seed, size
from uploads import MIB, append, begin, copy, finish, offset, placed, rows_of, waiting

pytestmark = pytest.mark.versioned


def overlapping(generator: random.Random) -> list[bytes]:
    """Files of the same tensors in opposite order, which no store has yet."""
    tensors = {f"t{i:02}": np.frombuffer(generator.randbytes(700_000), "uint8") for i in range(10)}
    turned = {f"t{9 - int(name[1:]):02}": tensor for name, tensor in reversed(tensors.items())}
    return [safetensors_bytes(tensors), safetensors_bytes(turned)]


def test_overlapping_uploads_at_once(server: Server, dbname: str, db) -> None:
    """Two clients upload the same chunks in opposite order, each in one COPY. One may be the victim of a deadlock, and goes on
    where it was: what docs/models.md tells clients to do."""
    generator, retries = random.Random(seed()), 0
    for round_ in range(size("UPLOAD_ROUNDS", 3)):
        models: dict[int, uuid.UUID] = {}
        tries: list[str] = []

        def run(number: int, data: bytes, models=models, tries=tries, round_=round_) -> None:
            with server.connect(dbname, autocommit=True) as session:
                upload = begin(session)
                while (at := offset(session, upload)) < len(data):
                    try:
                        copy(session, rows_of(upload, data[at:], 300_000))
                    except psycopg.errors.DeadlockDetected as e:
                        tries.append(e.sqlstate)
                        time.sleep(generator.uniform(0, 0.05))
                models[number] = finish(session, upload, f"m{round_}-{number}").model_id

        files = overlapping(generator)
        threads = [threading.Thread(target=run, args=(number, data)) for number, data in enumerate(files)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert models.keys() == {0, 1}
        retries += len(tries)
        for number, data in enumerate(files):
            assert exported_sha256(db, models[number]) == hashlib.sha256(data).hexdigest()
    print(f"retries after a deadlock: {retries}")
    assert problems(db) == []


def is_gone(session: psycopg.Connection) -> bool:
    try:
        session.execute("SELECT 1")
    except psycopg.Error:
        return True
    return False


@pytest.mark.crash
def test_killed_in_the_middle_of_uploads(server: Server, dbname: str) -> None:
    """The client, the backend or the server goes at random points of a COPY or of appends; another session goes on."""
    generator = random.Random(seed())
    rounds = size("UPLOAD_ROUNDS", 3)
    for round_ in range(rounds):
        data = safetensors_bytes({f"t{i}": np.frombuffer(generator.randbytes(generator.randrange(2 * MIB)), "uint8") for i in range(12)})
        with server.connect(dbname, autocommit=True) as db:
            upload = begin(db)
        interrupted = 0
        while True:
            server.wait_ready()
            with server.connect(dbname, autocommit=True) as db:
                at = offset(db, upload)
                assert waiting(db) < 2 * MIB
            if at == len(data):
                break
            victim = ["client", "backend", "server"][(round_ + interrupted) % 3] if interrupted < 3 else "nobody"
            with server.crash_expected():
                session, other = (server.connect(dbname, autocommit=True) for _ in range(2))
                pid = session.info.backend_pid

                def go_on(session=session, at=at, by_copy=round_ % 2 == 0) -> None:
                    try:
                        if by_copy:
                            half = at + (len(data) - at) // 2
                            copy(session, placed(upload, data, at, half, 200_000))
                            copy(session, placed(upload, data, half, len(data), 200_000))
                        else:
                            # What was given up may still be committed: it must not be appended twice.
                            for _, part, start in placed(upload, data, at, len(data), 1_300_000):
                                session.execute("SELECT modelstore.append_upload(%s, %b, %s)", (upload, part, start))
                    except psycopg.Error:
                        pass

                thread = threading.Thread(target=go_on)
                thread.start()
                if victim == "nobody":
                    thread.join(60)
                else:
                    time.sleep(generator.uniform(0.01, 0.12))
                    {"client": session.close, "backend": lambda: server.kill_backend(pid), "server": server.crash}[victim]()
                    interrupted += 1
                if victim == "backend":  # the server ends all others when it has noticed
                    wait_until(lambda: is_gone(other), "the server has noticed")
                thread.join(60)
                assert not thread.is_alive()
                session.close()
                other.close()
        with server.connect(dbname, autocommit=True) as db:
            model = finish(db, upload, f"m{round_}").model_id
            assert exported_sha256(db, model) == hashlib.sha256(data).hexdigest()
            assert dangling(db) == 0
    with server.connect(dbname, autocommit=True) as db:
        assert problems(db) == []
