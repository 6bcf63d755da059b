"""Settings that are given before a session has loaded the library, which its first call does: they count from that call on, whoever
gave them, and what is wrong with them is a warning then and not a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

pytestmark = pytest.mark.versioned

ROLE = "settings_role"
CURRENT = "SELECT store FROM modelstore.stores() WHERE is_current"
# Setting, value, and the warning that the first call gives; none if it is right.
CASES = {
    "right": ("modelstore.store", "other", None),
    "of another type": ("modelstore.threads", "many", 'invalid value for parameter "modelstore.threads": "many"'),
    "out of range": ("modelstore.threads", "65", '65 is outside the valid range for parameter "modelstore.threads" (1 .. 64)'),
    "unknown": ("modelstore.stroe", "other", 'invalid configuration parameter name "modelstore.stroe", removing it'),
}


@pytest.fixture
def place(server, dbname: str) -> Iterator[str]:
    """A database with the stores `store` and `other`, both readable, and a role without superuser."""
    with server.connect(dbname, autocommit=True) as c:
        c.execute(f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$".encode())
        c.execute("SELECT modelstore.create_store('other')")
        for store in ("store", "other"):
            c.execute(f"GRANT USAGE ON SCHEMA {store} TO {ROLE}; GRANT SELECT ON ALL TABLES IN SCHEMA {store} TO {ROLE}".encode())
    yield dbname
    with server.connect(autocommit=True) as c:
        c.execute(f"ALTER ROLE {ROLE} RESET ALL".encode())
        c.execute(f"REVOKE SET ON PARAMETER modelstore.store FROM {ROLE}".encode())


def by_role(server, place: str, name: str, value: str) -> psycopg.Connection:
    """By a superuser, in a session that has not loaded the library."""
    server.psql(f"ALTER ROLE {ROLE} SET {name} = '{value}'", place)
    return server.connect(place, ROLE, autocommit=True)


def by_role_in_database(server, place: str, name: str, value: str) -> psycopg.Connection:
    server.psql(f"ALTER ROLE {ROLE} IN DATABASE {place} SET {name} = '{value}'", place)
    return server.connect(place, ROLE, autocommit=True)


def by_database(server, place: str, name: str, value: str) -> psycopg.Connection:
    server.psql(f"ALTER DATABASE {place} SET {name} = '{value}'", place)
    return server.connect(place, ROLE, autocommit=True)


def by_options(server, place: str, name: str, value: str) -> psycopg.Connection:
    """As PGOPTIONS does."""
    return server.connect(place, ROLE, autocommit=True, options=f"-c {name}={value}")


def by_set(server, place: str, name: str, value: str) -> psycopg.Connection:
    """In the session itself, by the role itself."""
    c = server.connect(place, ROLE, autocommit=True)
    c.execute(f"SET {name} = '{value}'".encode())
    return c


WAYS = [by_role, by_role_in_database, by_database, by_options, by_set]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_setting_counts_from_the_first_call(way: Callable[..., psycopg.Connection], case: str, server, place: str) -> None:
    name, value, warning = CASES[case]
    with way(server, place, name, value) as c:
        notices: list[tuple[str | None, str | None]] = []
        c.add_notice_handler(lambda d: notices.append((d.severity, d.message_primary)))
        # PostgreSQL keeps it as it is.
        assert c.execute("SELECT current_setting(%s)", (name,)).fetchone() == (value,)
        assert c.execute(CURRENT).fetchone() == (value if warning is None else "store",)
        assert notices == ([] if warning is None else [("WARNING", warning)])
        assert c.execute("SELECT current_setting('modelstore.threads'), current_setting('modelstore.stroe', true)").fetchone() == ("2", None)
        # From now on, the same is an error.
        if warning is not None:
            with pytest.raises((psycopg.errors.InvalidParameterValue, psycopg.errors.InvalidName)):
                c.execute(f"SET {name} = '{value}'".encode())
        c.execute("SET modelstore.store = 'store'")
        assert c.execute(CURRENT).fetchone() == ("store",)
        # RESET goes back to what the session began with.
        c.execute("RESET modelstore.store")
        began_with = value if warning is None and way is not by_set else "store"
        assert c.execute(CURRENT).fetchone() == (began_with,)


def test_the_most_special_one_counts(server, place: str) -> None:
    server.psql(f"SELECT modelstore.create_store('third'); ALTER DATABASE {place} SET modelstore.store = 'third'", place)
    with by_role(server, place, "modelstore.store", "other") as c:
        assert c.execute(CURRENT).fetchone() == ("other",)
    with by_options(server, place, "modelstore.store", "store") as c:
        assert c.execute(CURRENT).fetchone() == ("store",)


OF_ITSELF = f"ALTER ROLE {ROLE} SET modelstore.store = 'other'".encode()


def test_a_role_sets_its_own_after_a_call(server, place: str) -> None:
    """PostgreSQL lets only a superuser store a setting that it does not know, as it could turn out to be one for superusers. Any call
    makes it known; so does GRANT SET ON PARAMETER."""
    with server.connect(place, ROLE, autocommit=True) as c:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match='permission denied to set parameter "modelstore.store"'):
            c.execute(OF_ITSELF)
        c.execute("SELECT modelstore.version()")
        c.execute(OF_ITSELF)
    with server.connect(place, ROLE, autocommit=True) as c:
        assert c.execute(CURRENT).fetchone() == ("other",)
        c.execute(f"ALTER ROLE {ROLE} RESET modelstore.store".encode())
    with server.connect(place, ROLE, autocommit=True) as c:
        assert c.execute(CURRENT).fetchone() == ("store",)


def test_a_role_that_was_granted_the_setting(server, place: str) -> None:
    server.psql(f"GRANT SET ON PARAMETER modelstore.store TO {ROLE}", place)
    with server.connect(place, ROLE, autocommit=True) as c:
        c.execute(OF_ITSELF)
    with server.connect(place, ROLE, autocommit=True) as c:
        assert c.execute(CURRENT).fetchone() == ("other",)


def test_reset_all_before_a_call_keeps_it(server, place: str) -> None:
    """Without an error, as PostgreSQL skips what the role may not set."""
    by_role(server, place, "modelstore.store", "other").close()
    with server.connect(place, ROLE, autocommit=True) as c:
        c.execute(f"ALTER ROLE {ROLE} RESET ALL".encode())
    with server.connect(place, ROLE, autocommit=True) as c:
        assert c.execute(CURRENT).fetchone() == ("other",)
        c.execute(f"ALTER ROLE {ROLE} RESET ALL".encode())
    with server.connect(place, ROLE, autocommit=True) as c:
        assert c.execute(CURRENT).fetchone() == ("store",)


def test_a_new_value_reaches_new_sessions_alone(server, place: str) -> None:
    with server.connect(place, ROLE, autocommit=True) as before:
        assert before.execute(CURRENT).fetchone() == ("store",)
        with by_role(server, place, "modelstore.store", "other") as c:
            assert c.execute(CURRENT).fetchone() == ("other",)
        assert before.execute(CURRENT).fetchone() == ("store",)
