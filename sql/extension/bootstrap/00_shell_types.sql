-- The schema may have been there before. Of another role it is refused: that role could put functions of its own beside
-- those of the extension, and calls with literals would find them first. From now on nobody but a superuser can.
CREATE FUNCTION @extschema@.check_installation() RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'check_installation_wrapper';
SELECT @extschema@.check_installation();
DROP FUNCTION @extschema@.check_installation();
ALTER SCHEMA @extschema@ OWNER TO CURRENT_USER;

-- Shell types, so that input and output functions can name them.
CREATE TYPE tensor;
CREATE TYPE tensor_chunk;

-- Anyone may name the types and call the functions; what they may read or change is up to the stores' own privileges.
GRANT USAGE ON SCHEMA @extschema@ TO PUBLIC;
