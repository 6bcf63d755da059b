-- safetensors files of a few bytes, in and out.
SET search_path TO public, modelstore;
SET bytea_output TO hex;
SELECT create_store();
-- a file: eight bytes of length, a header, elements
CREATE FUNCTION st(header text, data bytea DEFAULT '') RETURNS bytea LANGUAGE sql AS $$
    SELECT set_byte(set_byte('\x0000000000000000', 0, octet_length(header) & 255), 1, octet_length(header) >> 8) || convert_to(header, 'UTF8') || data
$$;
CREATE FUNCTION exported(model uuid) RETURNS bytea LANGUAGE sql AS $$
    SELECT string_agg(part, '' ORDER BY n) FROM export_safetensors(model) WITH ORDINALITY e (part, n)
$$;

-- {"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]}} and 01 02 ff
SELECT weights, parameters, raw_bytes, new_chunks, new_bytes, reused_bytes FROM import_safetensors('tiny', '1',
    '\x35000000000000007b2261223a7b226474797065223a224938222c227368617065223a5b335d2c22646174615f6f666673657473223a5b302c335d7d7d0102ff'::bytea);
SELECT get_tensor(find_model('tiny'), 'a');
SELECT exported(find_model('tiny')) = '\x35000000000000007b2261223a7b226474797065223a224938222c227368617065223a5b335d2c22646174615f6f666673657473223a5b302c335d7d7d0102ff';
SELECT file_name, format, header, file_bytes, sha256 = sha256(exported(model_id)) AS sha256 FROM store.model_files;

-- nothing, scalars, empty tensors, metadata, keys in another order than the data, the same tensor twice
SELECT weights, parameters, raw_bytes, new_chunks FROM import_safetensors('none', '1', st('{}'));
SELECT weights, parameters, raw_bytes, new_chunks, reused_bytes FROM import_safetensors('some', '1', st(
    '{"__metadata__":{"k":"v"},"c":{"dtype":"F32","shape":[],"data_offsets":[7,11]},"e":{"dtype":"F32","shape":[0,2],"data_offsets":[3,3]},
      "b":{"dtype":"I8","shape":[2,2],"data_offsets":[3,7]},"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]}}  ', '\x0102ff000000000000803f'));
SELECT weight_name, file_offset, trainable, dtype, shape, element_count, chunk_count, reconstruct_tensor(tensor_id)
FROM store.model_weights JOIN store.tensor_metadata USING (tensor_id) WHERE model_id = find_model('some') ORDER BY file_offset, weight_name DESC;
SELECT exported(find_model('some'));
SELECT exported(find_model('none'));
SELECT count(*) FROM store.tensor_metadata;

-- names and versions are taken once; the rest is as it was
SELECT import_safetensors('tiny', '1', st('{}'));
SELECT import_safetensors('', '1', st('{}'));
SELECT import_safetensors('tiny', NULL, st('{}'));
SELECT import_safetensors('tiny', '2', st('{}'), parent => '00000000-0000-0000-0000-000000000000');

-- what no file may be, a rule each
SELECT import_safetensors('bad', '1', ''::bytea);
SELECT import_safetensors('bad', '1', '\x0000000000000000'::bytea);
SELECT import_safetensors('bad', '1', '\x000000000000000100'::bytea);
SELECT import_safetensors('bad', '1', '\xff000000000000007b7d'::bytea);
SELECT import_safetensors('bad', '1', st('[]'));
SELECT import_safetensors('bad', '1', st('{"a"}'));
SELECT import_safetensors('bad', '1', '\x06000000000000007b22ff223a31'::bytea);
SELECT import_safetensors('bad', '1', st('{"a":1}'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1],"more":1}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[1]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"Q8","shape":[1],"data_offsets":[0,1]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[-1],"data_offsets":[0,1]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,1]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[1],"data_offsets":[0]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[1],"data_offsets":[1,0]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,1]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}}', '\x0102'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}}', '\x0102'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', '\x0102'));
SELECT import_safetensors('bad', '1', st('{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"a\u0000":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', '\x01'));
SELECT import_safetensors('bad', '1', st('{"' || repeat('n', 1025) || '":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', '\x01'));
SELECT import_safetensors_large_object('bad', '1', 4294967295);
SELECT import_safetensors_file('bad', '1', 'relative.safetensors');
-- the detail names the user of the server
\set VERBOSITY terse
SELECT import_safetensors_file('bad', '1', '/no/such/file');
\set VERBOSITY verbose
SELECT count(*) FROM store.models WHERE model_name = 'bad';

-- several files
DO $$ BEGIN PERFORM register_model('sharded', '1'); END $$;
SELECT weights FROM add_file(find_model('sharded'), 'one.safetensors', st('{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', '\x01'));
SELECT weights FROM add_file(find_model('sharded'), 'two.safetensors', st('{"b":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', '\x02'));
SELECT add_file(find_model('sharded'), 'model.index.json', '{"weight_map":{"a":"one.safetensors"}}'::bytea);
SELECT add_file(find_model('sharded'), 'model.index.json', '{"weight_map":{"a":"one.safetensors","b":"one.safetensors"}}'::bytea);
SELECT add_file(find_model('sharded'), 'model.index.json', '{"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"}}'::bytea);
SELECT add_file(find_model('sharded'), 'model.index.json', '{"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"three"}}'::bytea);
SELECT add_file(find_model('sharded'), 'model.index.json', '{"weight_map":{"a":"../one.safetensors"}}'::bytea);
SELECT add_file(find_model('sharded'), 'model.safetensors.index.json', '{}'::bytea);
SELECT weights FROM add_file(find_model('sharded'), 'model.index.json', '{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}'::bytea);
SELECT add_file(find_model('sharded'), 'a/../three.safetensors', st('{}'));
SELECT add_file(find_model('sharded'), 'three.safetensors', st('{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', '\x03'));
SELECT file_name, format, file_bytes FROM store.model_files WHERE model_id = find_model('sharded') ORDER BY file_name;
-- a folder
SELECT weights, raw_bytes, reused_bytes FROM add_file(find_model('sharded'), '1_Pooling/config.json', '{"pooling": "mean"}');
SELECT weights, raw_bytes, reused_bytes FROM add_file(find_model('sharded'), 'again.json', '{"pooling": "mean"}');
DO $$ BEGIN PERFORM add_file(find_model('sharded'), 'again.json', ''); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, replace(SQLERRM, find_model('sharded')::text, '…'); END $$;
DO $$ BEGIN PERFORM add_file(find_model('sharded'), '1_Pooling', ''); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, replace(SQLERRM, find_model('sharded')::text, '…'); END $$;
SELECT add_file(find_model('sharded'), 'three.safetensors', 'GGUF');
SELECT add_file(find_model('sharded'), 'config.json', '{"a": 1,}');
SELECT raw_bytes FROM add_file(find_model('sharded'), 'config.json', '{"a": 1}');
SELECT delete_file(find_model('sharded'), 'config.json');
DO $$ BEGIN PERFORM add_file(find_model('sharded'), 'config.json', '{"a": 2, "b": 1}'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, replace(SQLERRM, find_model('sharded')::text, '…'); END $$;
SELECT convert_from(export_file(find_model('sharded'), '1_Pooling/config.json'), 'UTF8');
DO $$ BEGIN PERFORM delete_file(find_model('sharded'), 'one.safetensors'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, replace(SQLERRM, find_model('sharded')::text, '…'); END $$;
SELECT delete_file(find_model('sharded'), 'again.json');
SELECT file_name, format, file_bytes FROM store.model_files WHERE model_id = find_model('sharded') ORDER BY file_name;
SELECT status, weights FROM store.v_model_architecture WHERE model_name = 'sharded';
SELECT object, problem FROM verify_store();
