"""Recovery: from a base backup and WAL, to a point in time, after an immediate stop or a crash, on a promoted standby. What was
committed is there, byte for byte, what was not is not, and the store goes on."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
from collections.abc import Iterator

import psycopg
import pytest
from filled import Filled, check, fill, go_on, train
from harness import FAST, Server, alive, wait_until
from models import random_tensor, safetensors_bytes
from observe import row_counts
from transfer import import_model

pytestmark = [pytest.mark.versioned, pytest.mark.slow, pytest.mark.crash]

DATABASE = "recovered"


class Site:
    """A server with an archive of its WAL, a base backup, and a store that was filled after it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.archive = server.scratch / "archive"
        self.backup = server.scratch / "backup"
        self.archive.mkdir()
        self.archive.chmod(0o777)
        with server.connect(autocommit=True) as c:
            c.execute(f"ALTER SYSTEM SET archive_command = 'cp %p {self.archive}/%f'".encode())
            c.execute("SELECT pg_reload_conf()")
            c.execute(f"CREATE DATABASE {DATABASE}".encode())
        with self.connect() as db:
            db.execute("CREATE EXTENSION pg_modelstore; SELECT modelstore.create_store(modules => '{atoms}')")
        server.run_as_owner(
            "pg_basebackup", "-D", str(self.backup), "-X", "none", "--checkpoint=fast", "--no-sync",
            "-U", "postgres", "-h", server.socket, "-p", str(server.port),
        )  # fmt: skip
        self.numbers = iter(range(1, 100))

    def connect(self) -> psycopg.Connection:
        return self.server.connect(DATABASE, autocommit=True)

    def fill(self) -> Filled:
        with self.connect() as db:
            return fill(db, next(self.numbers))

    def archived(self, db: psycopg.Connection) -> None:
        """Waits until all WAL up to now is in the archive."""
        (last,) = db.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
        db.execute("SELECT pg_switch_wal()")
        done = "SELECT last_archived_wal >= %s FROM pg_stat_archiver"
        wait_until(lambda: db.execute(done, (last,)).fetchone() == (True,), f"{last} is archived")

    def recovered(self, target: str = ""):
        """Another server, from the backup and the archive alone."""
        conf = f"archive_mode = off\nrestore_command = 'cp {self.archive}/%f %p'\nrecovery_target_action = promote\n{target}\n"
        return self.server.recovered(self.backup, conf)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    server = Server(f"test-{os.getpid()}-recovery", FAST + "archive_mode = on\n").start()
    try:
        yield Site(server)
    finally:
        server.remove()


@contextlib.contextmanager
def unfinished_import(site: Site) -> Iterator[int]:
    """An import that is not committed, and never will be; the process that does it."""
    db = site.connect()
    db.autocommit = False
    try:
        import_model(db, safetensors_bytes({"w": random_tensor(77, 500, 512)}), "unfinished")
        yield db.info.backend_pid
    finally:
        db.close()


def test_a_point_in_time_between_two_checkpoints(site: Site) -> None:
    filled = site.fill()
    expected = copy.deepcopy(filled)
    with site.connect() as db:
        db.execute("SELECT pg_create_restore_point('between')")
        later = train(db, filled, 3)
        db.execute("SELECT modelstore.delete_model(%s)", (f"m{filled.number}:child",))
        db.execute("SELECT modelstore.gc()")
        site.archived(db)
    with site.recovered("recovery_target_name = 'between'") as other, other.connect(DATABASE, autocommit=True) as there:
        check(there, expected)
        assert there.execute("SELECT count(*) FROM store.model_checkpoints WHERE checkpoint_id = %s", (later,)).fetchone() == (0,)
        go_on(there, expected)
    # The server itself has gone on: the model was deleted, the checkpoint is there.
    with site.connect() as db:
        del filled.models[f"m{filled.number}:child"]
        check(db, filled)


def test_a_base_backup_and_wal_alone(site: Site) -> None:
    filled = site.fill()
    with unfinished_import(site), site.connect() as db:
        train(db, filled, 3)
        expected = row_counts(db)
        site.archived(db)
    with site.recovered() as other, other.connect(DATABASE, autocommit=True) as there:
        check(there, filled)
        assert there.execute("SELECT count(*) FROM store.models WHERE model_name = 'unfinished'").fetchone() == (0,)
        assert row_counts(there) == expected
        go_on(there, filled)


def test_an_immediate_stop(site: Site) -> None:
    filled = site.fill()
    with unfinished_import(site), site.connect() as db:
        train(db, filled, 3)  # committed last of all
        db.close()
        site.server.restart("immediate")
    with site.connect() as db:
        check(db, filled)
        assert db.execute("SELECT count(*) FROM store.models WHERE model_name = 'unfinished'").fetchone() == (0,)
        go_on(db, filled)


def test_a_standby_that_is_promoted(site: Site) -> None:
    filled = site.fill()
    with site.server.standby() as standby:
        site.server.catch_up(standby)
        with standby.connect(DATABASE, autocommit=True) as there:
            check(there, filled)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                train(there, filled, 3)
            assert there.execute("SELECT pg_promote()").fetchone() == (True,)
            go_on(there, filled)
            # Its own WAL is one to recover from as well.
            standby.restart("immediate")
        with standby.connect(DATABASE, autocommit=True) as there:
            check(there, filled)


def test_no_restart_after_a_crash(site: Site) -> None:
    """With restart_after_crash = off, as cluster managers set it, the server stays down until it is started; then it recovers."""
    filled = site.fill()
    server = site.server
    with server.connect(autocommit=True) as c:
        c.execute("ALTER SYSTEM SET restart_after_crash = off")
        c.execute("SELECT pg_reload_conf()")
        wait_until(lambda: c.execute("SHOW restart_after_crash").fetchone() == ("off",), "the setting counts")
    postmaster = server.pid
    with unfinished_import(site) as pid:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(postmaster), "the server is down")
        with pytest.raises(psycopg.OperationalError):
            site.connect()
    server.start()
    with site.connect() as db:
        db.execute("ALTER SYSTEM RESET restart_after_crash")
        db.execute("SELECT pg_reload_conf()")
        check(db, filled)
        assert db.execute("SELECT count(*) FROM store.models WHERE model_name = 'unfinished'").fetchone() == (0,)
        go_on(db, filled)
