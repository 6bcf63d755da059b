-- Chunk values

COMMENT ON FUNCTION codec(tensor_chunk) IS 'Returns how a chunk is encoded: raw, constant, planes or delta. Reads only the header of the value.';
COMMENT ON FUNCTION raw_size(tensor_chunk) IS 'Returns the number of bytes that a chunk decodes to. Reads only the header of the value.';
COMMENT ON FUNCTION stored_size(tensor_chunk) IS 'Returns the number of bytes of the encoded chunk. Reads none of its bytes.';
COMMENT ON FUNCTION base_hash(tensor_chunk) IS 'Returns the BLAKE3-256 of a delta''s base chunk; NULL for any other codec. Reads only the header of the value.';
COMMENT ON FUNCTION decode(tensor_chunk) IS 'Returns the raw bytes of a chunk. Raises 22023 for a delta, because its base is only in the store.';
