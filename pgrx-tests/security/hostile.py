"""Random changes, as statements, that an ordinary role can make to its own store. `@s@` is its schema, `@ext@` that of the
extension. See test_hostile_store.py."""

from __future__ import annotations

import random
from collections.abc import Callable

from campaign import Arguments, ident, quote

# Code of the attacker, which says who runs it and then does what `evil.mode` asks for, at the call `evil.at`.
TRAPS = """
CREATE SCHEMA ev;
GRANT USAGE ON SCHEMA ev TO PUBLIC;
CREATE FUNCTION ev.act(result text) RETURNS text LANGUAGE plpgsql AS $f$
DECLARE
    at bigint := coalesce(nullif(current_setting('evil.at', true), ''), '0')::bigint;
    mode text := coalesce(current_setting('evil.mode', true), '');
BEGIN
    IF at = 0 OR coalesce(current_setting('evil.quiet', true), '') <> current_user THEN
        RAISE NOTICE 'RAN AS % super %', current_user, current_setting('is_superuser');
        PERFORM set_config('evil.quiet', current_user, true);
    END IF;
    PERFORM set_config('evil.at', (at + 1)::text, true);
    IF at <> coalesce(nullif(current_setting('evil.when', true), ''), '0')::bigint THEN RETURN result; END IF;
    CASE mode
        WHEN 'err' THEN RAISE EXCEPTION 'trap';
        WHEN 'div' THEN PERFORM 1 / 0;
        WHEN 'cancel' THEN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(0.1);
        WHEN 'closeall' THEN EXECUTE 'CLOSE ALL';
        WHEN 'discard' THEN EXECUTE 'DISCARD PLANS'; EXECUTE 'DEALLOCATE ALL';
        WHEN 'temp' THEN EXECUTE 'DISCARD TEMP';
        WHEN 'recurse' THEN EXECUTE coalesce(nullif(current_setting('evil.call', true), ''), 'SELECT 1');
        WHEN 'drop' THEN EXECUTE coalesce(nullif(current_setting('evil.drop', true), ''), 'SELECT 1');
        WHEN 'setstore' THEN PERFORM set_config('modelstore.store', 'store', true);
        WHEN 'path' THEN PERFORM set_config('search_path', 'ev, pg_catalog', true);
        WHEN 'role' THEN EXECUTE 'SET LOCAL ROLE campaign_second';
        WHEN 'sub' THEN BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END;
        WHEN 'commit' THEN COMMIT;
        WHEN 'rollback' THEN ROLLBACK;
        WHEN 'threads' THEN PERFORM set_config('modelstore.threads', '1', true); PERFORM set_config('modelstore.chunk_size', '256kB', true);
        ELSE NULL;
    END CASE;
    RETURN result;
END $f$;
CREATE FUNCTION ev.yes() RETURNS boolean LANGUAGE sql AS $f$ SELECT ev.act('true')::boolean $f$;
CREATE FUNCTION ev.no() RETURNS boolean LANGUAGE sql AS $f$ SELECT ev.act('false')::boolean $f$;
CREATE FUNCTION ev.true_of(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN ev.act('true')::boolean; END $f$;
CREATE FUNCTION ev.same(anyelement) RETURNS anyelement LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM ev.act(''); RETURN $1; END $f$;
CREATE FUNCTION ev.as_text(text) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN RETURN ev.act($1); END $f$;
CREATE FUNCTION ev.keep() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM ev.act(''); RETURN coalesce(NEW, OLD); END $f$;
CREATE FUNCTION ev.suppress() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM ev.act(''); RETURN NULL; END $f$;
CREATE FUNCTION ev.blank() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM ev.act(''); NEW := jsonb_populate_record(NEW, '{}'); RETURN NEW; END $f$;
CREATE FUNCTION ev.eq(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RETURN ev.act('true')::boolean; END $f$;
CREATE FUNCTION ev.eq(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RETURN ev.act('true')::boolean; END $f$;
CREATE FUNCTION ev.eq(bytea, bytea) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RETURN ev.act('true')::boolean; END $f$;
CREATE OPERATOR ev.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = ev.eq);
CREATE OPERATOR ev.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = ev.eq);
CREATE OPERATOR ev.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = ev.eq);
CREATE DOMAIN ev.d_bigint AS bigint CHECK (ev.true_of(value));
CREATE DOMAIN ev.d_bytea AS bytea CHECK (ev.true_of(value));
CREATE DOMAIN ev.d_text AS text CHECK (ev.true_of(value));
CREATE DOMAIN ev.d_uuid AS uuid CHECK (ev.true_of(value));
CREATE DOMAIN ev.d_plain AS bigint;
CREATE TYPE ev.pair AS (a bigint, b bytea);
CREATE TYPE ev.mood AS ENUM ('a', 'b');
"""
MODES = "err div cancel closeall discard temp recurse drop setstore path role sub commit rollback threads".split()

TYPES = (
    "bigint integer smallint text bytea uuid jsonb boolean name oid cstring real timestamptz numeric bigint[] text[] bytea[] uuid[] tid inet "
    'char(3) varchar(5) xid8 point "char" ev.d_bigint ev.d_bytea ev.d_text ev.d_uuid ev.d_plain ev.pair ev.mood int4range record[]'
).split() + ["double precision", "@ext@.tensor", "@ext@.tensor_chunk", "@ext@.atom"]
TYPES.remove("record[]")
TYPES.remove("cstring")

# Something of a type that is not a value the extension would have written; small, so that an address stands out.
VALUES = {
    "bigint": ["64", "0", "-1", "1", "4096", "9223372036854775807", "-9223372036854775808", "1099511627776"],
    "integer": ["64", "0", "-1", "1", "2147483647", "-2147483648", "1000000"],
    "smallint": ["1", "0", "-1", "32767", "-32768", "5"],
    "text": ["''", "'f32'", "'bf16'", "'f4'", "'nonsense'", "repeat('x', 3000)", "'é'", "'safetensors'", "'delta'"],
    "name": ["'x'", "''"],
    "bytea": ["''", "'\\x00'", "decode(repeat('00', 32), 'hex')", "decode(repeat('ab', 32), 'hex')", "decode(repeat('7b', 5000), 'hex')", "'\\x0800000000000000'"],
    "uuid": ["'00000000-0000-0000-0000-000000000001'", "gen_random_uuid()"],
    "jsonb": ["'null'", "'{}'", "'[]'", "'1'", "'\"x\"'", '\'{"hidden_size":-1,"n_layer":99999999}\'', "'[1e400]'", '\'{"visibility":1}\''],
    "boolean": ["true", "false"],
    "bigint[]": ["'{}'", "'{NULL}'", "'{4}'", "'{{1,2},{3,4}}'", "'[5:6]={1,2}'", "'{-1}'", "'{9223372036854775807,2}'", "'{0}'", "array_fill(1::bigint, ARRAY[40])"],
    "text[]": ["'{}'", "'{NULL}'", "'{{a,b},{c,d}}'", "'[5:6]={a,b}'"],
    "bytea[]": ["'{}'", "'{NULL}'"],
    "double precision": ["0", "'NaN'", "'Infinity'", "-1", "1e308"],
    "real": ["0", "'NaN'"],
    "timestamptz": ["'infinity'", "'-infinity'", "now()"],
    "timestamp with time zone": ["'infinity'", "'-infinity'", "now()"],
    "interval": ["'-1 year'", "'0'"],
    "@ext@.tensor": ["'[1,2]'", "'f4(2):\\x12'", "'[]'"],
    "@ext@.atom": ["'(1,2,3)'", "'(,,)'"],
    "ev.pair": ["'(1,\"\\\\x00\")'", "'(,)'"],
    "ev.mood": ["'a'"],
    "oid": ["64"], "tid": ["'(0,1)'"], "inet": ["'127.0.0.1'"], "char(3)": ["'x'"], "varchar(5)": ["'x'"], "xid8": ["'64'"], "point": ["'(1,2)'"],
    '"char"': ["'x'"], "numeric": ["64", "'NaN'"], "uuid[]": ["'{}'", "'{NULL}'"], "int4range": ["'[1,2)'"], "integer[]": ["'{}'", "'{NULL}'"],
}  # fmt: skip
BASES = {"ev.d_bigint": "bigint", "ev.d_bytea": "bytea", "ev.d_text": "text", "ev.d_uuid": "uuid", "ev.d_plain": "bigint"}

Change = Callable[["Hostile"], list[str]]


class Hostile:
    """Changes to the store of schema `s`, whose tables and columns are given."""

    def __init__(self, rng: random.Random, tables: dict[str, list[tuple[str, str]]], arguments: Arguments, calls: Callable[[], str]) -> None:
        self.rng, self.tables, self.arguments, self.calls = rng, tables, arguments, calls
        # Tables that functions read most come up more often.
        often = "tensor_chunks tensor_data tensor_metadata model_weights models atoms atom_parts atom_chunks model_checkpoints store_version".split()
        self.names = sorted(tables) + [t for t in often if t in tables] * 8
        self.schema, self.extension = "ms", "modelstore"
        self.number = 0

    def change(self) -> list[str]:
        """Statements of one change; any of them may fail."""
        return self.rng.choice(CHANGES)(self)

    # Pieces

    def table(self) -> str:
        return self.rng.choice(self.names)

    def column(self, table: str) -> tuple[str, str]:
        return self.tables[table][self.column_number(table)]

    def column_number(self, table: str) -> int:
        """A column; those of types that the extension reads as memory come up more often."""
        raw = ("bytea", "jsonb", "bigint[]", "@ext@.tensor_chunk")
        return self.rng.choices(range(len(self.tables[table])), [5 if k in raw else 1 for _, k in self.tables[table]])[0]

    def fresh(self) -> str:
        self.number += 1
        return f"x{self.number}"

    def value(self, kind: str) -> str:
        kind = BASES.get(kind, kind)
        base = kind.split("(")[0] if kind.startswith(("varchar", "char(")) is False else kind
        if base == "@ext@.tensor_chunk":
            return f"{self.arguments.chunk()}::text::@ext@.tensor_chunk"
        if self.rng.random() < 0.1:
            return f"NULL::{kind}"
        return f"{self.rng.choice(VALUES.get(base, ['NULL']))}::{kind}"

    def other_type(self, kind: str) -> str:
        """Another type than a column has: often one that is passed by value in place of one that is not, or the reverse."""
        if self.rng.random() < 0.3:
            return self.rng.choice(TYPES)
        by_value = kind in ("bigint", "integer", "smallint", "boolean", "real", "double precision") or kind.startswith("timestamp")
        return self.rng.choice(["bytea", "text", "integer", "bigint[]", "ev.d_bytea"] if by_value else ["bigint", "bigint", "bigint", "integer", "bytea", "text", "ev.d_plain"])

    def columns(self, table: str, changed: float = 0.15) -> list[tuple[str, str, str]]:
        """Columns for a look-alike: name, type, and the expression over the old table."""
        found = []
        one = self.column_number(table) if self.rng.random() < 0.7 else None
        for number, (name, kind) in enumerate(self.tables[table]):
            if number == one if one is not None else self.rng.random() < changed:
                other = self.other_type(kind)
                found.append((name, other, self.value(other)))
            elif kind == "bigint" and one is None and self.rng.random() < 0.1:
                found.append((name, kind, self.value(kind)))
            else:
                found.append((name, kind, ident(name)))
        if self.rng.random() < 0.5:
            return found
        if self.rng.random() < 0.3:
            self.rng.shuffle(found)
        if self.rng.random() < 0.2:
            found.insert(self.rng.randrange(len(found) + 1), (self.fresh(), "bigint", "64"))
        if self.rng.random() < 0.07:
            found.pop(self.rng.randrange(len(found)))
        return found


def look_alike(h: Hostile) -> list[str]:
    """Another relation in a table's place."""
    table = h.table()
    old = h.fresh()
    columns = h.columns(table)
    declared = ", ".join(f"{ident(n)} {k}" for n, k, _ in columns)
    trap = h.rng.choice(["", "", "WHERE ev.yes()", "WHERE ev.yes() LIMIT 100", ", generate_series(1, 60) WHERE ev.yes()"])
    selected = ", ".join(f"({e})::{k} AS {ident(n)}" for n, k, e in columns)
    if h.rng.random() < 0.25:
        n, k, _ = h.rng.choice(columns)
        selected = selected.replace(f"AS {ident(n)}", f"AS {ident(n)}", 1)
        selected += f", ev.as_text('x') AS {h.fresh()}"
    names = ", ".join(ident(n) for n, _, _ in columns)
    select = f"SELECT {selected} FROM @s@.{old} o"
    first = f"ALTER TABLE @s@.{ident(table)} RENAME TO {old}"
    fill = f"INSERT INTO @s@.{ident(table)} ({names}) {select}"
    new = f"@s@.{ident(table)}"
    kind = h.rng.choice("table table table view view matview partitioned list unlogged inherited child foreign typed rule sequence".split())
    return {
        "table": [first, f"CREATE TABLE {new} ({declared})", fill],
        "unlogged": [first, f"CREATE UNLOGGED TABLE {new} ({declared})", fill],
        "view": [first, f"CREATE VIEW {new} AS {select} {trap}"],
        "matview": [first, f"CREATE MATERIALIZED VIEW {new} AS {select}"],
        "partitioned": [first, f"CREATE TABLE {new} ({declared}) PARTITION BY HASH ({ident(columns[0][0])})",
                        f"CREATE TABLE @s@.{h.fresh()} PARTITION OF {new} FOR VALUES WITH (MODULUS 1, REMAINDER 0)", fill],
        "list": [first, f"CREATE TABLE {new} ({declared}) PARTITION BY LIST ({ident(columns[-1][0])})",
                 f"CREATE TABLE @s@.{h.fresh()} PARTITION OF {new} DEFAULT", fill],
        "inherited": [first, f"CREATE TABLE {new} () INHERITS (@s@.{old})"],
        "child": [f"CREATE TABLE @s@.{h.fresh()} (extra bigint DEFAULT 64) INHERITS ({new})"],
        "foreign": [first, f"CREATE FOREIGN TABLE {new} ({declared}) SERVER {h.rng.choice(['campaign_dummy', 'campaign_loop'])}"],
        "typed": [first, f"CREATE TYPE @s@.{old}_t AS ({declared})", f"CREATE TABLE {new} OF @s@.{old}_t", fill],
        "rule": [first, f"CREATE TABLE {new} ({declared})", fill, f"CREATE RULE r AS ON INSERT TO {new} DO INSTEAD NOTHING"],
        "sequence": [first, f"CREATE SEQUENCE {new}"],
    }[kind]  # fmt: skip


def temporary(h: Hostile) -> list[str]:
    """Temporary tables of the same names, and the store in pg_temp."""
    statements = []
    changed = {h.table() for _ in range(h.rng.choice([0, 1, 1, 2, 5]))}
    for table in sorted(h.tables):
        if h.rng.random() < 0.03:
            continue
        columns = h.columns(table) if table in changed else [(n, k, ident(n)) for n, k in h.tables[table]]
        declared = ", ".join(f"{ident(n)} {k}" for n, k, _ in columns)
        statements.append(f"CREATE TEMP TABLE {ident(table)} ({declared})")
        names = ", ".join(ident(n) for n, _, _ in columns)
        selected = ", ".join(f"({e})::{k}" for _, k, e in columns)
        statements.append(f"INSERT INTO pg_temp.{ident(table)} ({names}) SELECT {selected} FROM @s@.{ident(table)} LIMIT 50")
    if not any("TABLE \"store_version\"" in s for s in statements):
        statements.append("CREATE TEMP TABLE store_version (version int, extension_version text)")
    if not any("TABLE \"tensor_chunks\"" in s for s in statements):
        statements.append("CREATE TEMP TABLE tensor_chunks (chunk_hash bytea, chunk bigint)")
    where = h.rng.choice(["pg_my_temp_schema()::regnamespace::text", "pg_my_temp_schema()::regnamespace::text", "'pg_temp'", "current_schema"])
    return [*statements, f"SELECT set_config('modelstore.store', {where}, true)"]


def change_type(h: Hostile) -> list[str]:
    """ALTER TYPE in place, after dropping the objects that depend on the column."""
    table = h.table()
    name, kind = h.column(table)
    other = h.other_type(kind)
    using = h.rng.choice([h.value(other), h.value(other), f"{ident(name)}::text::{other}", f"NULL::{other}"])
    return [*_loosen(h, table), f"ALTER TABLE @s@.{ident(table)} ALTER {ident(name)} DROP NOT NULL", f"ALTER TABLE @s@.{ident(table)} ALTER {ident(name)} TYPE {other} USING {using}"]


def _loosen(h: Hostile, table: str) -> list[str]:
    """Drops views and constraints of a table."""
    return [
        "DO $$ DECLARE x text; BEGIN FOR x IN SELECT relname FROM pg_class WHERE relnamespace = '@s@'::regnamespace AND relkind IN ('v', 'm')"
        " LOOP EXECUTE format('DROP VIEW IF EXISTS @s@.%I CASCADE', x); END LOOP; END $$",
        f"DO $$ DECLARE x text; BEGIN FOR x IN SELECT conname FROM pg_constraint WHERE conrelid = '@s@.{ident(table)}'::regclass AND conislocal AND contype <> 'n'"
        f" LOOP EXECUTE format('ALTER TABLE @s@.%I DROP CONSTRAINT IF EXISTS %I CASCADE', {quote(table)}, x); END LOOP; END $$",
    ]


def hostile_values(h: Hostile) -> list[str]:
    """Values that the constraints forbid, without the constraints."""
    table = h.table()
    statements = _loosen(h, table)
    for name, kind in h.rng.sample(h.tables[table], min(len(h.tables[table]), h.rng.randint(1, 3))):
        statements.append(f"ALTER TABLE @s@.{ident(table)} ALTER {ident(name)} DROP NOT NULL")
        pool = h.arguments.pool("uuid", name) if kind == "uuid" else []
        value = f"{quote(h.rng.choice(pool))}::uuid" if pool else h.value(kind.split("(")[0] if kind.startswith("@ext@.tensor(") else kind)
        some = h.rng.choice(["", "", f" WHERE ctid IN (SELECT ctid FROM @s@.{ident(table)} LIMIT {h.rng.randint(1, 5)})"])
        statements.append(f"UPDATE @s@.{ident(table)} SET {ident(name)} = {value}{some}")
    return statements


def swap_chunks(h: Hostile) -> list[str]:
    """Chunks under the hash of another, truncated lists of them, deltas in a circle."""
    loose = _loosen(h, "tensor_chunks") + _loosen(h, "tensor_data")
    return loose + [h.rng.choice([
        "UPDATE @s@.tensor_chunks c SET chunk = (SELECT o.chunk FROM @s@.tensor_chunks o ORDER BY md5(o.chunk_hash::text || c.raw_bytes) LIMIT 1)",
        "UPDATE @s@.tensor_chunks SET base_hash = chunk_hash, delta_depth = 1",
        "UPDATE @s@.tensor_chunks SET base_hash = (SELECT chunk_hash FROM @s@.tensor_chunks ORDER BY chunk_hash LIMIT 1), delta_depth = 4",
        "UPDATE @s@.tensor_chunks SET delta_depth = -1, raw_bytes = -raw_bytes, stored_bytes = 2147483647",
        "DELETE FROM @s@.tensor_chunks WHERE ctid IN (SELECT ctid FROM @s@.tensor_chunks LIMIT 3)",
        "DELETE FROM @s@.tensor_data WHERE ctid IN (SELECT ctid FROM @s@.tensor_data LIMIT 3)",
        "UPDATE @s@.tensor_data SET chunk_index = -chunk_index - 1",
        "UPDATE @s@.tensor_data SET chunk_index = 0",
        "INSERT INTO @s@.tensor_data SELECT * FROM @s@.tensor_data",
        "INSERT INTO @s@.tensor_chunks SELECT * FROM @s@.tensor_chunks",
    ])]  # fmt: skip


def circles(h: Hostile) -> list[str]:
    """Trees that are none."""
    pick = h.rng.choice([
        ("atom_parts", "UPDATE @s@.atom_parts SET h_xy = parent_h_xy, h_yz = parent_h_yz, h_zm = parent_h_zm"),
        ("atom_parts", "UPDATE @s@.atom_parts SET part_index = 0"),
        ("atom_parts", "UPDATE @s@.atom_parts SET (h_xy, h_yz, h_zm) = (SELECT parent_h_xy, parent_h_yz, parent_h_zm FROM @s@.atom_parts LIMIT 1)"),
        ("atom_parts", "INSERT INTO @s@.atom_parts SELECT p.* FROM @s@.atom_parts p, generate_series(1, 20)"),
        ("atoms", "UPDATE @s@.atoms SET ref_count = -5, byte_length = 9223372036854775807"),
        ("atoms", "UPDATE @s@.atoms SET value = NULL"),
        ("atoms", "UPDATE @s@.atoms SET modality = 32767"),
        ("models", "UPDATE @s@.models m SET parent_model_id = (SELECT model_id FROM @s@.models o WHERE o.model_id <> m.model_id LIMIT 1)"),
        ("model_checkpoints", "UPDATE @s@.model_checkpoints SET parent_checkpoint_id = checkpoint_id"),
        ("model_checkpoints", "UPDATE @s@.model_checkpoints c SET parent_checkpoint_id = (SELECT checkpoint_id FROM @s@.model_checkpoints o WHERE o.step <> c.step LIMIT 1)"),
    ])  # fmt: skip
    return [*_loosen(h, pick[0]), pick[1]]


def triggers(h: Hostile) -> list[str]:
    """Code that runs with whoever writes or reads."""
    table = h.table()
    name, kind = h.column(table)
    t, c = f"@s@.{ident(table)}", ident(name)
    x = h.fresh()
    event = h.rng.choice(["INSERT", "UPDATE", "DELETE", "INSERT OR UPDATE OR DELETE"])
    return h.rng.choice([
        [f"CREATE TRIGGER {x} BEFORE {event} ON {t} FOR EACH ROW EXECUTE FUNCTION ev.{h.rng.choice(['keep', 'suppress', 'blank'])}()"],
        [f"CREATE TRIGGER {x} AFTER {event} ON {t} FOR EACH ROW EXECUTE FUNCTION ev.keep()"],
        [f"CREATE CONSTRAINT TRIGGER {x} AFTER {event} ON {t} DEFERRABLE FOR EACH ROW EXECUTE FUNCTION ev.keep()"],
        [f"CREATE TRIGGER {x} AFTER {event} ON {t} FOR EACH STATEMENT EXECUTE FUNCTION ev.keep()"],
        [f"ALTER TABLE {t} ENABLE ROW LEVEL SECURITY", f"ALTER TABLE {t} FORCE ROW LEVEL SECURITY", f"CREATE POLICY {x} ON {t} USING (ev.{h.rng.choice(['yes', 'no'])}())"],
        [f"ALTER TABLE {t} ENABLE ROW LEVEL SECURITY", f"CREATE POLICY {x} ON {t} USING (ev.yes()) WITH CHECK (ev.yes())"],
        [f"ALTER TABLE {t} ADD CONSTRAINT {x} CHECK (ev.true_of({c})) NOT VALID"],
        [f"ALTER TABLE {t} ADD CONSTRAINT {x} CHECK (ev.true_of({c}))"],
        [f"ALTER TABLE {t} ALTER {c} SET DEFAULT ev.act(NULL)::{kind}"],
        [f"CREATE INDEX ON {t} (ev.same({c}))"],
        [f"CREATE INDEX ON {t} ({c}) WHERE ev.true_of({c})"],
        [f"ALTER TABLE {t} ADD COLUMN {x} bigint DEFAULT 64"],
        [f"ALTER TABLE {t} ADD COLUMN {x} {kind} GENERATED ALWAYS AS (ev.same({c})) STORED"],
        [f"CREATE RULE {x} AS ON {h.rng.choice(['INSERT', 'UPDATE', 'DELETE'])} TO {t} DO {h.rng.choice(['INSTEAD NOTHING', 'ALSO SELECT ev.yes()', 'INSTEAD SELECT ev.yes()'])}"],
        [f"CREATE STATISTICS @s@.{x} ON (ev.same({c})), ({c}) FROM {t}", f"ANALYZE {t}"],
        [f"CREATE TABLE @s@.{x} (t {kind} REFERENCES {t}, secret int)", f"INSERT INTO @s@.{x} SELECT {c} FROM {t} LIMIT 1",
         f"ALTER TABLE @s@.{x} ENABLE ROW LEVEL SECURITY", f"CREATE POLICY p ON @s@.{x} USING (ev.yes())", f"GRANT SELECT ON @s@.{x} TO PUBLIC"],
    ])  # fmt: skip


def outsider(h: Hostile) -> list[str]:
    """A table of the attacker with a foreign key to the other store, where the attacker was given REFERENCES."""
    x = h.fresh()
    table, column = h.rng.choice([("tensor_metadata", "tensor_id"), ("tensor_chunks", "chunk_hash"), ("models", "model_id")])
    return [
        f"CREATE TABLE ev.{x} AS SELECT {column} AS k FROM store.{table} LIMIT 1",
        f"ALTER TABLE ev.{x} ADD FOREIGN KEY (k) REFERENCES store.{table}",
        f"ALTER TABLE ev.{x} ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY p ON ev.{x} USING (ev.{h.rng.choice(['yes', 'no'])}())",
        f"GRANT SELECT ON ev.{x} TO PUBLIC",
        *h.rng.choice([[], [f"CREATE TRIGGER t BEFORE UPDATE OR DELETE ON ev.{x} FOR EACH ROW EXECUTE FUNCTION ev.keep()"]]),
    ]


def names(h: Hostile) -> list[str]:
    """Renames, owners, what is dropped."""
    table = h.table()
    name, _ = h.column(table)
    t, x = f"@s@.{ident(table)}", h.fresh()
    other = ident(h.table())
    choice = h.rng.randrange(11)
    if choice == 0 and h.schema == "ms":
        h.schema = "ms_new"
        return ["ALTER SCHEMA ms RENAME TO ms_new", "SELECT set_config('modelstore.store', 'ms_new', true)"]
    return [
        [f"ALTER TABLE {t} RENAME TO {x}"],
        [f"ALTER TABLE {t} RENAME TO {x}", f"ALTER TABLE @s@.{other} RENAME TO {ident(table)}", f"ALTER TABLE @s@.{x} RENAME TO {other}"],
        [f"ALTER TABLE {t} RENAME COLUMN {ident(name)} TO {x}"],
        [f"DROP TABLE {t} CASCADE"],
        [f"ALTER TABLE {t} DROP COLUMN {ident(name)} CASCADE"],
        [f"ALTER TABLE {t} DROP COLUMN {ident(name)} CASCADE", f"ALTER TABLE {t} ADD COLUMN {ident(name)} {h.rng.choice(TYPES)}"],
        [f"ALTER TABLE {t} OWNER TO campaign_second"],
        ["ALTER SCHEMA @s@ OWNER TO campaign_second"],
        [f"REVOKE ALL ON {t} FROM campaign_attacker, PUBLIC"],
        [f"ALTER TABLE {t} SET SCHEMA ev"],
        [f"TRUNCATE {t} CASCADE"],
    ][choice]  # fmt: skip


def partitions(h: Hostile) -> list[str]:
    """Partitions of atoms that are partitioned, of another column order, foreign, gone; indexes of another kind."""
    table = h.rng.choice(["atoms", "atoms", "atom_parts"])
    if table not in h.tables:
        return []
    columns = [ident(n) for n, _ in h.tables[table]]
    x, y = h.fresh(), h.fresh()
    first = columns[0]
    pick = (
        f"DO $$ DECLARE p regclass; b text; BEGIN"
        f" SELECT c.oid::regclass, pg_get_expr(c.relpartbound, c.oid) INTO p, b FROM @s@.{table} a JOIN pg_class c ON c.oid = a.tableoid LIMIT 1;"
        f" EXECUTE format('ALTER TABLE @s@.{table} DETACH PARTITION %s', p); "
    )
    shuffled = h.tables[table][:]
    h.rng.shuffle(shuffled)
    kinds = [BASES.get(k, k) for _, k in shuffled]
    extra = h.rng.choice(["", "extra bigint, "])
    declared = extra + ", ".join(f"{ident(n)} {k}" for (n, _), k in zip(shuffled, kinds, strict=True))
    drop_extra = f"EXECUTE 'ALTER TABLE @s@.{x} DROP COLUMN extra';" if extra else ""
    listed = ", ".join(ident(n) for n, _ in shuffled)
    sub = h.rng.choice([f"RANGE ({first})", f"LIST ({columns[1]})", f"HASH ({columns[0]})"])
    inner = "DEFAULT" if not sub.startswith("HASH") else "FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
    return h.rng.choice([
        [pick + f"EXECUTE format('CREATE TABLE @s@.{x} PARTITION OF @s@.{table} %s PARTITION BY {sub}', b);"
                f"EXECUTE 'CREATE TABLE @s@.{y} PARTITION OF @s@.{x} {inner}'; EXECUTE format('INSERT INTO @s@.{table} SELECT * FROM %s', p); END $$"],
        [pick + f"EXECUTE 'CREATE TABLE @s@.{x} ({declared})'; {drop_extra}"
                f"EXECUTE format('INSERT INTO @s@.{x} ({listed}) SELECT {listed} FROM %s', p);"
                f"EXECUTE format('ALTER TABLE @s@.{x} ADD PRIMARY KEY (h_xy, h_yz, h_zm)'); EXECUTE format('ALTER TABLE @s@.{table} ATTACH PARTITION @s@.{x} %s', b); END $$"],
        [pick + "END $$"],
        [pick + f"EXECUTE format('CREATE FOREIGN TABLE @s@.{x} PARTITION OF @s@.{table} %s SERVER campaign_dummy', b); END $$"],
        ["DO $$ DECLARE i text; BEGIN FOR i IN SELECT indexrelid::regclass::text FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid"
         f" WHERE indrelid = '@s@.{table}'::regclass LOOP BEGIN EXECUTE 'DROP INDEX ' || i || ' CASCADE'; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$",
         f"CREATE INDEX ON @s@.{table} ({', '.join(h.rng.sample(columns, min(3, len(columns))))}{h.rng.choice([' DESC', '', ' NULLS FIRST'])}) INCLUDE ({h.rng.choice(columns)})"],
    ])  # fmt: skip


def rename_extension(h: Hostile) -> list[str]:
    """The schema of the extension under another name, and something else under its old one."""
    if h.extension != "modelstore":
        return []
    h.extension = "ms_old"
    return [
        "ALTER SCHEMA modelstore RENAME TO ms_old", "CREATE SCHEMA modelstore", "GRANT USAGE ON SCHEMA modelstore, ms_old TO PUBLIC",
        h.rng.choice(["CREATE DOMAIN modelstore.tensor_chunk AS bigint", "CREATE DOMAIN modelstore.tensor_chunk AS bytea", "CREATE TYPE modelstore.tensor_chunk AS (a bigint)"]),
        h.rng.choice(["CREATE DOMAIN modelstore.tensor AS bigint", "CREATE TYPE modelstore.tensor AS ENUM ('a')", "CREATE DOMAIN modelstore.tensor AS bytea"]),
        h.rng.choice(["CREATE TYPE modelstore.atom AS (a bigint)", "CREATE DOMAIN modelstore.atom AS text", "CREATE TYPE modelstore.atom AS (h_xy text, h_yz bytea, h_zm bigint)"]),
        "CREATE FUNCTION modelstore.decode(bigint) RETURNS bytea LANGUAGE sql AS 'SELECT ev.act(NULL)::bytea'",
        "CREATE FUNCTION ms_old.decode(bigint) RETURNS bytea LANGUAGE sql AS 'SELECT ev.act(NULL)::bytea'",
        "CREATE FUNCTION ms_old.import_safetensors(text, text, integer) RETURNS text LANGUAGE sql AS 'SELECT ev.act(NULL)'",
    ]  # fmt: skip


def in_the_schema(h: Hostile) -> list[str]:
    """Functions beside those of the extension, which fit calls better."""
    x = h.rng.choice(["decode(@ext@.tensor)", "raw_size(bytea)", "norm(bigint)", "shape(text)", "import_safetensors(text, text, integer)", "decode(text)"])
    return [f"CREATE FUNCTION @ext@.{x} RETURNS text LANGUAGE sql AS 'SELECT ev.act(NULL)'"]


def settings(h: Hostile) -> list[str]:
    """Settings of the session."""
    return [h.rng.choice([
        "SET LOCAL search_path = ev, @s@, pg_catalog", "SET LOCAL search_path = ''", "SET LOCAL row_security = off", "SET LOCAL enable_indexscan = off",
        "SET LOCAL enable_seqscan = off", "SET LOCAL plan_cache_mode = force_generic_plan", "SET LOCAL bytea_output = 'escape'", "SET LOCAL work_mem = '64kB'",
        "SET LOCAL modelstore.threads = 1", "SET LOCAL modelstore.threads = 3", "SET LOCAL modelstore.chunk_size = '256kB'", "SET LOCAL modelstore.store = 'ms'",
        "SET LOCAL modelstore.store = ''", "SET LOCAL modelstore.store = 'ev'", "SET LOCAL modelstore.store = 'information_schema'", "SET LOCAL modelstore.store = 'modelstore'",
        "SET LOCAL modelstore.checkpoint_checks = ''", "SET LOCAL jit = on", "SET LOCAL extra_float_digits = -15", "SET LOCAL DateStyle = 'German'",
        "SET LOCAL transform_null_equals = on", "SET LOCAL quote_all_identifiers = on", "SET LOCAL standard_conforming_strings = off",
    ])]  # fmt: skip


def mode(h: Hostile) -> list[str]:
    """What the traps do, and when."""
    dropped = h.rng.choice([f"DROP TABLE @s@.{ident(h.table())} CASCADE", f"ALTER TABLE @s@.{ident(h.table())} RENAME TO {h.fresh()}", "DROP SCHEMA @s@ CASCADE",
                            f"TRUNCATE @s@.{ident(h.table())} CASCADE", *change_type(h)[-1:]])  # fmt: skip
    return [
        f"SELECT set_config('evil.mode', {quote(h.rng.choice(MODES))}, true), set_config('evil.when', '{h.rng.choice([0, 0, 1, 5, 50, 500])}', true),"
        f" set_config('evil.call', {quote('SELECT * FROM ' + h.calls())}, true), set_config('evil.drop', {quote(dropped)}, true)"
    ]


CHANGES: list[Change] = [
    *[look_alike] * 5, *[temporary] * 2, *[change_type] * 4, *[hostile_values] * 5, *[swap_chunks] * 2, *[circles] * 2, *[triggers] * 5, outsider, *[names] * 2,
    *[partitions] * 3, rename_extension, in_the_schema, settings, *[mode] * 3,
]  # fmt: skip
