-- Training state: runs, metrics, checkpoints, plans. Keys are random, so those that messages show are set by hand.
SET search_path TO public, modelstore;
SELECT create_store();
CREATE FUNCTION st(header text, data bytea DEFAULT '') RETURNS bytea LANGUAGE sql AS $$
    SELECT set_byte(set_byte('\x0000000000000000', 0, octet_length(header) & 255), 1, octet_length(header) >> 8) || convert_to(header, 'UTF8') || data
$$;
-- a file of one f32 tensor
CREATE FUNCTION one(name text, tensor) RETURNS bytea LANGUAGE sql AS $$
    SELECT st(format('{"%s":{"dtype":"F32","shape":[%s],"data_offsets":[0,%s]}}', name, array_to_string(shape($2), ','), octet_length(tobytes($2))), tobytes($2))
$$;
SELECT register_model('m', '1') IS NOT NULL AS made;
UPDATE store.models SET model_id = '00000000-0000-0000-0000-00000000000a';
\set m '''00000000-0000-0000-0000-00000000000a'''
\set nothing '''00000000-0000-0000-0000-000000000000'''

-- runs
SELECT start_training(:m, '{"lr": 1e-4}', 'first', 100, 'loss', 'node') AS run \gset
SELECT status, session_name, config, total_steps, loss_metric, host, error, started_at IS NOT NULL AS started, ended_at, created_by = current_user AS mine,
       substr(session_id::text, 15, 1) AS uuid_version
FROM store.training_sessions;
SELECT start_training(:nothing);
SELECT start_training(NULL);
SELECT start_training(:m, total_steps => 0);
SELECT start_training(:m, loss_metric => '');
SELECT finish_training(:'run') > '0' AS took;
SELECT finish_training(:nothing);
SELECT finish_training(:'run', 'paused');
INSERT INTO store.training_sessions (session_id, model_id, status, started_at) VALUES ('00000000-0000-0000-0000-00000000000b', :m, 'failed', now());
\set ended '''00000000-0000-0000-0000-00000000000b'''
SELECT finish_training(:ended);
-- one that has only been planned
INSERT INTO store.training_sessions (session_id, model_id, status) VALUES ('00000000-0000-0000-0000-00000000000c', :m, 'pending');
SELECT finish_training('00000000-0000-0000-0000-00000000000c', 'cancelled') IS NULL AS never_started;
SELECT status, count(*) FROM store.training_sessions GROUP BY 1 ORDER BY 1;
SELECT find_or_start_training(:m, 'first') = :'run' AS found;
SELECT start_training(:m, session_name => 'first');
SELECT start_training(:m, resume_from => :nothing);
SELECT log_metrics(:ended, 1, '{"loss": 1}');
SELECT log_metric(:ended, 'loss', ARRAY[1], ARRAY[0.5]);
SELECT reopen_training(:nothing);
SELECT reopen_training(:ended) AS had_ended, reopen_training(:ended) AS again;
SELECT * FROM delete_training(:ended);
SELECT delete_training(:ended);

-- metrics
\set r '''00000000-0000-0000-0000-00000000000d'''
INSERT INTO store.training_sessions (session_id, model_id, status, started_at, total_steps) VALUES (:r, :m, 'running', now(), 10);
SELECT log_metrics(:r, 1, '{"loss": 0.5, "lr": 1e-4, "odd": "NaN", "high": "Infinity", "low": "-inf", "done": true}', 0.25);
SELECT log_metric(:r, 'loss', ARRAY[2, 3], ARRAY[0.25, 'NaN']);
SELECT log_metrics(:r, 4, '{}'), log_metric(:r, 'loss', '{}'::bigint[], '{}');
SELECT step, epoch, metric_name, value FROM store.training_metrics ORDER BY step, metric_name COLLATE "C";
SELECT session_name, status, step, total_steps, progress, newest_loss, best_loss, best_step FROM store.v_training_progress WHERE session_id = :r;
SELECT log_metrics(:r, 1, '[0.5]');
SELECT log_metrics(:r, 1, '{"loss": "low"}');
SELECT log_metrics(:r, 1, '{"loss": null}');
SELECT log_metrics(:r, 1, '{"": 1}');
SELECT log_metrics(:r, NULL, '{}');
SELECT log_metrics(:r, 1, NULL);
SELECT log_metrics(:nothing, 1, '{"loss": 1}');
SELECT log_metric(:r, 'loss', ARRAY[1, 2], ARRAY[0.5]);
SELECT log_metric(:r, 'loss', ARRAY[1, NULL], ARRAY[0.5, 1]);
SELECT log_metric(:r, 'loss', ARRAY[1], ARRAY[NULL]::double precision[]);
SELECT delete_metrics(:nothing);
SELECT delete_metrics(NULL) IS NULL AS strict;

-- pictures
SELECT sparkline('{3,2.5,2.2,2,NaN,1.9,1.8,1.8}'), sparkline('{1,2,3,4,5,6,7,8}', 4), sparkline(NULL) IS NULL AS strict, sparkline('{}') = '' AS empty;
SELECT sparkline('{1}', 0);
SELECT svg LIKE '<svg%</svg>%' AS svg, svg LIKE '%loss%' AS label, svg LIKE '%polyline%' AS line FROM metric_plot(:r::uuid, 'loss') svg;
SELECT metric_plot(:r::uuid, 'accuracy');
SELECT metric_plot(:nothing::uuid, 'loss');
SELECT metric_plot(:r::uuid, 'loss', width => 10);
SELECT metric_plot(:r::uuid, 'loss', height => 10000);
SELECT metric_plots('{}'::uuid[], ARRAY['loss']);
SELECT delete_metrics(:r), delete_metrics(:r);

-- checkpoints
SELECT get_latest_checkpoint(:m) IS NULL AS none, get_best_checkpoint(:m) IS NULL AS no_best;
SELECT get_latest_checkpoint(:nothing);
SELECT tensors, parameters, raw_bytes, new_chunks, reused_bytes FROM create_checkpoint(:m, 10, one('w', '[[1,2],[3,4]]'), session_id => :r, epoch => 0.5, metrics => '{"loss": 2}');
SELECT tensors, parameters, raw_bytes, new_chunks, reused_bytes
FROM create_checkpoint(:m, 20, one('w', '[[1,2],[3,5]]'), one('w.exp_avg', '[[0,0],[0,0.5]]'), session_id => :r, epoch => 1, metrics => '{"loss": 1}', rng_state => '\x00ff', param_groups => '[{"lr": 1e-4}]', metadata => '{"note": "x"}');
SELECT tensors, new_chunks, reused_bytes FROM create_checkpoint_tensors(:m, 30, ARRAY['w'], ARRAY['[[1,2],[3,5]]'::tensor], session_id => :r, epoch => 1.5, metrics => '{"loss": "NaN"}');
SELECT tensors, new_chunks, reused_bytes FROM create_checkpoint_large_object(:m, 30, lo_from_bytea(0, one('w', '[[1,2],[3,4]]')));
SELECT step, epoch, metrics, rng_state, param_groups, metadata, session_id IS NOT NULL AS in_run, pinned, content_hash FROM store.model_checkpoints ORDER BY sequence;
CREATE FUNCTION cp(bigint) RETURNS uuid LANGUAGE sql AS $$ SELECT checkpoint_id FROM store.model_checkpoints WHERE step = $1 ORDER BY sequence LIMIT 1 $$;
SELECT get_latest_checkpoint(:m) = cp(30) AS latest, get_best_checkpoint(:m) = cp(20) AS best, get_best_checkpoint(:m, 'loss', 'max') = cp(10) AS worst,
       get_best_checkpoint(:m, 'accuracy') IS NULL AS unmeasured;
SELECT get_best_checkpoint(:m, 'loss', 'mean');
SELECT weight_name, dtype, shape, raw_bytes, reconstruct_tensor(tensor_id) FROM checkpoint_weights_at(cp(20));
SELECT get_optimizer_state(cp(20), 'w', 'exp_avg');
SELECT weight_name, status, l2, max_abs, shared_bytes FROM diff_checkpoints(cp(10), cp(20));
SELECT object, problem FROM verify_checkpoint(cp(20));
SELECT string_agg(part, '') = one('w', '[[1,2],[3,5]]') AS exact FROM export_checkpoint(cp(20)) part;
SELECT string_agg(part, '') = one('w.exp_avg', '[[0,0],[0,0.5]]') AS exact FROM export_checkpoint(cp(20), 'optimizer.safetensors') part;
SELECT export_checkpoint(:nothing);
SELECT checkpoint_weights_at(:nothing);
SELECT verify_checkpoint(:nothing);
SELECT diff_checkpoints(cp(10), :nothing);
SELECT restore_checkpoint(:nothing, NULL, 'x');
SELECT put_optimizer_state(cp(10), 'w', 'exp_avg', '[[0,0],[0,0]]') IS NOT NULL AS put;
SELECT put_optimizer_state(cp(10), 'w', 'exp.avg', '[1]');
SELECT put_optimizer_state(:nothing, 'w', 'exp_avg', '[1]');
\set VERBOSITY sqlstate
SELECT put_optimizer_state(cp(10), 'w', 'exp_avg', '[1]');
SELECT get_optimizer_state(cp(10), 'w', 'exp_avg_sq');
SELECT export_checkpoint(cp(10), 'optimizer.safetensors');
\set VERBOSITY verbose
SELECT create_checkpoint(:nothing, 1, one('w', '[1]'));
SELECT create_checkpoint(:m, 1, one('w', '[1]'), session_id => :nothing);
SELECT create_checkpoint(:m, -1, one('w', '[1]'));
SELECT create_checkpoint(:m, 1, one('w', '[1]'), epoch => 'NaN');
SELECT create_checkpoint(:m, 1, one('w', '[1]'), metrics => '3');
SELECT create_checkpoint(:m, NULL, one('w', '[1]'));
SELECT create_checkpoint(:m, 1, NULL::bytea);
SELECT create_checkpoint(:m, 1, '\x00'::bytea);
SELECT create_checkpoint_tensors(:m, 1, ARRAY['a', 'b'], ARRAY['[1]'::tensor]);
SELECT create_checkpoint_tensors(:m, 1, ARRAY['a'], ARRAY[NULL::tensor]);
SELECT create_checkpoint_tensors(:m, 1, ARRAY['a', 'a'], ARRAY['[1]'::tensor, '[2]']);
SELECT create_checkpoint(:m, 1, one('w', '[[1,2],[3,4]]'), one('momentum', '[1]'));
SELECT create_checkpoint_upload(:m, 1, :nothing);
SELECT register_model('other', '1') AS other \gset
UPDATE store.models SET model_id = '00000000-0000-0000-0000-00000000000e' WHERE model_id = :'other';
\set other '''00000000-0000-0000-0000-00000000000e'''
SELECT create_checkpoint(:other, 1, one('w', '[1]'), session_id => :r);

-- guard-rails
SHOW modelstore.checkpoint_checks;
SELECT weights FROM add_file(:other, 'a.safetensors', one('w', '[1,2]'));
SELECT create_checkpoint(:other, 1, one('w', '[1,NaN]'));
SELECT create_checkpoint(:other, 1, one('w', '[1,-inf]'));
SELECT create_checkpoint(:other, 1, one('w', '[1,2]'), one('w.m', '[1,NaN]'));
SELECT create_checkpoint(:other, 1, one('w', '[1,2,3]'));
SELECT create_checkpoint(:other, 1, one('v', '[1,2]'));
SELECT create_checkpoint(:other, 1, st('{}'));
SELECT create_checkpoint_tensors(:other, 1, ARRAY['w'], ARRAY['f16:[1,2]'::tensor]);
UPDATE store.models SET config = '{"num_parameters": 3}' WHERE model_id = :other;
SELECT create_checkpoint(:other, 1, one('w', '[1,3]'));
SELECT create_checkpoint(:other, 1, one('w', '[1,3]'), checks => '{finite,sane}');
SELECT count(*) FROM store.model_checkpoints WHERE model_id = :other;
SET modelstore.checkpoint_checks = 'shape';
SELECT tensors FROM create_checkpoint(:other, 1, one('w', '[1,NaN]'));
SET modelstore.checkpoint_checks = '';
SELECT tensors FROM create_checkpoint(:other, 2, one('v', '[1,NaN,2]'));
SELECT create_checkpoint(:other, 3, one('w', '[1,NaN]'), checks => '{finite}');
RESET modelstore.checkpoint_checks;
SELECT tensors FROM create_checkpoint(:other, 4, one('w', '[1,NaN]'), checks => '{}');

-- one by one
SELECT step, epoch, rng_state, param_groups, metrics, metadata, parent_checkpoint_id = cp(10) AS continues, has_optimizer_state, pinned FROM checkpoint_state(cp(20));
SELECT checkpoint_state(:nothing);
SELECT create_checkpoint(:m, 1, one('w', '[[1,2],[3,4]]'), parent_checkpoint => :nothing);
SELECT create_checkpoint(:m, 1, one('w', '[[1,2],[3,4]]'), metrics => '{"loss": "low"}');
SELECT delete_checkpoint(:nothing);
SELECT checkpoint_id FROM create_checkpoint_tensors(:m, 90, ARRAY['w'], ARRAY['[[1,2],[3,4]]'::tensor]) \gset
SELECT get_latest_checkpoint(:m, :r) = cp(30) AS of_the_run, get_best_checkpoint(:m, session_id => :r) = cp(20) AS best;
SELECT get_latest_checkpoint(:m, :nothing);
SELECT get_latest_checkpoint(:other, :r);
SELECT files, weights, optimizer_states FROM delete_checkpoint(:'checkpoint_id');

-- restored
SELECT restore_checkpoint(cp(20), NULL, '1-20') = find_model('m', '1-20') AS made;
SELECT name, version, parent, derivation ~ '^checkpoint [0-9a-f-]{36} at step 20$' AS derivation, weights
FROM (SELECT m.model_name AS name, m.version, p.version AS parent, m.derivation, (SELECT count(*) FROM store.model_weights w WHERE w.model_id = m.model_id) AS weights
      FROM store.models m JOIN store.models p ON p.model_id = m.parent_model_id) r;
SELECT string_agg(part, '') = one('w', '[[1,2],[3,5]]') AS exact FROM export_safetensors(find_model('m', '1-20')) part;
SELECT restore_checkpoint(cp(20), NULL, '1-20');
SELECT restore_checkpoint(cp(20), NULL, NULL);

-- pruned
UPDATE store.model_checkpoints SET pinned = true WHERE checkpoint_id = cp(10);
SELECT step, epoch, kept, reasons FROM prune_checkpoints(:m, 1, 15, 1, dry_run => true);
SELECT step, epoch, kept, reasons FROM prune_checkpoints(:m, 0, NULL, 0, dry_run => false);
SELECT step, epoch, kept, reasons FROM prune_checkpoints(:m, dry_run => false);
SELECT prune_checkpoints(:m, -1, dry_run => false);
SELECT prune_checkpoints(:m, keep_every => 0, dry_run => false);
SELECT prune_checkpoints(:m, mode => 'middle', dry_run => false);
SELECT prune_checkpoints(:nothing, dry_run => false);
SELECT tensors, chunks, raw_bytes FROM gc();
SELECT object, problem FROM verify_store();

-- plans for the backward pass
SELECT plan_gradient_checkpoints(:m);
SELECT plan_gradient_checkpoints(:nothing);
SELECT register_model('bert', '1', config => '{"model_type": "bert", "hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 16}') AS bert \gset
SELECT weights FROM add_file(:'bert', 'a.safetensors', st(
    '{"encoder.layer.0.attention.self.query.weight":{"dtype":"F32","shape":[4,4],"data_offsets":[0,64]},'
    '"encoder.layer.1.attention.self.query.weight":{"dtype":"F32","shape":[4,4],"data_offsets":[64,128]},'
    '"encoder.layer.2.attention.self.query.weight":{"dtype":"F32","shape":[4,4],"data_offsets":[128,192]},'
    '"encoder.layer.3.attention.self.query.weight":{"dtype":"F32","shape":[4,4],"data_offsets":[192,256]}}', decode(repeat('00', 256), 'hex')));
SELECT * FROM plan_gradient_checkpoints(:'bert', seq_len => 8);
SELECT * FROM plan_gradient_checkpoints(:'bert', 100000, seq_len => 8);
SELECT * FROM plan_gradient_checkpoints(:'bert', 5, seq_len => 8);
SELECT * FROM plan_gradient_checkpoints(:'bert', 0);
SELECT * FROM plan_gradient_checkpoints(:'bert', batch_size => -1);
SELECT start_training(:'bert') AS planned \gset
SELECT set_gradient_checkpoints(:'planned', seq_len => 8), set_gradient_checkpoints(:'planned', 100000, seq_len => 8);
SELECT layer_index, policy, segment, kept_bytes, recompute_flops FROM store.gradient_checkpoints ORDER BY layer_index;
SELECT set_gradient_checkpoints(:nothing);

-- what the tables themselves refuse
\set VERBOSITY sqlstate
INSERT INTO store.training_sessions (session_id, model_id, status) VALUES (gen_random_uuid(), :m, 'odd');
INSERT INTO store.model_checkpoints (checkpoint_id, model_id, sequence, step) VALUES (gen_random_uuid(), :m, 100, -1);
INSERT INTO store.model_checkpoints (checkpoint_id, model_id, sequence, step, session_id) VALUES (gen_random_uuid(), :other, 100, 1, :r);
INSERT INTO store.model_checkpoints (checkpoint_id, model_id, sequence, step) SELECT gen_random_uuid(), model_id, sequence, step FROM store.model_checkpoints;
INSERT INTO store.training_sessions (session_id, model_id, session_name) SELECT gen_random_uuid(), model_id, session_name FROM store.training_sessions WHERE session_name IS NOT NULL;
INSERT INTO store.training_metrics (session_id, step, metric_name, value) VALUES (gen_random_uuid(), 1, 'loss', 1);
\set VERBOSITY verbose

-- a model takes its runs and checkpoints along
SELECT delete_model(model_id, cascade => true) IS NOT NULL AS gone FROM store.models;
SELECT (SELECT count(*) FROM store.training_sessions) AS sessions, (SELECT count(*) FROM store.model_checkpoints) AS checkpoints,
       (SELECT count(*) FROM store.optimizer_state) AS states, (SELECT count(*) FROM store.gradient_checkpoints) AS plans;
SELECT tensors > 0 AS collected FROM gc();
SELECT (SELECT count(*) FROM store.tensor_metadata) AS tensors, (SELECT count(*) FROM store.tensor_chunks) AS chunks;
