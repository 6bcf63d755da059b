-- Module 3, training state: runs, their metrics, and the checkpoints they leave.
CREATE TABLE @store@.training_sessions (
    session_id uuid PRIMARY KEY,
    model_id uuid NOT NULL REFERENCES @store@.models ON DELETE CASCADE,
    session_name text,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    config jsonb,
    total_steps bigint CHECK (total_steps > 0),
    loss_metric text NOT NULL DEFAULT 'loss' CHECK (loss_metric <> ''),
    host text,
    error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by name NOT NULL DEFAULT current_user,
    started_at timestamptz,
    ended_at timestamptz,
    -- What checkpoints refer to, so that a checkpoint's run is one of its model.
    UNIQUE (session_id, model_id)
);
CREATE INDEX training_sessions_model_id_idx ON @store@.training_sessions (model_id);
COMMENT ON TABLE @store@.training_sessions IS 'Training runs of a model.';
COMMENT ON COLUMN @store@.training_sessions.session_id IS 'Key, a UUID of version 7.';
COMMENT ON COLUMN @store@.training_sessions.model_id IS 'The model that is trained.';
COMMENT ON COLUMN @store@.training_sessions.session_name IS 'Name its users give it.';
COMMENT ON COLUMN @store@.training_sessions.status IS 'pending, running, completed, failed or cancelled.';
COMMENT ON COLUMN @store@.training_sessions.config IS 'Hyperparameters and whatever else describes the run.';
COMMENT ON COLUMN @store@.training_sessions.total_steps IS 'Steps it is planned to take, for progress and time left.';
COMMENT ON COLUMN @store@.training_sessions.loss_metric IS 'Name of the metric that v_training_progress shows as loss; smaller is better.';
COMMENT ON COLUMN @store@.training_sessions.host IS 'Machine it runs on; the address of the client unless said otherwise.';
COMMENT ON COLUMN @store@.training_sessions.error IS 'Why it failed.';
COMMENT ON COLUMN @store@.training_sessions.created_at IS 'When the row was made.';
COMMENT ON COLUMN @store@.training_sessions.created_by IS 'Role that made it.';
COMMENT ON COLUMN @store@.training_sessions.started_at IS 'When it began to run.';
COMMENT ON COLUMN @store@.training_sessions.ended_at IS 'When it was finished.';

-- By hash of the run: the metrics of a run are in one partition, and removing them touches no other.
CREATE TABLE @store@.training_metrics (
    session_id uuid NOT NULL REFERENCES @store@.training_sessions ON DELETE CASCADE,
    step bigint NOT NULL,
    epoch double precision,
    metric_name text NOT NULL CHECK (metric_name <> ''),
    value double precision NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY HASH (session_id);
CREATE TABLE @store@.training_metrics_0 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 0);
CREATE TABLE @store@.training_metrics_1 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 1);
CREATE TABLE @store@.training_metrics_2 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 2);
CREATE TABLE @store@.training_metrics_3 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 3);
CREATE TABLE @store@.training_metrics_4 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 4);
CREATE TABLE @store@.training_metrics_5 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 5);
CREATE TABLE @store@.training_metrics_6 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 6);
CREATE TABLE @store@.training_metrics_7 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 7);
CREATE TABLE @store@.training_metrics_8 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 8);
CREATE TABLE @store@.training_metrics_9 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 9);
CREATE TABLE @store@.training_metrics_10 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 10);
CREATE TABLE @store@.training_metrics_11 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 11);
CREATE TABLE @store@.training_metrics_12 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 12);
CREATE TABLE @store@.training_metrics_13 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 13);
CREATE TABLE @store@.training_metrics_14 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 14);
CREATE TABLE @store@.training_metrics_15 PARTITION OF @store@.training_metrics FOR VALUES WITH (MODULUS 16, REMAINDER 15);
CREATE INDEX training_metrics_idx ON @store@.training_metrics (session_id, metric_name, step);
COMMENT ON TABLE @store@.training_metrics IS 'Figures that runs record at their steps. Rows are added, never changed: a step that is run again adds its own, and the later row counts.';
COMMENT ON COLUMN @store@.training_metrics.session_id IS 'The run.';
COMMENT ON COLUMN @store@.training_metrics.step IS 'The optimizer step.';
COMMENT ON COLUMN @store@.training_metrics.epoch IS 'The epoch, where the run says so; 0.5 is halfway through the first.';
COMMENT ON COLUMN @store@.training_metrics.metric_name IS 'What was measured, for example loss or lr.';
COMMENT ON COLUMN @store@.training_metrics.value IS 'The figure; NaN and infinities are kept.';
COMMENT ON COLUMN @store@.training_metrics.recorded_at IS 'When it was recorded.';
COMMENT ON TABLE @store@.training_metrics_0 IS 'Partition 0 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_1 IS 'Partition 1 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_2 IS 'Partition 2 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_3 IS 'Partition 3 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_4 IS 'Partition 4 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_5 IS 'Partition 5 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_6 IS 'Partition 6 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_7 IS 'Partition 7 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_8 IS 'Partition 8 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_9 IS 'Partition 9 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_10 IS 'Partition 10 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_11 IS 'Partition 11 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_12 IS 'Partition 12 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_13 IS 'Partition 13 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_14 IS 'Partition 14 of training_metrics.';
COMMENT ON TABLE @store@.training_metrics_15 IS 'Partition 15 of training_metrics.';

CREATE TABLE @store@.model_checkpoints (
    checkpoint_id uuid PRIMARY KEY,
    model_id uuid NOT NULL REFERENCES @store@.models ON DELETE CASCADE,
    session_id uuid,
    step bigint NOT NULL CHECK (step >= 0),
    epoch double precision CHECK (epoch >= 0 AND epoch < 'Infinity'),
    sequence bigint GENERATED ALWAYS AS IDENTITY,
    parent_checkpoint_id uuid REFERENCES @store@.model_checkpoints ON DELETE SET NULL,
    metrics jsonb CHECK (jsonb_typeof(metrics) = 'object'),
    rng_state bytea,
    param_groups jsonb,
    metadata jsonb,
    content_hash bytea CHECK (octet_length(content_hash) = 32),
    pinned boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by name NOT NULL DEFAULT current_user,
    FOREIGN KEY (session_id, model_id) REFERENCES @store@.training_sessions (session_id, model_id) ON DELETE SET NULL (session_id)
);
CREATE INDEX model_checkpoints_model_id_idx ON @store@.model_checkpoints (model_id, step, epoch, sequence);
CREATE INDEX model_checkpoints_session_id_idx ON @store@.model_checkpoints (session_id, model_id);
CREATE INDEX model_checkpoints_parent_checkpoint_id_idx ON @store@.model_checkpoints (parent_checkpoint_id);
COMMENT ON TABLE @store@.model_checkpoints IS 'States of a model in training: weights, optimizer, random numbers.';
COMMENT ON COLUMN @store@.model_checkpoints.checkpoint_id IS 'Key, a UUID of version 7.';
COMMENT ON COLUMN @store@.model_checkpoints.model_id IS 'The model.';
COMMENT ON COLUMN @store@.model_checkpoints.session_id IS 'The run that made it, if any.';
COMMENT ON COLUMN @store@.model_checkpoints.step IS 'The optimizer step it was made after.';
COMMENT ON COLUMN @store@.model_checkpoints.epoch IS 'The epoch, if known.';
COMMENT ON COLUMN @store@.model_checkpoints.sequence IS 'Order in which checkpoints were made, whatever the clock says; decides between equal steps and epochs.';
COMMENT ON COLUMN @store@.model_checkpoints.parent_checkpoint_id IS 'The checkpoint before it, to which its tensors may be stored as differences.';
COMMENT ON COLUMN @store@.model_checkpoints.metrics IS 'Figures at this step, for example {"loss": 0.7}.';
COMMENT ON COLUMN @store@.model_checkpoints.rng_state IS 'State of the random number generators, as the client packs it.';
COMMENT ON COLUMN @store@.model_checkpoints.param_groups IS 'The optimizer''s parameter groups: learning rate, betas, and so on.';
COMMENT ON COLUMN @store@.model_checkpoints.metadata IS 'Anything else its users want to keep.';
COMMENT ON COLUMN @store@.model_checkpoints.content_hash IS 'BLAKE3-256 over names, dtypes, shapes and content of the weights, as that of models.';
COMMENT ON COLUMN @store@.model_checkpoints.pinned IS 'Whether prune_checkpoints always keeps it.';
COMMENT ON COLUMN @store@.model_checkpoints.created_at IS 'When it was made.';
COMMENT ON COLUMN @store@.model_checkpoints.created_by IS 'Role that made it.';

CREATE TABLE @store@.checkpoint_files (
    checkpoint_id uuid NOT NULL REFERENCES @store@.model_checkpoints ON DELETE CASCADE,
    file_name text NOT NULL CHECK (file_name <> ''),
    format text NOT NULL CHECK (format = 'safetensors'),
    header bytea NOT NULL,
    file_bytes bigint NOT NULL CHECK (file_bytes >= 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    blake3 bytea NOT NULL CHECK (octet_length(blake3) = 32),
    manifest_hash bytea NOT NULL CHECK (octet_length(manifest_hash) = 32),
    imported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (checkpoint_id, file_name)
);
ALTER TABLE @store@.checkpoint_files ALTER COLUMN header SET STORAGE EXTERNAL;
COMMENT ON TABLE @store@.checkpoint_files IS 'The files of a checkpoint, as model_files has those of a model: model.safetensors and, with optimizer state, optimizer.safetensors.';
COMMENT ON COLUMN @store@.checkpoint_files.checkpoint_id IS 'The checkpoint.';
COMMENT ON COLUMN @store@.checkpoint_files.file_name IS 'model.safetensors or optimizer.safetensors.';
COMMENT ON COLUMN @store@.checkpoint_files.format IS 'safetensors.';
COMMENT ON COLUMN @store@.checkpoint_files.header IS 'The bytes in front of the tensor data exactly as they were.';
COMMENT ON COLUMN @store@.checkpoint_files.file_bytes IS 'Size of the file in bytes.';
COMMENT ON COLUMN @store@.checkpoint_files.sha256 IS 'SHA-256 of the file.';
COMMENT ON COLUMN @store@.checkpoint_files.blake3 IS 'BLAKE3-256 of the file.';
COMMENT ON COLUMN @store@.checkpoint_files.manifest_hash IS 'BLAKE3-256 of the header and the hashes of the file''s chunks in order.';
COMMENT ON COLUMN @store@.checkpoint_files.imported_at IS 'When it was stored.';

CREATE TABLE @store@.checkpoint_weights (
    checkpoint_id uuid NOT NULL REFERENCES @store@.model_checkpoints ON DELETE CASCADE,
    weight_name text NOT NULL CHECK (weight_name <> ''),
    tensor_id uuid NOT NULL REFERENCES @store@.tensor_metadata,
    file_name text NOT NULL,
    file_offset bigint NOT NULL,
    PRIMARY KEY (checkpoint_id, weight_name),
    FOREIGN KEY (checkpoint_id, file_name) REFERENCES @store@.checkpoint_files DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX checkpoint_weights_file_name_idx ON @store@.checkpoint_weights (checkpoint_id, file_name);
CREATE INDEX checkpoint_weights_tensor_id_idx ON @store@.checkpoint_weights (tensor_id);
COMMENT ON TABLE @store@.checkpoint_weights IS 'The weights of each checkpoint by name. An unchanged weight is the tensor the checkpoint before has.';
COMMENT ON COLUMN @store@.checkpoint_weights.checkpoint_id IS 'The checkpoint.';
COMMENT ON COLUMN @store@.checkpoint_weights.weight_name IS 'Name, as in the model.';
COMMENT ON COLUMN @store@.checkpoint_weights.tensor_id IS 'The tensor that is its value.';
COMMENT ON COLUMN @store@.checkpoint_weights.file_name IS 'File it is in.';
COMMENT ON COLUMN @store@.checkpoint_weights.file_offset IS 'Where its data begin in that file''s data part.';

CREATE TABLE @store@.optimizer_state (
    checkpoint_id uuid NOT NULL REFERENCES @store@.model_checkpoints ON DELETE CASCADE,
    parameter_name text NOT NULL CHECK (parameter_name <> ''),
    state_name text NOT NULL CHECK (state_name <> '' AND strpos(state_name, '.') = 0),
    session_id uuid REFERENCES @store@.training_sessions ON DELETE SET NULL,
    tensor_id uuid NOT NULL REFERENCES @store@.tensor_metadata,
    file_name text,
    file_offset bigint,
    PRIMARY KEY (checkpoint_id, parameter_name, state_name),
    FOREIGN KEY (checkpoint_id, file_name) REFERENCES @store@.checkpoint_files DEFERRABLE INITIALLY DEFERRED,
    CHECK ((file_name IS NULL) = (file_offset IS NULL))
);
CREATE INDEX optimizer_state_file_name_idx ON @store@.optimizer_state (checkpoint_id, file_name) WHERE file_name IS NOT NULL;
CREATE INDEX optimizer_state_tensor_id_idx ON @store@.optimizer_state (tensor_id);
CREATE INDEX optimizer_state_session_id_idx ON @store@.optimizer_state (session_id);
COMMENT ON TABLE @store@.optimizer_state IS 'What the optimizer remembers of each parameter at a checkpoint.';
COMMENT ON COLUMN @store@.optimizer_state.checkpoint_id IS 'The checkpoint.';
COMMENT ON COLUMN @store@.optimizer_state.parameter_name IS 'The parameter.';
COMMENT ON COLUMN @store@.optimizer_state.state_name IS 'Which state: exp_avg and exp_avg_sq for Adam, momentum_buffer for SGD, step, or any other.';
COMMENT ON COLUMN @store@.optimizer_state.session_id IS 'The run that made the checkpoint, if any.';
COMMENT ON COLUMN @store@.optimizer_state.tensor_id IS 'The tensor that is its value.';
COMMENT ON COLUMN @store@.optimizer_state.file_name IS 'optimizer.safetensors where it came in one.';
COMMENT ON COLUMN @store@.optimizer_state.file_offset IS 'Where its data begin in that file''s data part.';

CREATE TABLE @store@.gradient_checkpoints (
    session_id uuid NOT NULL REFERENCES @store@.training_sessions ON DELETE CASCADE,
    layer_index integer NOT NULL CHECK (layer_index >= 0),
    policy text NOT NULL CHECK (policy IN ('store', 'recompute')),
    segment integer NOT NULL CHECK (segment >= 0),
    kept_bytes bigint NOT NULL CHECK (kept_bytes >= 0),
    recompute_flops double precision NOT NULL CHECK (recompute_flops >= 0),
    PRIMARY KEY (session_id, layer_index)
);
COMMENT ON TABLE @store@.gradient_checkpoints IS 'Which layers a run recomputes in the backward pass instead of keeping their activations.';
COMMENT ON COLUMN @store@.gradient_checkpoints.session_id IS 'The run.';
COMMENT ON COLUMN @store@.gradient_checkpoints.layer_index IS 'The layer.';
COMMENT ON COLUMN @store@.gradient_checkpoints.policy IS 'store: its activations are kept from the forward pass; recompute: only the input of its segment is.';
COMMENT ON COLUMN @store@.gradient_checkpoints.segment IS 'Layers of one segment are recomputed together, from its input.';
COMMENT ON COLUMN @store@.gradient_checkpoints.kept_bytes IS 'Bytes kept for it between the forward and the backward pass.';
COMMENT ON COLUMN @store@.gradient_checkpoints.recompute_flops IS 'Floating-point operations that recomputing it takes, once a step.';

CREATE VIEW @store@.v_training_progress AS
SELECT s.session_id,
       s.model_id,
       m.model_name,
       m.version,
       s.session_name,
       s.status,
       n.step,
       s.total_steps,
       n.step::double precision / s.total_steps AS progress,
       n.value AS newest_loss,
       b.value AS best_loss,
       b.step AS best_step,
       r.steps_per_second,
       -- Further off than a thousand years is not known.
       CASE WHEN s.status = 'running' AND r.steps_per_second * 3e10 > remaining.steps
            THEN make_interval(secs => remaining.steps / r.steps_per_second) END AS eta,
       c.checkpoint_id AS last_checkpoint_id,
       c.step AS last_checkpoint_step,
       s.started_at,
       s.ended_at
FROM @store@.training_sessions s
JOIN @store@.models m USING (model_id)
LEFT JOIN LATERAL (
    SELECT t.step, t.value, t.recorded_at
    FROM @store@.training_metrics t
    WHERE t.session_id = s.session_id AND t.metric_name = s.loss_metric
    ORDER BY t.step DESC, t.recorded_at DESC LIMIT 1
) n ON true
LEFT JOIN LATERAL (
    SELECT t.step, t.value
    FROM @store@.training_metrics t
    WHERE t.session_id = s.session_id AND t.metric_name = s.loss_metric AND t.value <> 'NaN'
    ORDER BY t.value, t.step LIMIT 1
) b ON true
LEFT JOIN LATERAL (
    -- Over the last hundred steps that recorded a loss: a run that was paused or resumed shows its speed now.
    SELECT (max(l.step)::numeric - min(l.step))::double precision / nullif(extract(epoch FROM max(l.recorded_at) - min(l.recorded_at)), 0)::double precision AS steps_per_second
    FROM (SELECT t.step, t.recorded_at
          FROM @store@.training_metrics t
          WHERE t.session_id = s.session_id AND t.metric_name = s.loss_metric
          ORDER BY t.step DESC, t.recorded_at DESC LIMIT 100) l
) r ON true
LEFT JOIN LATERAL (
    SELECT greatest(s.total_steps::numeric - n.step, 0)::double precision AS steps
) remaining ON true
LEFT JOIN LATERAL (
    SELECT k.checkpoint_id, k.step
    FROM @store@.model_checkpoints k
    WHERE k.session_id = s.session_id
    ORDER BY k.step DESC, k.epoch DESC NULLS LAST, k.sequence DESC LIMIT 1
) c ON true;
COMMENT ON VIEW @store@.v_training_progress IS 'One row a run: status, newest step, newest and best loss (by the run''s loss_metric; NaN is never best), steps a second over its last hundred, time left while it runs, last checkpoint.';
