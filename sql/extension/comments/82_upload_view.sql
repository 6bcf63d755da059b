-- (the view for uploads)

COMMENT ON VIEW upload IS 'Appends the data of each row to its upload: COPY modelstore.upload FROM STDIN (FORMAT binary). Reading the view returns no rows.';
COMMENT ON COLUMN upload.upload_id IS 'The upload''s ID, from begin_upload.';
COMMENT ON COLUMN upload.data IS 'The next part.';
COMMENT ON TRIGGER upload_append ON upload IS 'Appends each inserted row to its upload.';
COMMENT ON TRIGGER upload_finish ON upload IS 'Stores what the rows of a statement have completed.';
