-- Upload

COMMENT ON FUNCTION begin_upload(bigint) IS 'Starts an upload and returns its ID; any session may append to it. With expected_bytes, the upload refuses more bytes and cannot be finished with fewer.';
COMMENT ON FUNCTION append_upload(uuid, bytea, bigint) IS 'Appends a part of any size to an upload and returns the total number of bytes received. With at_offset, raises 55000 unless the part starts exactly at this offset, so that no part is appended twice. Raises 22023 beyond the expected size, 40001 in a transaction at REPEATABLE READ if another session has appended since its snapshot, 42704 if the upload does not exist.';
COMMENT ON FUNCTION upload_offset(uuid) IS 'Returns the number of bytes that an upload has received, which is the offset to resume at. Raises 42704 if the upload does not exist.';
COMMENT ON FUNCTION finish_upload(uuid, text, text, jsonb, uuid, jsonb) IS 'Imports the bytes of an upload as import_safetensors does, and deletes the upload. Raises 55000 if it has fewer bytes than expected; after an error the upload still exists.';
COMMENT ON FUNCTION abort_upload(uuid) IS 'Deletes an upload and its parts and returns the number of bytes it had received. Raises 42704 if the upload does not exist.';
