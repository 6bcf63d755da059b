-- Upload

COMMENT ON FUNCTION begin_upload(bigint) IS 'Begins an upload, to which any session may append, and returns its id. With a size in bytes, appending more and finishing with less are refused.';
COMMENT ON FUNCTION append_upload(uuid, bytea, bigint) IS 'Appends a part of any size and returns the number of bytes received. With at_offset, 55000 unless the part begins exactly there, so that nothing is appended twice. 22023 beyond the size announced, 40001 when another session has appended since the snapshot of a transaction at REPEATABLE READ, 42704 when there is no such upload.';
COMMENT ON FUNCTION upload_offset(uuid) IS 'Bytes an upload has received: where to resume. 42704 when there is no such upload.';
COMMENT ON FUNCTION finish_upload(uuid, text, text, jsonb, uuid, jsonb) IS 'Imports what an upload has received, as import_safetensors does, and forgets the upload. 55000 when it has less than the size announced; after an error the upload is still there.';
COMMENT ON FUNCTION abort_upload(uuid) IS 'Forgets an upload and its parts and returns the number of bytes it had received. 42704 when there is no such upload.';
