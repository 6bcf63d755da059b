-- The keys of models and checkpoints as arguments: a value is a uuid, a text may be a name. They have no operators of
-- their own and no function has a uuid overload beside one that takes these: literals would be ambiguous.
CREATE TYPE regmodel;
CREATE FUNCTION regmodel_in(cstring) RETURNS regmodel LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'regmodel_in_wrapper';
CREATE FUNCTION regmodel_out(regmodel) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'uuid_out';
CREATE FUNCTION regmodel_recv(internal) RETURNS regmodel LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'uuid_recv';
CREATE FUNCTION regmodel_send(regmodel) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'uuid_send';
CREATE TYPE regmodel (
    INPUT = regmodel_in, OUTPUT = regmodel_out, RECEIVE = regmodel_recv, SEND = regmodel_send, LIKE = uuid
);
CREATE FUNCTION to_regmodel(text) RETURNS regmodel LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'to_regmodel_wrapper';
CREATE CAST (uuid AS regmodel) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (regmodel AS uuid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (text AS regmodel) WITH FUNCTION to_regmodel(text) AS IMPLICIT;
CREATE CAST (varchar AS regmodel) WITH FUNCTION to_regmodel(text) AS IMPLICIT;

CREATE TYPE regcheckpoint;
CREATE FUNCTION regcheckpoint_in(cstring) RETURNS regcheckpoint LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'regcheckpoint_in_wrapper';
CREATE FUNCTION regcheckpoint_out(regcheckpoint) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'uuid_out';
CREATE FUNCTION regcheckpoint_recv(internal) RETURNS regcheckpoint LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'uuid_recv';
CREATE FUNCTION regcheckpoint_send(regcheckpoint) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'uuid_send';
CREATE TYPE regcheckpoint (
    INPUT = regcheckpoint_in, OUTPUT = regcheckpoint_out, RECEIVE = regcheckpoint_recv, SEND = regcheckpoint_send, LIKE = uuid
);
CREATE FUNCTION to_regcheckpoint(text) RETURNS regcheckpoint LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'to_regcheckpoint_wrapper';
CREATE CAST (uuid AS regcheckpoint) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (regcheckpoint AS uuid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (text AS regcheckpoint) WITH FUNCTION to_regcheckpoint(text) AS IMPLICIT;
CREATE CAST (varchar AS regcheckpoint) WITH FUNCTION to_regcheckpoint(text) AS IMPLICIT;
