-- COPY modelstore.upload (upload_id, data, at_offset) FROM STDIN (FORMAT binary): appends each row's data to its upload.
CREATE VIEW upload AS SELECT NULL::uuid AS upload_id, NULL::bytea AS data, NULL::bigint AS at_offset WHERE false;
ALTER FUNCTION upload_append() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION upload_finish() SET search_path = pg_catalog, pg_temp;
CREATE TRIGGER upload_append INSTEAD OF INSERT ON upload FOR EACH ROW EXECUTE FUNCTION upload_append();
CREATE TRIGGER upload_finish AFTER INSERT ON upload FOR EACH STATEMENT EXECUTE FUNCTION upload_finish();
GRANT SELECT, INSERT ON upload TO PUBLIC;
-- They serve this view alone; a trigger that is there asks for no right on its function.
REVOKE EXECUTE ON FUNCTION upload_append(), upload_finish() FROM PUBLIC;
