"""The index scan over places without a statement returns the same rows as statements, and only rows the role may see."""

from __future__ import annotations

import contextlib

import numpy as np
import psycopg
import pytest
from atoms import Connection
from clouds import LAST, Cloud, make, put
from neighbours import by_array, by_atom, by_point, questions
from transfer import refusal

pytestmark = pytest.mark.versioned

ASKED = (LAST // 3, LAST // 2, LAST // 5, 7)
READ = "GRANT USAGE ON SCHEMA store TO {0}; GRANT SELECT ON store.atoms TO {0}"


def by_statements(db: Connection, isolation: str = "READ COMMITTED") -> bool:
    """Whether a search of this session runs statements: the server tells which it plans, the search itself is one."""
    with contextlib.suppress(psycopg.Error):  # the first call of a session looks at the tables of the store
        db.execute("SELECT modelstore.find_model('nothing')")
    planned: list[str] = []
    handler = lambda notice: planned.append(notice.message_primary)  # noqa: E731
    db.add_notice_handler(handler)
    with db.transaction():
        db.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        db.execute("SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL client_min_messages = log; SET LOCAL debug_print_plan = on")
        db.execute("SELECT * FROM modelstore.nearest_points(%s::integer[], 3)", (list(ASKED),), prepare=False)
        db.execute("SET LOCAL debug_print_plan = off")
    db.remove_notice_handler(handler)
    plans = planned.count("plan:")
    assert plans > 0
    return plans > 1


@pytest.mark.parametrize("kind", ["uniform", "clustered", "one place"])
def test_both_ways_find_the_same(kind: str, db, connect) -> None:
    rng = np.random.default_rng(31)
    put(db, make(kind, 5000, rng), rng.choice(["text", "video"], 5000).tolist())
    db.execute("DELETE FROM store.atoms WHERE h_zm % 5 = 0")
    cloud = Cloud(db)
    asked = questions(cloud, rng, 8)

    def found() -> list:
        one = [by_point(db, q, k, modality) for q in asked for k, modality in ((1, None), (30, "text"))]
        atoms = [by_atom(db, key, 9) for key in cloud.keys[::400]]
        regions = [
            db.execute("SELECT * FROM modelstore.within_radius(%s::integer[], 3e7)", (q.tolist(),)).fetchall()
            + db.execute("SELECT * FROM modelstore.within_box(%s::integer[], %s, 'video')", (np.minimum(q, asked[0]).tolist(), np.maximum(q, asked[0]).tolist())).fetchall()
            for q in asked
        ]
        ends = [(*a, *b) for a, b in zip(cloud.keys[::900], cloud.keys[100::900])]
        paths = [db.execute("SELECT * FROM modelstore.find_path((%s, %s, %s), (%s, %s, %s), 8, 'astar', '{neighbour}', 5)", e).fetchall() for e in ends]
        return [one, by_array(db, np.array(asked), 4), by_array(db, np.array(asked * 30), 4), atoms, regions, paths]

    assert not by_statements(db)
    directly = found()
    assert by_statements(db, "SERIALIZABLE")
    with db.transaction():
        db.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        assert found() == directly
    # All rows are known to be visible to everybody now, and none is read.
    db.execute("VACUUM store.atoms")
    assert found() == directly


def test_what_a_snapshot_sees(db, connect) -> None:
    """What others do meanwhile, before and after VACUUM, and what the transaction did itself."""
    rng = np.random.default_rng(32)
    put(db, make("clustered", 3000, rng))
    db.execute("VACUUM store.atoms")
    asked = questions(Cloud(db), rng, 4)
    old = connect()
    old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    then = Cloud(old)
    db.execute("DELETE FROM store.atoms WHERE (h_zm & 6) = 0")
    put(db, make("clustered", 2000, np.random.default_rng(33)))
    now = Cloud(db)
    assert len(set(then.keys) - set(now.keys)) > 300 and len(set(now.keys) - set(then.keys)) > 300
    for _ in range(2):
        for session, cloud in ((old, then), (db, now)):
            for q in asked:
                assert by_point(session, q, 40) == cloud.nearest(q, 40)
        db.execute("VACUUM store.atoms")
    put(old, np.array([[c + 1 for c in ASKED]]))
    old.execute("DELETE FROM store.atoms WHERE (h_xy, h_yz, h_zm) = (%s, %s, %s)", then.nearest(ASKED, 1)[0][:3])
    mine = Cloud(old)
    assert by_point(old, ASKED, 5) == mine.nearest(ASKED, 5) != then.nearest(ASKED, 5)
    assert by_point(db, ASKED, 5) == now.nearest(ASKED, 5)
    old.execute("ROLLBACK")
    assert not by_statements(old)


def test_a_cursor_keeps_its_snapshot(db) -> None:
    put(db, np.array([[5, 5, 5, 5]]))
    with db.transaction():
        db.execute("DECLARE c CURSOR FOR SELECT x.* FROM generate_series(1, 2), LATERAL modelstore.nearest_points('{5,5,5,5}'::integer[], 9 + 0 * generate_series) x")
        db.execute("FETCH 1 FROM c")
        db.execute("DELETE FROM store.atoms")
        put(db, np.array([[5, 5, 5, 6], [5, 5, 5, 7]]))
        assert len(db.execute("FETCH ALL FROM c").fetchall()) == 1
        assert len(by_point(db, (5, 5, 5, 5), 9)) == 2


def test_indexes_and_partitions_that_are_not_as_made(db) -> None:
    rng = np.random.default_rng(34)
    put(db, make("clustered", 2000, rng), rng.choice(["text", "other"], 2000).tolist())
    asked = questions(Cloud(db), rng, 3)

    def check(statements: bool) -> None:
        cloud = Cloud(db)
        assert [by_point(db, q, 12) for q in asked] == [cloud.nearest(q, 12) for q in asked]
        assert by_statements(db) == statements

    check(False)
    (partition,) = db.execute("SELECT tableoid::regclass::text FROM store.atoms LIMIT 1").fetchone()
    db.execute(f"REINDEX TABLE CONCURRENTLY {partition}")
    check(False)
    db.execute("CREATE INDEX ON store.atoms (h_zm) INCLUDE (h_xy, h_yz, created_at)")
    check(False)
    # The same of some rows, made before what is over all of them.
    db.execute(f"CREATE INDEX ON {partition} (modelstore.atom_place(h_xy, h_yz, h_zm)) INCLUDE (h_xy, h_yz, h_zm) WHERE h_yz % 3 = 0")
    (whole,) = db.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass AND indkey[0] = 0 AND indpred IS NULL", (partition,)
    ).fetchone()
    db.execute(f"REINDEX INDEX CONCURRENTLY {whole}")
    check(False)
    db.execute(f"ALTER TABLE store.atoms DETACH PARTITION {partition}")
    check(True)
    (bounds,) = db.execute("SELECT (h_xy >> 51) << 51 FROM " + partition).fetchone()
    db.execute(f"ALTER TABLE store.atoms ATTACH PARTITION {partition} FOR VALUES FROM ({bounds}) TO ({bounds + 2**51})")
    check(False)
    db.execute("DROP INDEX store.atoms_place_idx")
    check(True)
    # As a store has it that somebody mended by hand, without the key in it.
    db.execute("CREATE INDEX atoms_place_idx ON store.atoms (modelstore.atom_place(h_xy, h_yz, h_zm))")
    check(True)


def test_who_may_read(db, connect, role) -> None:  # noqa: F811
    put(db, make("uniform", 300, np.random.default_rng(35)))
    cloud = Cloud(db)
    ask = "SELECT * FROM modelstore.nearest_points(%s::integer[], 5)"
    plain = connect(user=role(READ))
    assert by_point(plain, ASKED, 5) == cloud.nearest(ASKED, 5)
    assert not by_statements(plain)
    # Rights to the columns of the key are enough, and are a statement's to check.
    columns = connect(user=role("GRANT USAGE ON SCHEMA store TO {0}; GRANT SELECT (h_xy, h_yz, h_zm) ON store.atoms TO {0}"))
    assert by_point(columns, ASKED, 5) == cloud.nearest(ASKED, 5)
    for grants in (READ.split(";")[0], READ.split(";")[1], "GRANT USAGE ON SCHEMA store TO {0}; GRANT SELECT (h_xy) ON store.atoms TO {0}"):
        assert refusal(connect(user=role(grants)), ask, list(ASKED)).sqlstate == "42501", grants
    # In a session that has searched, what is taken away is gone at once.
    db.execute(f"REVOKE SELECT ON store.atoms FROM {plain.info.user}")
    assert refusal(plain, ask, list(ASKED)).sqlstate == "42501"
    db.execute(f"GRANT SELECT ON store.atoms TO {plain.info.user}")
    db.execute("SELECT modelstore.secure_atoms()")
    assert by_point(plain, ASKED, 5) == []
    plain.execute("SET row_security = off")
    assert refusal(plain, ask, list(ASKED)).sqlstate == "42501"
    assert not by_statements(db)


def test_a_search_that_ends_early_leaves_nothing(db, server) -> None:
    """Cancelled in the middle, in a subtransaction as well: nothing stays open, which the server would warn of."""
    rng = np.random.default_rng(36)
    put(db, make("uniform", 20_000, rng))
    points = rng.integers(0, LAST + 1, (40_000, 4)).tolist()
    notices: list[str] = []
    db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    db.execute("SET maintenance_work_mem = '1MB'")
    with pytest.raises(psycopg.errors.QueryCanceled), db.transaction():
        db.execute("SET LOCAL statement_timeout = '150ms'")
        db.execute("SELECT count(*) FROM modelstore.nearest_points(%s::integer[], 20)", (points,))
    with db.transaction():
        with pytest.raises(psycopg.errors.NumericValueOutOfRange), db.transaction():
            db.execute("SELECT count(*) FROM modelstore.nearest_points(%s::integer[], 20) n WHERE 2147483647 + n.point_index::int > 0", (points[:50],))
        assert len(by_point(db, ASKED, 5)) == 5
    assert notices == []
    assert by_point(db, ASKED, 5) == Cloud(db).nearest(ASKED, 5)
