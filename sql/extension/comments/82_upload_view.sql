-- (the view for uploads)

COMMENT ON VIEW upload IS 'Appends the data of each row to its upload: COPY modelstore.upload (upload_id, data, at_offset) FROM STDIN (FORMAT binary). Reading the view returns no rows.';
COMMENT ON COLUMN upload.upload_id IS 'The upload''s ID, from begin_upload.';
COMMENT ON COLUMN upload.data IS 'The next part.';
COMMENT ON COLUMN upload.at_offset IS 'Byte of the file that the part begins at, or NULL for the next one. A part that does not belong there is an error (55000): give it when resuming.';
COMMENT ON TRIGGER upload_append ON upload IS 'Appends each inserted row to its upload.';
COMMENT ON TRIGGER upload_finish ON upload IS 'Stores what the rows of a statement have completed.';
