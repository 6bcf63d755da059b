-- What `make demo` runs in a fresh database. Variables: model (path of a safetensors file), name, config (JSON).
\timing on
\pset footer off

CREATE EXTENSION IF NOT EXISTS pg_modelstore;
SELECT modelstore.create_store();

\echo
\echo == Import :model
\lo_import :model
SELECT model_id FROM modelstore.import_safetensors_large_object(:'name', '1', :LASTOID, config => :'config'::jsonb) \gset
SELECT lo_unlink(:LASTOID) \g /dev/null

\echo
\echo == Architecture
\x on
SELECT * FROM store.v_model_architecture WHERE model_id = :'model_id';
\x off

\echo
\echo == Layers
SELECT layer_index, layer_name, layer_type, parameter_count
  FROM store.transformer_layers WHERE model_id = :'model_id' ORDER BY layer_index;

\echo
\echo == Parameters
SELECT * FROM modelstore.calculate_model_parameters(:'model_id');

\echo
\echo == The five largest weights
SELECT weight_name, shape, element_count, l2, min, max
  FROM store.v_weight_statistics WHERE model_id = :'model_id' ORDER BY element_count DESC, weight_name LIMIT 5;

\echo
\echo == Space
SELECT model_name, pg_size_pretty(raw_bytes) AS raw, pg_size_pretty(stored_bytes) AS stored, pg_size_pretty(saved_bytes) AS saved
  FROM modelstore.space_report();

\echo
\echo == Word embeddings, rows 0 to 9, first five columns
-- One row of the tensor a line.
\pset tuples_only on
\pset format unaligned
SELECT replace(modelstore.get_tensor_slice(:'model_id', 'embeddings.word_embeddings.weight', '0:10, :5')::text, '],', E'],\n');
