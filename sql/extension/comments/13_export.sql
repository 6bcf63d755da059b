-- Export

COMMENT ON FUNCTION export_safetensors(uuid, text) IS 'The parts of a file of a model in order, byte for byte as it was imported; without a name, the only file. In a select list they stream. The header and the list of chunks are checked against the file''s manifest hash before the first part, each chunk against its own hash as it is decoded: XX001. 42P08 when the model has several files and none is named, 42704 when it has none.';
COMMENT ON FUNCTION export_safetensors_large_object(uuid, text) IS 'Writes the same to a new large object and returns its OID.';
COMMENT ON FUNCTION export_safetensors_file(uuid, text, text) IS 'Writes the same to a new file of the server, by its absolute path, and returns its size in bytes. 42501 without pg_write_server_files, 58P02 when the file exists.';
