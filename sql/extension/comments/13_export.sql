-- Export

COMMENT ON FUNCTION export_safetensors(regmodel, text) IS 'Returns a file of a model in parts, in order, byte for byte as it was imported; without a name, the only file. In a select list the parts are streamed. The header and the list of chunks are checked against the file''s manifest hash before the first part, each chunk against its own hash as it is decoded; raises XX001 on a mismatch. Raises 42P08 if the model has several files and none is named, 42704 if it has none.';
COMMENT ON FUNCTION export_safetensors_large_object(regmodel, text) IS 'Exports a file of a model as export_safetensors does, to a new large object, and returns its OID.';
COMMENT ON FUNCTION export_safetensors_file(regmodel, text, text) IS 'Exports a file of a model as export_safetensors does, to a new server file given by its absolute path, and returns its size in bytes. Raises 42501 without pg_write_server_files, 58P02 if the file exists.';
