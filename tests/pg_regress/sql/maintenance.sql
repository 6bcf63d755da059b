-- gc, verify_model, verify_store, space_report, find_weights_with, diff_models, v_weight_statistics.
SET search_path TO public, modelstore;
SELECT create_store();
CREATE FUNCTION st(header text, data bytea DEFAULT '') RETURNS bytea LANGUAGE sql AS $$
    SELECT set_byte(set_byte('\x0000000000000000', 0, octet_length(header) & 255), 1, octet_length(header) >> 8) || convert_to(header, 'UTF8') || data
$$;
CREATE FUNCTION f32(tensor) RETURNS bytea LANGUAGE sql AS $$ SELECT tobytes($1) $$;
-- an empty store is in order
SELECT object, problem FROM verify_store();
SELECT * FROM space_report();
SELECT * FROM gc(dry_run => true);
SELECT * FROM gc();
SELECT * FROM find_weights_with('nan');

-- version 2 shares w with version 1 and has another v; u is new
SELECT weights, new_chunks, reused_bytes FROM import_safetensors('m', '1', st(
    '{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"v":{"dtype":"F32","shape":[3],"data_offsets":[16,28]}}', f32('[1,2,3,4]') || f32('[1,NaN,-0]')));
SELECT weights, new_chunks, reused_bytes FROM import_safetensors('m', '2', parent => find_model('m', '1'), data => st(
    '{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"v":{"dtype":"F32","shape":[3],"data_offsets":[16,28]},"u":{"dtype":"F32","shape":[2,2],"data_offsets":[28,44]}}',
    f32('[1,2,3,4]') || f32('[1,2,inf]') || f32('[0,0,5,5]')));
SELECT model_name, version, raw_bytes, stored_bytes, weight_bytes, checkpoint_bytes, unique_bytes, shared_bytes, delta_bytes, saved_bytes FROM space_report();
SELECT weight_name, min, max, mean, round(std::numeric, 6) AS std, round(l2::numeric, 6) AS l2, absmax, zeros, nans, infs FROM store.v_weight_statistics
WHERE model_id = find_model('m', '1') ORDER BY weight_name;
SELECT weight_name, min, max, mean, std, l2, absmax, zeros, nans, infs FROM store.v_weight_statistics WHERE model_id = find_model('m', '2') ORDER BY weight_name;
SELECT * FROM diff_models(find_model('m', '1'), find_model('m', '2'));
SELECT weight_name, status FROM diff_models(find_model('m', '2'), find_model('m', '1'));
SELECT * FROM diff_models(find_model('m', '1'), '00000000-0000-0000-0000-000000000000');
SELECT what, version, weight_name, count FROM unnest(ARRAY['nan', 'inf', 'constant', 'dead_rows']) what, find_weights_with(what) JOIN store.models USING (model_id)
ORDER BY 1, 2, 3;
SELECT weight_name, count FROM find_weights_with('inf', find_model('m', '1'));
SELECT * FROM find_weights_with('holes');
SELECT * FROM find_weights_with(NULL);
SELECT object, problem FROM verify_model(find_model('m', '2'));
SELECT verify_model('00000000-0000-0000-0000-000000000000');

-- what nothing refers to
SELECT tensors, chunks, raw_bytes FROM gc(true);
SELECT * FROM delete_model(find_model('m', '1'), cascade => true);
SELECT tensors, chunks, raw_bytes FROM gc(dry_run => true);
SELECT tensors, chunks, raw_bytes FROM gc();
SELECT tensors, chunks, raw_bytes FROM gc();
SELECT weight_name, get_tensor(model_id, weight_name) FROM store.model_weights ORDER BY 1;
-- a table of the user's own that refers to tensors keeps them
CREATE TABLE favourites (tensor_id uuid REFERENCES store.tensor_metadata);
INSERT INTO favourites SELECT tensor_id FROM store.model_weights WHERE weight_name = 'u';
SELECT * FROM delete_model(find_model('m', '2'));
SELECT tensors, chunks, raw_bytes FROM gc();
SELECT reconstruct_tensor(tensor_id) FROM favourites;
SELECT object, problem FROM verify_store();
DROP TABLE favourites;
SELECT tensors, chunks, raw_bytes FROM gc();
SELECT count(*) FROM store.tensor_chunks;

-- damage done by hand is named
SELECT weights FROM import_safetensors('m', '3', st('{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}', f32('[1,2,3,4]')));
BEGIN;
UPDATE store.tensor_chunks SET raw_bytes = 12;
SELECT problem FROM verify_store();
ROLLBACK;
BEGIN;
UPDATE store.tensor_metadata SET chunk_count = 2;
SELECT problem FROM verify_store();
ROLLBACK;
BEGIN;
UPDATE store.model_files SET header = header || ' ';
SELECT object, problem FROM verify_model(find_model('m'));
ROLLBACK;
BEGIN;
UPDATE store.model_files SET blake3 = sha256(blake3);
SELECT object, problem FROM verify_model(find_model('m'));
ROLLBACK;
BEGIN;
UPDATE store.model_files SET header = set_byte(header, 8, 32);
SELECT object, problem FROM verify_model(find_model('m'));
\set VERBOSITY terse
SELECT count(*) FROM export_safetensors(find_model('m'));
\set VERBOSITY verbose
ROLLBACK;
BEGIN;
DELETE FROM store.tensor_data;
SELECT object, problem FROM verify_model(find_model('m')) ORDER BY object COLLATE "C";
SELECT get_tensor(find_model('m'), 'w');
ROLLBACK;
BEGIN;
UPDATE store.tensor_metadata SET shape = '{5}';
SELECT get_tensor(find_model('m'), 'w');
ROLLBACK;
\set VERBOSITY sqlstate
DELETE FROM store.tensor_chunks;
DELETE FROM store.tensor_metadata;
\set VERBOSITY verbose
SELECT object, problem FROM verify_store();
