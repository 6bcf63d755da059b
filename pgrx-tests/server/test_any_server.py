"""What the marker `any_server` promises: the other homes of a test are what their names say."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.any_server, pytest.mark.versioned]


def test_whose_the_store_is(db, home) -> None:
    (is_superuser,) = db.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    assert is_superuser == (home.user == "postgres")
    owners = "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = 'store'::regnamespace"
    assert db.execute(owners).fetchall() == [(home.user,)]


@pytest.mark.any_server("defaults")
def test_settings_are_those_of_initdb(db) -> None:
    """But for where the server listens, and its language: as it is sorted where the server knows ICU."""
    names = ["fsync", "full_page_writes", "jit", "max_connections", "shared_buffers", "max_wal_size", "work_mem", "max_parallel_workers_per_gather"]
    rows = db.execute("SELECT name, setting = boot_val OR name = 'shared_buffers' AND setting = '16384' FROM pg_settings WHERE name = ANY (%s)", (names,))
    assert dict(rows.fetchall()) == dict.fromkeys(names, True)
    knows_icu = db.execute("SELECT count(*) > 1 FROM pg_collation WHERE collprovider = 'i'").fetchone()[0]
    (before,) = db.execute("SELECT 'a' < 'B'").fetchone()
    assert before == knows_icu
