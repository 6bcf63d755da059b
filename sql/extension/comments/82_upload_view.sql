-- (the view for uploads)

COMMENT ON VIEW upload IS 'COPY modelstore.upload FROM STDIN (FORMAT binary) appends the data of each row to its upload. Reading it gives no rows.';
COMMENT ON COLUMN upload.upload_id IS 'The upload, from begin_upload.';
COMMENT ON COLUMN upload.data IS 'The next part.';
COMMENT ON TRIGGER upload_append ON upload IS 'Appends each inserted row to its upload.';
