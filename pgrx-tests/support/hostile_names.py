"""Objects that shadow PostgreSQL's own, and store names that are hard to quote."""

HOSTILE = """
    CREATE SCHEMA hostile;
    CREATE FUNCTION hostile.boom() RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
    CREATE FUNCTION hostile.count() RETURNS bigint LANGUAGE sql AS 'SELECT length(hostile.boom())::bigint';
    CREATE FUNCTION hostile.lower(text) RETURNS text LANGUAGE sql AS 'SELECT hostile.boom()';
    CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT hostile.boom()::timestamptz';
    CREATE FUNCTION hostile.encode(bytea, text) RETURNS text LANGUAGE sql AS 'SELECT hostile.boom()';
    CREATE FUNCTION hostile.octet_length(bytea) RETURNS integer LANGUAGE sql AS 'SELECT length(hostile.boom())';
    CREATE FUNCTION hostile.cardinality(anyarray) RETURNS integer LANGUAGE sql AS 'SELECT length(hostile.boom())';
    CREATE FUNCTION hostile.lo_get(oid, bigint, integer) RETURNS bytea LANGUAGE sql AS 'SELECT hostile.boom()::bytea';
    CREATE FUNCTION hostile.raw_size(modelstore.tensor_chunk) RETURNS integer LANGUAGE sql
        AS 'SELECT length(hostile.boom())';
    CREATE FUNCTION hostile.take_first(s bigint, v bigint) RETURNS bigint LANGUAGE sql
        AS 'SELECT length(hostile.boom())::bigint';
    CREATE AGGREGATE hostile.sum(bigint) (SFUNC = hostile.take_first, STYPE = bigint);
    CREATE AGGREGATE hostile.sum(integer) (SFUNC = int4_sum, STYPE = bigint);
    CREATE FUNCTION hostile.uuid_same(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom() IS NULL';
    CREATE FUNCTION hostile.text_same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom() IS NULL';
    CREATE FUNCTION hostile.bytea_same(bytea, bytea) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom() IS NULL';
    CREATE FUNCTION hostile.less(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom() IS NULL';
    CREATE FUNCTION hostile.join(text, text) RETURNS text LANGUAGE sql AS 'SELECT hostile.boom()';
    CREATE OPERATOR hostile.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.uuid_same);
    CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.text_same);
    CREATE OPERATOR hostile.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = hostile.bytea_same);
    CREATE OPERATOR hostile.< (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.less);
    CREATE OPERATOR hostile.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.join);
    CREATE TABLE hostile.models (model_id uuid, boom text);
    CREATE TABLE hostile.tensor_chunks (boom text);
    CREATE TABLE hostile.pg_class (oid oid, relname name);
    CREATE TABLE hostile.pg_constraint (boom text);
    CREATE DOMAIN hostile.uuid AS text CHECK (value = 'hijacked');
    CREATE DOMAIN hostile.bigint AS text CHECK (value = 'hijacked');
    CREATE DOMAIN hostile.text AS pg_catalog.int4;
    CREATE TYPE hostile.tensor AS (boom pg_catalog.text);
    CREATE TYPE hostile.tensor_chunk AS (boom pg_catalog.text);
"""

MORE_HOSTILE = """
    CREATE FUNCTION hostile.same(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.boom() IS NULL';
    CREATE FUNCTION hostile.plus(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT length(hostile.boom())::bigint';
    CREATE FUNCTION hostile.minus(bigint, integer) RETURNS bigint LANGUAGE sql AS 'SELECT length(hostile.boom())::bigint';
    CREATE FUNCTION hostile.atom_place(bigint, bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT length(hostile.boom())::bigint';
    CREATE FUNCTION hostile.unnest(bigint[], bigint[]) RETURNS SETOF bigint LANGUAGE sql AS 'SELECT length(hostile.boom())::bigint';
    CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT hostile.boom()::timestamptz';
    CREATE FUNCTION hostile.split_part(name, text, integer) RETURNS text LANGUAGE sql AS 'SELECT hostile.boom()';
    CREATE OPERATOR hostile.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.same);
    CREATE OPERATOR hostile.> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.less);
    CREATE OPERATOR hostile.>= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.less);
    CREATE OPERATOR hostile.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.plus);
    CREATE OPERATOR hostile.- (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = hostile.minus);
    CREATE TABLE hostile.atoms (boom pg_catalog.int4);
    CREATE TABLE hostile.atom_parts (boom pg_catalog.int4);
    CREATE TABLE hostile.atom_chunks (boom pg_catalog.int4);
    CREATE TABLE hostile.ingestion_log (boom pg_catalog.int4);
    CREATE TABLE hostile.atom_spatial_summary (boom pg_catalog.int4);
    CREATE TABLE hostile.pg_inherits (boom pg_catalog.int4);
    CREATE TYPE hostile.atom AS (boom pg_catalog.int4);
"""

NAMES = [
    'We"ird Store',
    "select",
    "Ünïcode 模型",
    "a'b; DROP SCHEMA store CASCADE; --",
    "a\\b$$@store@",
    "x" * 63,
    " ",
    "1",
]
