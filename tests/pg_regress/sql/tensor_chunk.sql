-- tensor_chunk: what it refuses, what it shows.
SET search_path TO public, modelstore;
SET bytea_output TO hex;
-- text
SELECT ''::tensor_chunk;
SELECT 'x'::tensor_chunk;
SELECT '0100'::tensor_chunk;
SELECT '\x'::tensor_chunk;
SELECT '\x0'::tensor_chunk;
SELECT '\x0g'::tensor_chunk;
SELECT '\X0100'::tensor_chunk;
-- headers
SELECT '\x01'::tensor_chunk;
SELECT '\x01000100000000'::tensor_chunk;
SELECT '\x0000010000000000'::tensor_chunk;
SELECT '\x0200010000000000'::tensor_chunk;
SELECT '\x0104010000000000'::tensor_chunk;
SELECT '\x0100030000000000'::tensor_chunk;
SELECT '\x0100100000000000'::tensor_chunk;
SELECT '\x0100010100000000'::tensor_chunk;
SELECT '\x0100010200000000'::tensor_chunk;
SELECT '\x0100040003000000000000'::tensor_chunk;
SELECT '\x0100010001004000'::tensor_chunk;
SELECT '\x01000100ffffffff'::tensor_chunk;
-- payloads
SELECT '\x01000100020000000a'::tensor_chunk;
SELECT '\x01000100020000000a0b0c'::tensor_chunk;
SELECT '\x0101040008000000000080'::tensor_chunk;
SELECT '\x01010400080000000000803f00'::tensor_chunk;
SELECT '\x0101040000000000'::tensor_chunk;
-- planes: no block size, one that is too small, a reserved byte, no index, planes that are not there
SELECT '\x0102040004000000'::tensor_chunk;
SELECT '\x01020400040000000d000000'::tensor_chunk;
SELECT '\x010204000400000010000100'::tensor_chunk;
SELECT '\x010204000400000010000000'::tensor_chunk;
SELECT '\x01020400040000001000000001000000010000000100000001000000'::tensor_chunk;
SELECT '\x010204000400000010000000ffffffffffffffffffffffffffffffff'::tensor_chunk;
-- delta: no base
SELECT '\x01030400040000000000'::tensor_chunk;

-- what is right
CREATE TABLE c (i integer PRIMARY KEY, chunk tensor_chunk);
INSERT INTO c VALUES
    (1, '\x0100010000000000'), (2, '\x01000100030000000a0b0c'), (3, ' \x0100020004000000DEADBEEF '), (4, '\x01010400100000000000803f');
SELECT i, codec(chunk), raw_size(chunk), stored_size(chunk), base_hash(chunk), decode(chunk), chunk FROM c ORDER BY i;
SELECT count(*) FROM c WHERE chunk::text::tensor_chunk::text = chunk::text;
SELECT codec(NULL), raw_size(NULL), stored_size(NULL), base_hash(NULL), decode(NULL);
SELECT typstorage, typalign, typlen FROM pg_type WHERE oid IN ('tensor'::regtype, 'tensor_chunk'::regtype);
-- it is kept, not computed with
SELECT chunk FROM c ORDER BY chunk;
SELECT chunk = chunk FROM c;

-- chunks that an import has made, and what happens to one that is changed by hand
SELECT create_store();
SELECT weights, new_chunks FROM import_safetensors('zeros', '1', '\x3c00000000000000'::bytea ||
    '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}      ' || '\x0000000000000000'::bytea);
SELECT codec(chunk), raw_size(chunk), stored_bytes, decode(chunk) FROM store.tensor_chunks;
UPDATE store.tensor_chunks SET chunk = '\x01010400080000000000803f';
SELECT object, tensor_id IS NOT NULL AS tensor, chunk_hash = (SELECT chunk_hash FROM store.tensor_chunks) AS chunk, problem FROM verify_model(find_model('zeros'));
SELECT get_tensor(find_model('zeros'), 'w');
SELECT export_safetensors(find_model('zeros'));
