-- Chunk values

COMMENT ON FUNCTION codec(tensor_chunk) IS 'How a chunk is encoded: raw, constant, planes or delta. Reads only the head of the value.';
COMMENT ON FUNCTION raw_size(tensor_chunk) IS 'Bytes that a chunk decodes to. Reads only the head of the value.';
COMMENT ON FUNCTION stored_size(tensor_chunk) IS 'Bytes of the chunk as it is encoded. Reads none of it.';
COMMENT ON FUNCTION base_hash(tensor_chunk) IS 'BLAKE3-256 of the chunk that a delta is a difference to; NULL for another codec. Reads only the head of the value.';
COMMENT ON FUNCTION decode(tensor_chunk) IS 'The raw bytes of a chunk. 22023 for a delta, whose base only the store has.';
