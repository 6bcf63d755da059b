-- Shell types, so that input and output functions can name them.
CREATE TYPE tensor;
CREATE TYPE tensor_chunk;

-- Anyone may name the types and call the functions; what they may read or change is up to the stores' own privileges.
GRANT USAGE ON SCHEMA @extschema@ TO PUBLIC;
