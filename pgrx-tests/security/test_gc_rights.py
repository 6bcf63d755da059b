"""gc() and tables of other roles: no code of theirs runs with the collector's privileges, and none of it blocks the
collection."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from models import random_tensor, safetensors_bytes
from observe import problems

pytestmark = pytest.mark.versioned

TENSORS = {f"w{n}": random_tensor(n, 8, 8) for n in range(25)}


@pytest.fixture
def roles(db):
    """The owner of a store, and somebody who may refer to it: (owner, other)."""
    names = [f"gc_{kind}_{uuid.uuid4().hex[:8]}" for kind in ("owner", "other")]
    (database,) = db.execute("SELECT current_database()").fetchone()
    db.execute("SELECT modelstore.drop_store('store')")
    for name in names:
        db.execute(f"CREATE ROLE {name} LOGIN")
        db.execute(f"GRANT CREATE ON DATABASE {database} TO {name}; GRANT USAGE ON SCHEMA modelstore TO {name}")
    yield names
    for name in names:
        db.execute(f"DROP OWNED BY {name} CASCADE")
        db.execute(f"DROP ROLE {name}")


@pytest.fixture
def owner(roles, connect) -> psycopg.Connection:
    """The owner, with a store in which 25 tensors are garbage."""
    c = connect(user=roles[0])
    c.execute("SELECT modelstore.create_store()")
    data = safetensors_bytes(TENSORS)
    (model, *_) = c.execute("SELECT * FROM modelstore.import_safetensors('m', '1', %b::bytea)", (data,)).fetchone()
    c.execute("SELECT modelstore.delete_model(%s)", (model,))
    return c


@pytest.fixture
def other(roles, owner, connect) -> psycopg.Connection:
    """Somebody with a table of their own that refers to three of them, and traps on it that log who runs them."""
    c = connect(user=roles[1])
    owner.execute(f"""GRANT USAGE ON SCHEMA store TO {roles[1]};
                      GRANT SELECT, REFERENCES ON ALL TABLES IN SCHEMA store TO {roles[1]}""")
    c.execute("""
        CREATE SCHEMA trap;
        GRANT USAGE ON SCHEMA trap TO PUBLIC;
        CREATE TABLE trap.log (who text);
        GRANT INSERT ON trap.log TO PUBLIC;
        CREATE FUNCTION trap.f() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO trap.log VALUES (current_user); RETURN true; END$$;
        CREATE FUNCTION trap.t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM trap.f(); RETURN NULL; END$$;
    """)
    return c


def refer(c: psycopg.Connection, action: str = "", hidden: bool = True, count: int = 3) -> None:
    c.execute(f"CREATE TABLE trap.mine (t uuid REFERENCES store.tensor_metadata {action}, secret int)")
    c.execute("GRANT SELECT ON trap.mine TO PUBLIC")
    c.execute("INSERT INTO trap.mine SELECT tensor_id FROM store.tensor_metadata ORDER BY tensor_id DESC LIMIT %s", (count,))
    c.execute("CREATE TRIGGER t AFTER DELETE OR UPDATE ON trap.mine FOR EACH STATEMENT EXECUTE FUNCTION trap.t()")
    if hidden:
        c.execute("ALTER TABLE trap.mine ENABLE ROW LEVEL SECURITY")
        c.execute("CREATE POLICY p ON trap.mine USING (trap.f())")


def left(c: psycopg.Connection) -> int:
    return c.execute("SELECT count(*) FROM store.tensor_metadata").fetchone()[0]


@pytest.mark.parametrize("action", ["", "ON DELETE RESTRICT", "DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE"])
@pytest.mark.parametrize("collector", ["owner", "superuser"])
@pytest.mark.parametrize("hidden", [False, True], ids=["in sight", "hidden"])
def test_what_others_refer_to_stays_and_the_rest_goes(hidden: bool, collector: str, action: str, db, owner, other) -> None:
    refer(other, action, hidden)
    c = owner if collector == "owner" else db
    assert c.execute("SELECT tensors FROM modelstore.gc(true)").fetchone() == (25,)
    for expected in (22, 0):
        assert c.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (expected,)
        assert left(db) == 3
    assert other.execute("SELECT DISTINCT who FROM trap.log").fetchall() == []
    assert problems(db) == []
    other.execute("DROP TABLE trap.mine")
    assert c.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (3,)
    assert db.execute("SELECT count(*) FROM store.tensor_chunks").fetchone() == (0,)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_in_each_isolation_level(level: str, owner, other) -> None:
    refer(other)
    with owner.transaction():
        owner.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        assert owner.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (22,)
    assert left(owner) == 3


def test_chunks_that_others_refer_to(db, owner, other) -> None:
    other.execute("CREATE TABLE trap.chunks (c bytea REFERENCES store.tensor_chunks)")
    other.execute("INSERT INTO trap.chunks SELECT chunk_hash FROM store.tensor_chunks LIMIT 2")
    for expected in ((25, 23), (0, 0)):
        assert owner.execute("SELECT tensors, chunks FROM modelstore.gc()").fetchone() == expected
    other.execute("DROP TABLE trap.chunks")
    assert owner.execute("SELECT tensors, chunks FROM modelstore.gc()").fetchone() == (0, 2)


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
@pytest.mark.parametrize("collector", ["owner", "superuser"])
def test_what_would_change_rows_of_others_is_refused(collector: str, action: str, db, owner, other, roles) -> None:
    """Triggers on these rows, and of statements on none, would run as the collector before PostgreSQL 18."""
    refer(other, f"ON DELETE {action}", hidden=False)
    c = owner if collector == "owner" else db
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="trap.mine") as e:
        c.execute("SELECT * FROM modelstore.gc()")
    assert roles[1] in e.value.diag.message_primary and "mine_t_fkey" in e.value.diag.message_primary
    assert left(db) == 25
    assert other.execute("SELECT who FROM trap.log").fetchall() == []


def test_tables_of_the_owner_are_asked(db, owner) -> None:
    """Whether they cascade or not: they are the owner's, like the store."""
    owner.execute("CREATE SCHEMA mine; CREATE TABLE mine.favourites (t uuid REFERENCES store.tensor_metadata ON DELETE CASCADE)")
    owner.execute("INSERT INTO mine.favourites SELECT tensor_id FROM store.tensor_metadata LIMIT 4")
    for c in (owner, db):
        assert c.execute("SELECT tensors FROM modelstore.gc(true)").fetchone() == ((21 if c is owner else 0),)
        assert c.execute("SELECT tensors FROM modelstore.gc()").fetchone() == ((21 if c is owner else 0),)
    assert db.execute("SELECT count(*) FROM mine.favourites").fetchone() == (4,)


def test_what_the_owner_put_on_a_table_runs_as_the_owner(db, owner, roles) -> None:
    """A superuser who collects in somebody's store does not run their code as superuser."""
    owner.execute("""
        CREATE TABLE store.log (who text, setting text);
        CREATE FUNCTION store.t() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO store.log VALUES (current_user, current_setting('is_superuser'));
            PERFORM set_config('work_mem', '65MB', false);
            RETURN OLD;
        END$$;
        CREATE TRIGGER t BEFORE DELETE ON store.tensor_metadata FOR EACH ROW EXECUTE FUNCTION store.t();
    """)
    before = db.execute("SHOW work_mem").fetchone()
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match='would run code of role'):
        db.execute("SELECT tensors FROM modelstore.gc()")
    db.execute("SET modelstore.trust_store_owner = on")
    assert db.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (25,)
    assert owner.execute("SELECT DISTINCT who FROM store.log").fetchall() == [(roles[0],)]
    assert db.execute("SELECT current_user").fetchone() == ("postgres",)
    assert db.execute("SHOW work_mem").fetchone() == before
    # An error on the way leaves the session who it was.
    owner.execute("CREATE OR REPLACE FUNCTION store.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'")
    owner.execute("INSERT INTO store.tensor_metadata SELECT gen_random_uuid(), sha256('x'), 'f32', '{0}', 0, 0, 0")
    with pytest.raises(psycopg.errors.RaiseException):
        db.execute("SELECT modelstore.gc()")
    assert db.execute("SELECT current_user, current_setting('is_superuser')").fetchone() == ("postgres", "on")


def test_a_role_with_rights_on_the_tables_may_collect(db, owner, other, roles) -> None:
    refer(other)
    owner.execute(f"GRANT UPDATE, DELETE ON ALL TABLES IN SCHEMA store TO {roles[1]}")
    assert other.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (22,)
    # A table of the owner that the role may not read is left to its foreign key.
    owner.execute("CREATE TABLE store.secret (t uuid REFERENCES store.tensor_metadata)")
    owner.execute("INSERT INTO store.secret SELECT tensor_id FROM store.tensor_metadata ORDER BY tensor_id LIMIT 1")
    other.execute("DELETE FROM trap.mine")
    assert other.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (2,)


def test_many_that_stay_are_passed_once(db, owner, other) -> None:
    """More rows than a batch that nobody lets go: the collector gets by them."""
    owner.execute("""INSERT INTO store.tensor_metadata SELECT gen_random_uuid(), sha256(n::text::bytea), 'f32', '{0}', 0, 0, 0
                     FROM generate_series(1, 25000) n""")
    refer(other, hidden=False, count=12)
    assert owner.execute("SELECT tensors FROM modelstore.gc()").fetchone() == (25025 - 12,)
    assert left(db) == 12
