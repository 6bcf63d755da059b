-- What `make demo` runs in a fresh database. Variables: model (path of a safetensors file), label (its name in the text), config and
-- vocabulary (paths, or '' where there is none), name (of the model in the store), plot (path of the file to write).
-- The statements between :shown and :hidden are printed; those after :hidden compute the sentence below them.
\set ON_ERROR_STOP on
\set QUIET on
\pset footer off
\set hidden '\\set ECHO none \\\\ SELECT greatest(0.01, round(extract(epoch FROM clock_timestamp() - :''began'')::numeric, 2)) AS elapsed \\gset'
\set shown 'SELECT clock_timestamp() AS began \\gset \\set ECHO queries'
CREATE SCHEMA demo;
CREATE FUNCTION demo.mb(bytes numeric) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN bytes < 1e5 THEN format('%s kB', round(bytes / 1e3, 1)) ELSE format('%s MB', round(bytes / 1e6, 1)) END
$$;
\set unlink '\\echo SELECT lo_unlink(:LASTOID); \\\\ SELECT lo_unlink(:LASTOID) \\g /dev/null'
-- Waits for what would disturb the first measurement.
CHECKPOINT;

\echo
\echo '== A store: a schema with the tables that hold models'
\echo
:shown
CREATE EXTENSION pg_modelstore;
SELECT modelstore.create_store();
:hidden
SELECT format('%s tables in the schema store, owned by %s, %s s.', count(*), current_user, :elapsed) AS sentence
  FROM pg_tables WHERE schemaname = 'store' \gset
\echo :sentence

\echo
\echo '== Import' :label
\echo
\echo '\\lo_import' :label
\lo_import :model
:shown
SELECT weights, parameters, raw_bytes, new_chunks, new_bytes
FROM modelstore.import_safetensors_large_object(:'name', '1', :LASTOID);
:hidden
SELECT format('%s tensors, %s in %s s (%s MB/s), stored in %s: %s %% of the bytes, without loss.', count(*), demo.mb(max(s.raw_bytes)),
         :elapsed, round(max(s.raw_bytes) / 1e6 / :elapsed), demo.mb(max(s.stored_bytes)), round(100.0 * max(s.stored_bytes) / max(s.raw_bytes))) AS sentence,
       max(s.raw_bytes) < 200000000 AND coalesce(bool_and(t.dtype = 'f32') FILTER (WHERE w.layer_index IS NOT NULL), false) AS trains
  FROM modelstore.space_report() s, store.model_weights w JOIN store.tensor_metadata t USING (tensor_id) \gset
\echo :sentence
:unlink

SELECT :'config' <> '' AS has_config, :'vocabulary' <> '' AS has_vocabulary \gset
\if :has_config
\echo
\echo '== Add other files of the model; config.json says how many heads it has'
\echo
\echo '\\lo_import config.json'
\lo_import :config
:shown
SELECT raw_bytes FROM modelstore.add_file_large_object(:'name', 'config.json', :LASTOID);
SELECT architecture, layers, attention_heads, hidden_size, vocab_size, parameters FROM store.v_model_architecture;
:hidden
:unlink
\endif
\if :has_vocabulary
\lo_import :vocabulary
SELECT modelstore.add_file_large_object(:'name', 'vocab.txt', :LASTOID) \g /dev/null
SELECT lo_unlink(:LASTOID) \g /dev/null
\echo 'vocab.txt is added the same way. export_file returns each file as it was.'
\endif

\echo
\echo '== The largest weights, with statistics that were stored during the import'
\echo
:shown
SELECT weight_name, shape, round(l2::numeric, 3) AS l2, round(min::numeric, 3) AS min, round(max::numeric, 3) AS max
FROM store.v_weight_statistics ORDER BY element_count DESC, weight_name LIMIT 5;
:hidden
SELECT format('%s s: no weight was decoded.', :elapsed) AS sentence \gset
\echo :sentence

SELECT weight_name AS weight, format('0:3, :%s', least(shape[2], 4)) AS slice FROM store.v_weight_statistics
 WHERE cardinality(shape) = 2 ORDER BY element_count DESC, weight_name LIMIT 1 \gset
\echo
\echo '== A slice of a weight, in the notation of numpy'
\echo
:shown
SELECT modelstore.get_tensor_slice(:'name', :'weight', :'slice');
:hidden
SELECT format('%s s: only the blocks that contain the slice were decoded.', :elapsed) AS sentence \gset
\echo :sentence

\if :has_vocabulary
\echo
\echo '== The nearest tokens of "king" among the frequent words, by the cosine of their embeddings'
\echo
:shown
CREATE TABLE demo.tokens AS
SELECT n - 1 AS id, token
FROM string_to_table((SELECT convert_from(string_agg(part, ''), 'UTF8') FROM modelstore.export_file(:'name', 'vocab.txt') part), E'\n')
     WITH ORDINALITY AS t(token, n);
WITH words AS MATERIALIZED (
    SELECT array_agg(id ORDER BY id) AS ids, array_agg(token ORDER BY id) AS tokens
    FROM demo.tokens WHERE id BETWEEN 1996 AND 6995 AND token ~ '^[a-z]{3,}$'
), king AS MATERIALIZED (
    SELECT modelstore.embedding(:'name', array_agg(id))::real[] AS row FROM demo.tokens WHERE token = 'king'
), dots AS (
    SELECT (i - 1) / 384 AS n, sum(x * row[1][(i - 1) % 384 + 1]) / sqrt(sum(x * x)) AS dot
    FROM words, king, unnest(modelstore.embedding(:'name', ids)::real[]) WITH ORDINALITY AS e(x, i) GROUP BY 1
)
SELECT tokens[n + 1] AS token, round((dot / modelstore.norm(row::modelstore.tensor))::numeric, 3) AS cosine
FROM dots, words, king ORDER BY dot DESC LIMIT 6;
:hidden
SELECT format('%s s for %s words of 384 dimensions, in plain SQL.', :elapsed, count(*)) AS sentence
  FROM demo.tokens WHERE id BETWEEN 1996 AND 6995 AND token ~ '^[a-z]{3,}$' \gset
\echo :sentence
\endif

\echo
\echo '== Deduplication: import the same file again'
\echo
\lo_import :model
:shown
SELECT new_chunks, new_bytes, reused_bytes FROM modelstore.import_safetensors_large_object(:'name', '1-again', :LASTOID);
:hidden
SELECT format('%s s. The second version takes no space: its chunks are stored already.', :elapsed) AS sentence \gset
\echo :sentence
:unlink

\set first :name ':1'
\set second :name ':2'
\set best :name ':1#best'
\if :trains
-- Of a model without that naming, every weight of the layer.
SELECT format('%%.%s.%s%%', max(layer_index), CASE WHEN bool_or(weight_name ~ '\.[0-9]+\.attention') THEN 'attention' END) AS changed
  FROM store.model_weights \gset
\echo
\echo '== A training run: its loss at 300 steps, and how the terminal shows it'
\echo
:shown
SELECT modelstore.start_training(:'first', '{"lr": 2e-5}', 'fine-tune', total_steps => 300) AS run \gset
\echo '\\gset'
SELECT modelstore.log_metric(:'run', 'loss', array_agg(step), array_agg(0.3 + exp(-step / 60.0) + 0.05 * sin(step * 1.7)))
FROM generate_series(1::bigint, 300) AS step;
SELECT modelstore.sparkline(array_agg(value ORDER BY step), 60) AS loss FROM store.training_metrics WHERE session_id = :'run';
:hidden
\pset tuples_only on
\pset format unaligned
\o :plot
SELECT modelstore.metric_plot(:'run', 'loss');
\o
\pset format aligned
\pset tuples_only off
\echo 'The same curve, as SELECT modelstore.metric_plot(run, ''loss'') draws it:' :plot

-- The checkpoint of a fine-tune that trained the last layer only.
CREATE FUNCTION demo.fine_tuned(w modelstore.tensor) RETURNS modelstore.tensor LANGUAGE sql AS $$
    SELECT modelstore.reshape(array_agg((x + 1e-5 * sin(i))::real ORDER BY i)::modelstore.tensor, modelstore.shape(w))
    FROM unnest(w::real[]) WITH ORDINALITY AS e(x, i)
$$;
\echo
\echo '== A checkpoint: a fine-tune has changed weights of the last layer, each element a little'
\echo '   (demo.fine_tuned stands for the training: it adds 1e-5 * sin(i) to element i)'
\echo
:shown
SELECT c.tensors, raw_bytes, new_chunks, reused_bytes, raw_bytes - reused_bytes AS changed_bytes, new_bytes
FROM (SELECT array_agg(weight_name) AS names, array_agg(CASE WHEN weight_name LIKE :'changed' THEN demo.fine_tuned(w) ELSE w END) AS tensors
      FROM store.model_weights, modelstore.get_tensor(model_id, weight_name) w WHERE model_id = :'first'::modelstore.regmodel) t,
     modelstore.create_checkpoint_tensors(:'first', 300, names, t.tensors, session_id => :'run', metrics => '{"loss": 0.31}') c;
:hidden
SELECT format('%s s, most of it for demo.fine_tuned. Only the changed weights are new: they are stored as differences.', :elapsed) AS sentence \gset
\echo :sentence

\echo
\echo '== The checkpoint becomes a version; a difference of two versions reads only what differs'
\echo
:shown
SELECT modelstore.model_label(modelstore.restore_checkpoint(:'best', :'name', '2')) AS version;
SELECT status, count(*) AS weights, round(max(max_abs)::numeric, 6) AS largest_change, sum(shared_bytes) AS shared_bytes
FROM modelstore.diff_models(:'first', :'second') GROUP BY status ORDER BY status;
:hidden
\endif

\echo
\echo '== Space: what the versions would take as files, and what they take here'
\echo
:shown
SELECT version, pg_size_pretty(raw_bytes) AS file, pg_size_pretty(stored_bytes) AS stored, pg_size_pretty(unique_bytes) AS of_its_own
FROM modelstore.space_report() ORDER BY version;
:hidden
SELECT format('%s versions and their checkpoints would be files of %s; all tables of the store with their indexes take %s.', count(*), demo.mb(sum(raw_bytes)),
         demo.mb((SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relnamespace = 'store'::regnamespace AND c.relkind = 'r'))) AS sentence
  FROM modelstore.space_report() \gset
\echo :sentence
