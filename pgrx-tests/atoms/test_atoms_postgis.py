"""Atoms as PostGIS geometries. Needs a server with PostGIS: make pytest PG_CONFIG=…
ARGS=pgrx-tests/atoms/test_atoms_postgis.py"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from atom_files import picture, pnm, sources
from databases import make_template
from harness import EXTENSION, Server
from psycopg.sql import SQL, Identifier
from hostile_names import HOSTILE, MORE_HOSTILE, NAMES
from transfer import refusal

pytestmark = pytest.mark.versioned

Connection = psycopg.Connection[Any]
TEXT = "Roses are red,\nviolets are blue.\n\nSugar is sweet,\nand so are you.\n"
GIS = '"G is @store@"'
"""Where PostGIS is in these databases, in quotes: nothing may find it by a search path. It refuses quotes in the name."""
COLUMNS = ["h_xy", "h_yz", "h_zm", "modality", "byte_length", "meta", "geom"]
VIEW = "store.atom_geometries"
LAST = (1 << 28) - 1


@pytest.fixture(scope="module")
def template(server: Server) -> str:
    """In place of that of conftest: a database with PostGIS, a store and some atoms."""
    with server.connect() as c:
        if not c.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'").fetchone():
            pytest.skip("this server has no PostGIS")
    postgis = f"CREATE SCHEMA {GIS}; CREATE EXTENSION postgis SCHEMA {GIS};"
    name = make_template(server, "with_postgis", f"{postgis} CREATE EXTENSION {EXTENSION}; SELECT modelstore.create_store(modules => ARRAY['atoms']);")
    with server.connect(name, autocommit=True) as c:
        c.execute("SELECT modelstore.ingest_text(%s::text)", (TEXT,))
        c.execute("SELECT modelstore.ingest(%b::bytea, 'code')", (sources()[:60_000],))
        c.execute("SELECT modelstore.ingest(%b::bytea, 'image')", (pnm(picture(101, 67)),))
        c.execute("SELECT modelstore.ingest_text(''::text)")
    return name


@pytest.fixture
def gis(db: Connection) -> Connection:
    """A connection that finds PostGIS' functions, and the view."""
    enable(db)
    db.execute(f"SET search_path = {GIS}, public")
    return db


@pytest.fixture
def role(db: Connection) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"gis_{uuid.uuid4().hex[:8]}"
    db.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    db.execute(f"DROP OWNED BY {name} CASCADE")
    db.execute(f"DROP ROLE {name}")


def enable(db: Connection) -> str:
    return db.execute("SELECT modelstore.enable_postgis()").fetchone()[0]


def value(db: Connection, sql: str, *arguments: object) -> Any:
    return db.execute(sql, arguments).fetchone()[0]


def count(db: Connection) -> int:
    return value(db, "SELECT count(*) FROM store.atoms")


def there(db: Connection, view: str = VIEW) -> bool:
    return value(db, "SELECT to_regclass(%s) IS NOT NULL", view)


def wrong_points(db: Connection, view: str = VIEW, schema: str = GIS) -> int:
    """How many rows lie elsewhere than their key says."""
    of = ", ".join(f"{schema}.st_{c}(v.geom)" for c in "xyzm")
    at = "modelstore.atom_point(v.h_xy, v.h_yz, v.h_zm) p"
    return value(db, f"SELECT count(*) FROM {view} v, {at} WHERE ({of}) IS DISTINCT FROM (p.x, p.y, p.z, p.m)")


# The view


def test_every_atom_is_a_point(db: Connection) -> None:
    assert enable(db) == VIEW
    columns = "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    assert [name for (name,) in db.execute(columns, (VIEW,))] == COLUMNS
    atoms = db.execute("SELECT h_xy, h_yz, h_zm, modality, byte_length, meta FROM store.atoms ORDER BY 1, 2, 3").fetchall()
    assert len(atoms) > 100
    assert db.execute(f"SELECT h_xy, h_yz, h_zm, modality, byte_length, meta FROM {VIEW} ORDER BY 1, 2, 3").fetchall() == atoms
    assert wrong_points(db) == 0
    kinds = f"SELECT DISTINCT {GIS}.st_geometrytype(geom), {GIS}.st_ndims(geom), {GIS}.st_srid(geom) FROM {VIEW}"
    assert db.execute(kinds).fetchall() == [("ST_Point", 4, 0)]
    # What a GIS client asks before it draws.
    client = f"SELECT f_geometry_column, coord_dimension, srid, type FROM {GIS}.geometry_columns WHERE f_table_name = 'atom_geometries'"
    assert db.execute(client).fetchall() == [("geom", 4, 0, "POINT")]
    comments = "SELECT objsubid FROM pg_description WHERE objoid = %s::regclass ORDER BY 1"
    assert [n for (n,) in db.execute(comments, (VIEW,))] == list(range(len(COLUMNS) + 1))


def test_a_store_without_atoms(gis: Connection) -> None:
    gis.execute("SELECT modelstore.create_store('empty', ARRAY['atoms'])")
    gis.execute("SET modelstore.store = 'empty'")
    assert enable(gis) == "empty.atom_geometries"
    assert gis.execute("SELECT * FROM empty.atom_geometries").fetchall() == []
    assert value(gis, "SELECT st_extent(geom) FROM empty.atom_geometries") is None


# Queries


def test_the_nearest_are_those_of_nearest(gis: Connection) -> None:
    points = gis.execute("SELECT x, y, z, m FROM store.atoms, modelstore.atom_point(h_xy, h_yz, h_zm) ORDER BY h_zm LIMIT 20").fetchall()
    for point in points:
        ours = gis.execute("SELECT distance FROM modelstore.nearest_points(%s::int[], 10) ORDER BY 1", (list(point),)).fetchall()
        theirs = gis.execute(f"SELECT geom <<->> st_makepoint(%s, %s, %s, %s) AS d FROM {VIEW} ORDER BY d LIMIT 10", point).fetchall()
        assert [d for (d,) in theirs] == pytest.approx([d for (d,) in ours])


def test_distances_leave_out_what_postgis_leaves_out(gis: Connection) -> None:
    """<-> has two dimensions, ST_3DDistance three, <<->> four."""
    pairs = gis.execute(f"""
        SELECT a.geom <-> b.geom, st_distance(a.geom, b.geom), st_3ddistance(a.geom, b.geom), a.geom <<->> b.geom,
               ARRAY[p.x, p.y, p.z, p.m], ARRAY[q.x, q.y, q.z, q.m]
        FROM {VIEW} a, {VIEW} b, modelstore.atom_point(a.h_xy, a.h_yz, a.h_zm) p, modelstore.atom_point(b.h_xy, b.h_yz, b.h_zm) q
        WHERE a.modality = 0 AND b.modality = 5 LIMIT 500""").fetchall()
    assert len(pairs) == 500
    for knn, flat, solid, nd, p, q in pairs:
        expected = [math.dist(p[:n], q[:n]) for n in (2, 2, 3, 4)]
        assert [knn, flat, solid, nd] == pytest.approx(expected)


def test_boxes(gis: Connection) -> None:
    """&& compares bounding boxes, which PostGIS keeps in single precision; ST_Intersects is exact in x and y."""
    points = gis.execute("SELECT x, y FROM store.atoms, modelstore.atom_point(h_xy, h_yz, h_zm)").fetchall()
    (x, x_max), (y, y_max) = ((c[len(c) // 5], c[-len(c) // 5]) for c in map(sorted, zip(*points, strict=True)))
    inside = gis.execute("SELECT * FROM modelstore.within_box(%s, %s)", ([x, y, 0, 0], [x_max, y_max, LAST, LAST])).fetchall()
    assert 50 < len(inside) < count(gis) - 50
    exact, loose = (
        set(gis.execute(f"SELECT h_xy, h_yz, h_zm FROM {VIEW} WHERE {test}", (x, y, x_max, y_max)).fetchall())
        for test in ("st_intersects(geom, st_makeenvelope(%s, %s, %s, %s))", "geom && st_makeenvelope(%s, %s, %s, %s)")
    )
    assert exact == set(inside) <= loose


def test_a_copy_can_be_indexed(gis: Connection) -> None:
    gis.execute(f"CREATE MATERIALIZED VIEW points AS SELECT * FROM {VIEW}")
    gis.execute("CREATE INDEX ON points USING gist (geom gist_geometry_ops_nd)")
    gis.execute("SET enable_seqscan = off")
    near = "SELECT geom <<->> st_makepoint(1e8, 1e8, 1e8, 1e8) AS d FROM points ORDER BY d LIMIT 5"
    assert "Index Scan" in str(gis.execute(f"EXPLAIN {near}").fetchall())
    ours = gis.execute("SELECT distance FROM modelstore.nearest_points('{100000000,100000000,100000000,100000000}'::int[], 5) ORDER BY 1").fetchall()
    assert [d for (d,) in gis.execute(near)] == pytest.approx([d for (d,) in ours])


def test_the_planner_expects_a_row_for_an_atom(gis: Connection) -> None:
    gis.execute("ANALYZE store.atoms")
    (plan,) = value(gis, f"EXPLAIN (FORMAT json) SELECT * FROM {VIEW}")
    assert plan["Plan"]["Plan Rows"] < 2 * count(gis)


# Again, elsewhere, under other names


def test_twice(gis: Connection, role: str) -> None:
    gis.execute(f"GRANT SELECT ON {VIEW} TO {role}")
    before = value(gis, "SELECT %s::regclass::oid", VIEW)
    assert enable(gis) == VIEW
    assert value(gis, "SELECT %s::regclass::oid", VIEW) == before
    assert value(gis, "SELECT has_table_privilege(%s, %s, 'SELECT')", role, VIEW)


def test_a_transaction_takes_it_back(db: Connection) -> None:
    db.execute("BEGIN")
    enable(db)
    db.execute("ROLLBACK")
    assert not there(db)
    assert refusal(db, "SET TRANSACTION READ ONLY; SELECT modelstore.enable_postgis()").sqlstate == "25006"


@pytest.mark.parametrize("name", [*NAMES, "@postgis@"])
def test_names_that_need_quoting(name: str, db: Connection) -> None:
    db.execute("SELECT modelstore.create_store(%s, ARRAY['atoms'])", (name,))
    db.execute("SELECT set_config('modelstore.store', %s, false)", (name,))
    db.execute("SELECT modelstore.ingest_text(%s::text)", (TEXT,))
    view = SQL("{}.atom_geometries").format(Identifier(name)).as_string(db)
    made = enable(db)
    assert value(db, "SELECT %s::regclass = %s::regclass", made, view)
    assert value(db, f"SELECT count(*) FROM {made}") == 8
    assert wrong_points(db, made) == 0
    assert not there(db)
    assert value(db, "SELECT modelstore.drop_store(%s, true)", name) == name
    assert not there(db, view)


def test_without_postgis_and_with_another(db: Connection) -> None:
    enable(db)
    diag = refusal(db, "DROP EXTENSION postgis")
    assert (diag.sqlstate, "CASCADE" in diag.message_hint) == ("2BP01", True)
    assert f"view {VIEW} depends on" in diag.message_detail
    db.execute("DROP EXTENSION postgis CASCADE")
    assert not there(db)
    diag = refusal(db, "SELECT modelstore.enable_postgis()")
    assert (diag.sqlstate, diag.message_hint) == ("42704", "CREATE EXTENSION postgis;")
    db.execute(diag.message_hint)
    # In the same session, where it was somewhere else before.
    assert enable(db) == VIEW
    assert wrong_points(db, schema="public") == 0
    assert count(db) > 100


# Who may


def test_an_owner_who_is_no_superuser(connect: Any, db: Connection, dbname: str, role: str) -> None:
    db.execute(f"GRANT CREATE ON DATABASE {dbname} TO {role}")
    c = connect(user=role)
    c.execute("SELECT modelstore.create_store('hers', ARRAY['atoms'])")
    c.execute("SET modelstore.store = 'hers'")
    c.execute("SELECT modelstore.ingest_text(%s::text)", (TEXT,))
    diag = refusal(c, "SELECT modelstore.enable_postgis()")
    assert diag.sqlstate == "42501" and GIS.strip('"') in diag.message_primary
    db.execute(f"GRANT USAGE ON SCHEMA {GIS} TO {role}")
    assert enable(c) == enable(c) == "hers.atom_geometries"
    assert wrong_points(c, "hers.atom_geometries") == 0
    assert value(c, "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'hers.atom_geometries'::regclass") == role
    assert value(c, "SELECT modelstore.drop_store('hers', true)") == "hers"


def test_privileges_of_the_caller_decide(connect: Any, db: Connection, role: str) -> None:
    c = connect(user=role)
    make, read = "SELECT modelstore.enable_postgis()", f"SELECT count(*) FROM {VIEW}"
    assert refusal(c, make).sqlstate == "42501"
    db.execute(f"GRANT USAGE ON SCHEMA store TO {role}")
    assert refusal(c, make).sqlstate == "42501" and not there(db)
    enable(db)
    assert refusal(c, make).sqlstate == "42501" and refusal(c, read).sqlstate == "42501"
    db.execute(f"GRANT SELECT ON {VIEW} TO {role}")
    assert refusal(c, read).message_primary == "permission denied for table atoms"
    db.execute(f"GRANT SELECT ON store.atoms TO {role}")
    assert value(c, read) == value(db, read) > 100
    assert refusal(c, make).sqlstate == "42501"


def test_it_shows_what_the_reader_may_see(gis: Connection, connect: Any, role: str) -> None:
    gis.execute("SELECT modelstore.secure_atoms()")
    gis.execute(f"GRANT USAGE ON SCHEMA store TO {role}; GRANT SELECT ON store.atoms, {VIEW} TO {role}")
    c, read = connect(user=role), f"SELECT byte_length, meta FROM {VIEW}"
    assert c.execute(read).fetchall() == []
    meta = '{"visibility": "public"}'
    gis.execute("SELECT modelstore.set_atom_meta((h_xy, h_yz, h_zm), %s) FROM store.atoms WHERE value = 'Roses are red,\n'", (meta,))
    assert c.execute(read).fetchall() == [(15, {"visibility": "public"})]
    assert value(gis, f"SELECT count(*) FROM {VIEW}") > 100


def test_a_hostile_search_path_changes_nothing(db: Connection, connect: Any) -> None:
    db.execute(HOSTILE)
    db.execute(MORE_HOSTILE)
    for name, types in (("st_makepoint", "float8, float8, float8, float8"), ("atom_point", "bigint, bigint, bigint")):
        db.execute(f"CREATE FUNCTION hostile.{name}({types}) RETURNS text LANGUAGE sql AS 'SELECT hostile.boom()'")
    db.execute("CREATE TYPE hostile.geometry AS (boom pg_catalog.int4); CREATE TYPE hostile.float8 AS (boom pg_catalog.int4)")
    c = connect()
    c.execute(f"SET search_path = hostile, pg_catalog, {GIS}, store")
    c.execute("CREATE TEMP TABLE pg_extension (boom int4)")
    assert refusal(c, "SELECT st_makepoint(1, 2, 3, 4)").message_primary == "hijacked"  # the trap is set
    assert enable(c) == VIEW
    assert wrong_points(db) == 0
    assert value(c, f"SELECT pg_catalog.count(geom) FROM {VIEW}") > 100


def test_a_function_beside_those_of_postgis_is_not_taken(db: Connection, connect: Any, role: str) -> None:
    """PostGIS is often in a schema where others may create: theirs would match the integers of atom_point better."""
    db.execute(f"GRANT USAGE, CREATE ON SCHEMA {GIS} TO {role}")
    theirs = f"{GIS}.st_makepoint(integer, integer, integer, integer) RETURNS {GIS}.geometry"
    connect(user=role).execute(f"CREATE FUNCTION {theirs} LANGUAGE sql AS 'SELECT NULL::{GIS}.geometry'")
    enable(db)
    assert wrong_points(db) == 0


# Dropping, dumping


def test_drop_store_takes_it_along(gis: Connection) -> None:
    gis.execute(f"CREATE VIEW public.mine AS SELECT geom FROM {VIEW}")
    gis.execute("SELECT modelstore.release((h_xy, h_yz, h_zm)) FROM store.ingestion_log")
    gis.execute("SELECT modelstore.atoms_gc()")
    diag = refusal(gis, "SELECT modelstore.drop_store('store')")
    assert diag.sqlstate == "2BP01" and "public.mine depends on" in diag.message_detail
    gis.execute("DROP VIEW public.mine")
    assert value(gis, "SELECT modelstore.drop_store('store')") == "store"
    assert value(gis, "SELECT to_regnamespace('store')") is None


def test_a_table_of_that_name_is_no_part_of_the_store(db: Connection) -> None:
    db.execute(f"CREATE TABLE {VIEW} (mine int)")
    assert refusal(db, "SELECT modelstore.enable_postgis()").sqlstate == "42809"
    assert value(db, "SELECT modelstore.drop_store('store', true)") == "store"
    assert there(db)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["plain", "custom"])
def test_dump_and_restore(form: str, server: Server, gis: Connection, dbname: str, new_database: Any, tmp_path: Any) -> None:
    read = f"SELECT h_xy, h_yz, h_zm, meta, {GIS}.st_asewkt(geom) FROM {VIEW} ORDER BY 1, 2, 3"
    before, dump, target = gis.execute(read).fetchall(), tmp_path / "dump", new_database()
    done = server.run("pg_dump", f"--format={form}", "--file", str(dump), dbname=dbname)
    assert (done.returncode, done.stderr) == (0, "")
    if form == "plain":
        restore = [("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump))]
    else:
        to = ("pg_restore", "--exit-on-error", "-d", target)
        restore = [(*to, "--jobs=2", str(dump)), (*to, "--clean", "--if-exists", str(dump))]
    for tool in restore:
        done = server.run(*tool, dbname=target)
        assert (done.returncode, done.stderr) == (0, "")
        with server.connect(target, autocommit=True) as restored:
            assert restored.execute(read).fetchall() == before
            assert enable(restored) == VIEW
            assert value(restored, "SELECT reloptions FROM pg_class WHERE oid = %s::regclass", VIEW) == ["security_invoker=true"]
