"""Five sessions import, delete, collect, checkpoint, restore, prune, upload, ingest and release concurrently at three
isolation levels: the only failures are 40001 and those expected after a concurrent delete. At the end the store verifies
without problems, and the remaining models export as imported."""

from __future__ import annotations

import collections
import hashlib
import json
import random
import threading
import time

import psycopg
import pytest
from campaign import functions, rate
from models import random_tensor, safetensors_bytes
from observe import dangling, exported_sha256, problems
from rounds import seed, size

LEVELS = ("read committed", "repeatable read", "serializable")
# What another session's deletion makes of a call: the model, checkpoint, run, upload or atom is gone; a name is taken; a model
# that became a parent or has checkpoints since is not deleted.
EXPECTED = {"42704", "23505", "23503", "2BP01", "55000", "02000"}


class Turmoil:
    """What the sessions share."""

    def __init__(self, connect, options: dict[str, str]) -> None:
        self.connect, self.options = connect, options
        generator = random.Random(seed())
        self.pool = [random_tensor(i, generator.randint(5, 120), 64) for i in range(24)]
        self.texts = [f"Paragraph {i}.\n\nThe same for all.\n\nAnd {i % 3} again.\n" for i in range(8)]
        self.contents = [generator.randbytes(generator.choice([0, 10, 5000, 1_200_000])) for _ in range(6)]
        self.lock = threading.Lock()
        self.models: dict[object, str] = {}
        self.checkpoints: list[object] = []
        self.held: list[tuple[int, int, int]] = []
        self.left = size("TURMOIL_OPERATIONS", 400)
        self.states: collections.Counter[str] = collections.Counter()
        self.done: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def take(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left >= 0 and not self.wrong

    def some(self, things) -> object | None:
        with self.lock:
            return random.choice(list(things)) if things else None

    def worker(self, number: int, level: str) -> None:
        """One session."""
        session = self.connect(options="-c statement_timeout=60s -c client_min_messages=warning")
        session.execute(f"SET default_transaction_isolation = '{level}'")
        rng = random.Random(f"{seed()}:{number}:{level}")
        names = "import add delete gc checkpoint restore prune upload ingest release alias export verify file".split()
        weights = [6, 2, 5, 3, 4, 2, 2, 3, 4, 3, 1, 2, 1, 4]
        while self.take():
            what = rng.choices(names, weights)[0]
            try:
                getattr(self, what)(session, rng)
                self.done[what] += 1
                state = "00000"
            except psycopg.Error as e:
                state = e.sqlstate or "no SQLSTATE"
                if state != "40001" and state not in EXPECTED:
                    with self.lock:
                        self.wrong.append(f"{what} in {level}: {state} {e}")
            except AssertionError as e:
                with self.lock:
                    self.wrong.append(f"{what} in {level}: {e}")
            with self.lock:
                self.states[state] += 1

    # Operations. Each is one transaction, but for the upload, which a pooler may spread.

    def data(self, rng: random.Random, most: int = 8) -> bytes:
        chosen = rng.sample(range(len(self.pool)), rng.randint(1, most))
        return safetensors_bytes({f"t{i}": self.pool[i] for i in chosen})

    def name(self, rng: random.Random) -> tuple[str, str]:
        return f"m{rng.randrange(4)}", str(rng.getrandbits(40))

    def remember(self, model: object, data: bytes) -> None:
        with self.lock:
            self.models[model] = hashlib.sha256(data).hexdigest()

    def import_(self, session, rng: random.Random) -> None:
        data = self.data(rng)
        with self.lock:
            parent = rng.choice(list(self.models)) if self.models and rng.random() < 0.3 else None
        sql = "SELECT model_id FROM modelstore.import_safetensors(%s, %s, %b::bytea, parent => %s)"
        self.remember(session.execute(sql, (*self.name(rng), data, parent)).fetchone()[0], data)

    def add(self, session, rng: random.Random) -> None:
        """Two shards, each in a transaction of its own: in one transaction they may deadlock, as docs/models.md says."""
        (model,) = session.execute("SELECT modelstore.register_model(%s, %s)", self.name(rng)).fetchone()
        for part in range(2):
            data = safetensors_bytes({f"p{part}.{i}": self.pool[i] for i in rng.sample(range(len(self.pool)), 3)})
            session.execute("SELECT modelstore.add_file(%s, %s, %b::bytea)", (model, f"part-{part}.safetensors", data))

    def file(self, session, rng: random.Random) -> None:
        """Adds a file without weights, or deletes it; its name says what it contains."""
        if (model := self.some(self.models)) is None:
            return
        number = rng.randrange(len(self.contents))
        if rng.random() < 0.3:
            session.execute("SELECT modelstore.delete_file(%s, %s)", (model, f"{number}.txt"))
        else:
            session.execute("SELECT modelstore.add_file(%s, %s, %b::bytea)", (model, f"{number}.txt", self.contents[number]))

    def delete(self, session, rng: random.Random) -> None:
        with self.lock:
            model = rng.choice(list(self.models)) if len(self.models) > 4 else None
            sha256 = self.models.pop(model, None)
        if model is not None:
            try:
                session.execute(f"SELECT modelstore.delete_model(%s{self.options['delete']})", (model,))
            except psycopg.Error:
                with self.lock:
                    self.models[model] = sha256
                raise

    def gc(self, session, rng: random.Random) -> None:
        session.execute(f"SELECT * FROM modelstore.{rng.choice(['gc', 'gc', 'atoms_gc'])}()")

    def checkpoint(self, session, rng: random.Random) -> None:
        model = self.some(self.models)
        if model is None:
            return
        data = safetensors_bytes({"t0": self.pool[0] + rng.randrange(3), "t1": self.pool[1]})
        sql = """SELECT checkpoint_id FROM modelstore.create_checkpoint(%s, %s, %b::bytea, %b::bytea, metrics => %s::jsonb, checks => '{}')"""
        state = safetensors_bytes({"t0.exp_avg": self.pool[2]})
        row = session.execute(sql, (model, rng.randrange(1 << 40), data, state, json.dumps({"loss": rng.random()}))).fetchone()
        with self.lock:
            self.checkpoints.append(row[0])

    def restore(self, session, rng: random.Random) -> None:
        if (checkpoint := self.some(self.checkpoints[-30:])) is not None:
            session.execute("SELECT modelstore.restore_checkpoint(%s, NULL, %s)", (checkpoint, str(rng.getrandbits(60))))

    def prune(self, session, rng: random.Random) -> None:
        if (model := self.some(self.models)) is not None:
            session.execute("SELECT * FROM modelstore.prune_checkpoints(%s, 1, keep_best => 0, dry_run => false)", (model,))

    def upload(self, session, rng: random.Random) -> None:
        data = self.data(rng)
        (upload,) = session.execute("SELECT modelstore.begin_upload()").fetchone()
        try:
            cut = rng.randrange(len(data))
            for part in (data[:cut], data[cut:]):
                session.execute("SELECT modelstore.append_upload(%s, %b)", (upload, part))
            if rng.random() < 0.2:
                session.execute("SELECT modelstore.abort_upload(%s)", (upload,))
                return
            row = session.execute("SELECT model_id FROM modelstore.finish_upload(%s, %s, %s)", (upload, *self.name(rng))).fetchone()
        except psycopg.Error:
            with session.transaction():
                session.execute("DELETE FROM store.uploads WHERE upload_id = %s", (upload,))
            raise
        self.remember(row[0], data)

    def ingest(self, session, rng: random.Random) -> None:
        row = session.execute("SELECT status, h_xy, h_yz, h_zm FROM modelstore.ingest_text(%s::text, 'text', 'turmoil')", (rng.choice(self.texts),)).fetchone()
        assert row[0] in ("completed", "failed"), row
        if row[0] == "completed":
            with self.lock:
                self.held.append(tuple(row[1:]))

    def release(self, session, rng: random.Random) -> None:
        with self.lock:
            key = self.held.pop(rng.randrange(len(self.held))) if self.held else None
        if key is not None:
            try:
                session.execute("SELECT modelstore.release((%s, %s, %s))", key)
            except psycopg.Error:
                with self.lock:
                    self.held.append(key)
                raise

    def alias(self, session, rng: random.Random) -> None:
        row = session.execute("SELECT model_id FROM store.models ORDER BY random() LIMIT 1").fetchone()
        if row is not None:
            session.execute("SELECT modelstore.set_alias(%s, 'best')", row)

    def export(self, session, rng: random.Random) -> None:
        with self.lock:
            model, sha256 = rng.choice(list(self.models.items())) if self.models else (None, None)
        if model is not None:
            assert exported_sha256(session, model) == sha256, f"model {model} has other bytes"

    def verify(self, session, rng: random.Random) -> None:
        found = session.execute("SELECT * FROM modelstore.verify_store()").fetchall()
        assert not found, found


setattr(Turmoil, "import", Turmoil.import_)


@pytest.mark.slow
def test_turmoil(db, connect) -> None:
    """Issue 10: sessions side by side in three isolation levels."""
    delete = next(f for f in functions(db) if f.name == "delete_model")
    turmoil = Turmoil(connect, {"delete": ", cascade => true" if "cascade" in delete.names else ""})
    levels = [LEVELS[i % 3] for i in range(5)]
    failures: list[BaseException] = []

    def guarded(number: int, level: str) -> None:
        try:
            turmoil.worker(number, level)
        except BaseException as e:
            failures.append(e)

    begun, total = time.monotonic(), turmoil.left
    threads = [threading.Thread(target=guarded, args=(i, level)) for i, level in enumerate(levels)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60 + total)
        assert not thread.is_alive(), "a session hangs"
    print(f"seed {seed()}: {rate(total, begun)}; {dict(turmoil.done)}; {dict(turmoil.states)}")
    assert not turmoil.wrong, "\n".join(turmoil.wrong[:20])
    if failures:
        raise failures[0]
    assert set(turmoil.done) >= {"import", "delete", "gc", "checkpoint", "ingest", "file"}
    for _ in range(2):
        assert dangling(db) == 0
        assert problems(db) == []
        assert db.execute("SELECT * FROM modelstore.verify_atoms()").fetchall() == []
        there = {m for (m,) in db.execute("SELECT model_id FROM store.models")}
        assert set(turmoil.models) <= there, "models that nobody deleted are gone"
        for model, sha256 in turmoil.models.items():
            assert exported_sha256(db, model) == sha256
        for model, name in db.execute("SELECT model_id, file_name FROM store.model_files WHERE format = 'file'").fetchall():
            parts = db.execute("SELECT modelstore.export_file(%s, %s)", (model, name))
            assert b"".join(part for (part,) in parts) == turmoil.contents[int(name.removesuffix(".txt"))]
        db.execute("SELECT modelstore.gc()")
        db.execute("SELECT modelstore.atoms_gc()")
