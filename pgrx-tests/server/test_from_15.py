"""From PostgreSQL 15, the oldest version, to 18: by dump and restore, and by pg_upgrade. Both need the extension in both, from the same
sources, which the test does not see to: `scripts/build.sh` and `PG=15 scripts/build.sh` install it, with `pg_test` that of PG_VARIANT."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from filled import Filled, check, fill, go_on
from harness import FAST, MAJOR, ROOT, Server
from observe import row_counts

pytestmark = [pytest.mark.versioned, pytest.mark.alone, pytest.mark.slow]

OLD, NEW = 15, 18
DATABASE = "moved"


@pytest.fixture(scope="module", autouse=True)
def both_are_installed() -> None:
    if MAJOR not in (OLD, NEW) or os.environ.get("PG_CONFIG"):
        pytest.skip(f"is about PostgreSQL {OLD} and {NEW} of scripts/postgres.sh")
    variant = os.environ.get("PG_VARIANT", "")
    scripts = []
    for major in (OLD, NEW):
        installation = ROOT / ".local" / "state" / (f"pg{major}-{variant}" if variant else f"pg{major}")
        installed = list(installation.rglob("pg_modelstore--*.sql"))
        if not installed:
            pytest.skip(f"the extension is not installed in PostgreSQL {major}: PG={major} scripts/build.sh {variant}")
        scripts.append(sorted(line for path in installed for line in path.read_text().splitlines()))
    if scripts[0] != scripts[1]:
        pytest.skip(f"the extensions in PostgreSQL {OLD} and {NEW} are not of the same sources: scripts/build.sh {variant} for both")


@pytest.fixture
def old() -> Iterator[tuple[Server, Filled]]:
    """A server of version 15, and what its store has."""
    server = Server(f"test-{os.getpid()}-old", FAST, OLD)
    try:
        server.start()
        with server.connect(autocommit=True) as c:
            c.execute(f"CREATE DATABASE {DATABASE}".encode())
        with server.connect(DATABASE, autocommit=True) as db:
            db.execute("CREATE EXTENSION pg_modelstore; SELECT modelstore.create_store(modules => '{atoms}')")
            filled = fill(db)
            check(db, filled)
        yield server, filled
    finally:
        server.remove()


@pytest.fixture
def new() -> Iterator[Server]:
    server = Server(f"test-{os.getpid()}-new", FAST, NEW)
    try:
        yield server.start()
    finally:
        server.remove()


def test_dump_and_restore(old, new: Server, tmp_path) -> None:
    server, filled = old
    with server.connect(DATABASE) as db:
        before = row_counts(db)
    # By the pg_dump of the new version, as PostgreSQL recommends.
    dumped = new.run(
        "pg_dump", "--format=custom", "--compress=0", "-h", server.socket, "-p", str(server.port), "-f", str(tmp_path / "dump"), dbname=DATABASE
    )
    assert (dumped.returncode, dumped.stderr) == (0, "")
    restored = new.run("pg_restore", "--create", "--exit-on-error", "-d", "postgres", str(tmp_path / "dump"))
    assert (restored.returncode, restored.stderr) == (0, "")
    with new.connect(DATABASE, autocommit=True) as db:
        assert row_counts(db) == before
        check(db, filled)
        go_on(db, filled)


def test_pg_upgrade(old, new: Server) -> None:
    """PostgreSQL 18 makes clusters with data checksums, 15 without: they are enabled in the old one first. Both have the same version of
    the library: pg_upgrade looks up the symbol of each function of the old one in the new one."""
    server, filled = old
    server.stop()
    new.stop()
    server.run_as_owner("pg_checksums", "--enable", "--no-sync", "-D", str(server.data))
    try:
        new.run_as_owner(
            "pg_upgrade", "--old-bindir", str(server.bin), "--new-bindir", str(new.bin), "--old-datadir", str(server.data.resolve()),
            "--new-datadir", str(new.data.resolve()), "--username", "postgres", "--socketdir", new.socket, "--no-sync",
        )  # fmt: skip
    except RuntimeError as e:
        logs = (f"{path.name}:\n{path.read_text()[-1000:]}" for path in new.data.resolve().rglob("pg_upgrade_output.d/*/log/*"))
        raise AssertionError("\n\n".join(logs)) from e
    new.start()
    with new.connect(DATABASE, autocommit=True) as db:
        assert db.execute("SHOW data_checksums").fetchone() == ("on",)
        check(db, filled)
        db.execute("ALTER EXTENSION pg_modelstore UPDATE")
        db.execute("SELECT modelstore.upgrade_store()")
        go_on(db, filled)
