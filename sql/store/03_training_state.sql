-- Training: runs, their metrics, and the checkpoints they leave.
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
    resumed_from_checkpoint_id uuid,
    UNIQUE (model_id, session_name),
    -- What checkpoints refer to, so that a checkpoint's run is one of its model.
    UNIQUE (session_id, model_id)
);
COMMENT ON TABLE @store@.training_sessions IS 'Training runs of a model.';
COMMENT ON COLUMN @store@.training_sessions.session_id IS 'Key, a UUID of version 7.';
COMMENT ON COLUMN @store@.training_sessions.model_id IS 'The model that is trained.';
COMMENT ON COLUMN @store@.training_sessions.session_name IS 'Name given by its users, unique among the runs of a model.';
COMMENT ON COLUMN @store@.training_sessions.status IS 'pending, running, completed, failed or cancelled.';
COMMENT ON COLUMN @store@.training_sessions.config IS 'Hyperparameters and anything else that describes the run.';
COMMENT ON COLUMN @store@.training_sessions.total_steps IS 'Planned number of steps, used for progress and the time left.';
COMMENT ON COLUMN @store@.training_sessions.loss_metric IS 'Name of the metric that v_training_progress shows as loss; smaller is better.';
COMMENT ON COLUMN @store@.training_sessions.host IS 'Machine it runs on; the client''s address by default.';
COMMENT ON COLUMN @store@.training_sessions.error IS 'Reason for a failure.';
COMMENT ON COLUMN @store@.training_sessions.created_at IS 'Time of creation.';
COMMENT ON COLUMN @store@.training_sessions.created_by IS 'Role that created it.';
COMMENT ON COLUMN @store@.training_sessions.started_at IS 'Time it started.';
COMMENT ON COLUMN @store@.training_sessions.ended_at IS 'Time it ended.';
COMMENT ON COLUMN @store@.training_sessions.resumed_from_checkpoint_id IS 'Checkpoint, of any run, that the run continues: the parent of its first checkpoint.';

CREATE TABLE @store@.training_metrics (
    session_id uuid NOT NULL REFERENCES @store@.training_sessions ON DELETE CASCADE,
    step bigint NOT NULL,
    epoch double precision,
    metric_name text NOT NULL CHECK (metric_name <> ''),
    value double precision NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    may_be_lowest boolean NOT NULL DEFAULT true
);
-- The lowest value is found among a few rows: an index on all values would halve the speed of logging.
CREATE INDEX training_metrics_lowest_idx ON @store@.training_metrics (session_id, metric_name, value, step) WHERE may_be_lowest;
-- By time, which tells the newest record and, of a step recorded twice, the one that counts.
CREATE INDEX training_metrics_idx ON @store@.training_metrics (session_id, metric_name, recorded_at);
-- It has no key: a subscriber finds a row that is deleted by all its columns, from PostgreSQL 16 on through the index.
ALTER TABLE @store@.training_metrics REPLICA IDENTITY FULL;
COMMENT ON TABLE @store@.training_metrics IS 'Metrics recorded by runs, by step. Rows are only added: recording a step again adds a row, and the later row counts.';
COMMENT ON COLUMN @store@.training_metrics.session_id IS 'The run.';
COMMENT ON COLUMN @store@.training_metrics.step IS 'The optimizer step.';
COMMENT ON COLUMN @store@.training_metrics.epoch IS 'Epoch, if given; 0.5 is halfway through the first.';
COMMENT ON COLUMN @store@.training_metrics.metric_name IS 'Name of the metric, for example loss or lr.';
COMMENT ON COLUMN @store@.training_metrics.value IS 'Value of the metric; NaN and infinities are kept.';
COMMENT ON COLUMN @store@.training_metrics.recorded_at IS 'Time of recording; if a step is recorded more than once, the latest record counts.';
COMMENT ON COLUMN @store@.training_metrics.may_be_lowest IS 'False if the metric had a value as low before; log_metric and log_metrics set it. Who deletes records by hand sets it true for the others.';

CREATE TABLE @store@.model_checkpoints (
    checkpoint_id uuid PRIMARY KEY,
    model_id uuid NOT NULL REFERENCES @store@.models ON DELETE CASCADE,
    session_id uuid,
    step bigint NOT NULL CHECK (step >= 0),
    epoch double precision CHECK (epoch >= 0 AND epoch < 'Infinity'),
    sequence bigint NOT NULL CHECK (sequence > 0),
    parent_checkpoint_id uuid REFERENCES @store@.model_checkpoints ON DELETE SET NULL,
    metrics jsonb CHECK (jsonb_typeof(metrics) = 'object'),
    rng_state bytea,
    param_groups jsonb,
    metadata jsonb,
    content_hash bytea CHECK (octet_length(content_hash) = 32),
    pinned boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by name NOT NULL DEFAULT current_user,
    UNIQUE (model_id, sequence),
    FOREIGN KEY (session_id, model_id) REFERENCES @store@.training_sessions (session_id, model_id) ON DELETE SET NULL (session_id)
);
CREATE INDEX model_checkpoints_session_id_idx ON @store@.model_checkpoints (session_id, model_id);
CREATE INDEX model_checkpoints_parent_checkpoint_id_idx ON @store@.model_checkpoints (parent_checkpoint_id);
-- Runs and models are few: deleting a checkpoint reads them all, and these foreign keys need no indexes.
ALTER TABLE @store@.training_sessions ADD FOREIGN KEY (resumed_from_checkpoint_id) REFERENCES @store@.model_checkpoints ON DELETE SET NULL;
ALTER TABLE @store@.models ADD FOREIGN KEY (restored_checkpoint_id) REFERENCES @store@.model_checkpoints ON DELETE SET NULL;
COMMENT ON TABLE @store@.model_checkpoints IS 'Checkpoints: states of a model during training (weights, optimizer state, random number generators).';
COMMENT ON COLUMN @store@.model_checkpoints.checkpoint_id IS 'Key, a UUID of version 7.';
COMMENT ON COLUMN @store@.model_checkpoints.model_id IS 'The model.';
COMMENT ON COLUMN @store@.model_checkpoints.session_id IS 'Run that created it, if any.';
COMMENT ON COLUMN @store@.model_checkpoints.step IS 'Optimizer step after which it was created.';
COMMENT ON COLUMN @store@.model_checkpoints.epoch IS 'The epoch, if known.';
COMMENT ON COLUMN @store@.model_checkpoints.sequence IS 'Number of the checkpoint among those of its model, in creation order; orders checkpoints with equal step and epoch, whatever their timestamps.';
COMMENT ON COLUMN @store@.model_checkpoints.parent_checkpoint_id IS 'Checkpoint that it continues: the previous one of its run or, for the first, the one the run was resumed from or the model was restored from. Its tensors may be stored as deltas against it.';
COMMENT ON COLUMN @store@.model_checkpoints.metrics IS 'Metrics at this step, for example {"loss": 0.7}.';
COMMENT ON COLUMN @store@.model_checkpoints.rng_state IS 'State of the random number generators, in the client''s format.';
COMMENT ON COLUMN @store@.model_checkpoints.param_groups IS 'The optimizer''s parameter groups: learning rate, betas, and so on.';
COMMENT ON COLUMN @store@.model_checkpoints.metadata IS 'Other data of the user''s choice.';
COMMENT ON COLUMN @store@.model_checkpoints.content_hash IS 'BLAKE3-256 over names, dtypes, shapes and content of the weights, as in models.';
COMMENT ON COLUMN @store@.model_checkpoints.pinned IS 'Whether prune_checkpoints always keeps it.';
COMMENT ON COLUMN @store@.model_checkpoints.created_at IS 'Time of creation.';
COMMENT ON COLUMN @store@.model_checkpoints.created_by IS 'Role that created it.';

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
COMMENT ON TABLE @store@.checkpoint_files IS 'Files of a checkpoint, like model_files for a model: model.safetensors and, with optimizer state, optimizer.safetensors.';
COMMENT ON COLUMN @store@.checkpoint_files.checkpoint_id IS 'The checkpoint.';
COMMENT ON COLUMN @store@.checkpoint_files.file_name IS 'model.safetensors or optimizer.safetensors.';
COMMENT ON COLUMN @store@.checkpoint_files.format IS 'safetensors.';
COMMENT ON COLUMN @store@.checkpoint_files.header IS 'Bytes before the tensor data, unchanged.';
COMMENT ON COLUMN @store@.checkpoint_files.file_bytes IS 'Size of the file in bytes.';
COMMENT ON COLUMN @store@.checkpoint_files.sha256 IS 'SHA-256 of the file.';
COMMENT ON COLUMN @store@.checkpoint_files.blake3 IS 'BLAKE3-256 of the file.';
COMMENT ON COLUMN @store@.checkpoint_files.manifest_hash IS 'BLAKE3-256 of the header and the hashes of the file''s chunks in order.';
COMMENT ON COLUMN @store@.checkpoint_files.imported_at IS 'Time it was stored.';

-- A checkpoint has two files at most: the primary key, which begins with the checkpoint, serves the foreign key to them.
CREATE TABLE @store@.checkpoint_weights (
    checkpoint_id uuid NOT NULL REFERENCES @store@.model_checkpoints ON DELETE CASCADE,
    weight_name text NOT NULL CHECK (weight_name <> ''),
    tensor_id uuid NOT NULL REFERENCES @store@.tensor_metadata,
    file_name text NOT NULL,
    file_offset bigint NOT NULL,
    PRIMARY KEY (checkpoint_id, weight_name),
    FOREIGN KEY (checkpoint_id, file_name) REFERENCES @store@.checkpoint_files DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX checkpoint_weights_tensor_id_idx ON @store@.checkpoint_weights (tensor_id);
COMMENT ON TABLE @store@.checkpoint_weights IS 'Weights of each checkpoint by name. An unchanged weight has the same tensor as in the previous checkpoint.';
COMMENT ON COLUMN @store@.checkpoint_weights.checkpoint_id IS 'The checkpoint.';
COMMENT ON COLUMN @store@.checkpoint_weights.weight_name IS 'Name, as in the model.';
COMMENT ON COLUMN @store@.checkpoint_weights.tensor_id IS 'Tensor with its value.';
COMMENT ON COLUMN @store@.checkpoint_weights.file_name IS 'File that contains it.';
COMMENT ON COLUMN @store@.checkpoint_weights.file_offset IS 'Offset of its data in the data section of that file.';

CREATE TABLE @store@.optimizer_state (
    checkpoint_id uuid NOT NULL REFERENCES @store@.model_checkpoints ON DELETE CASCADE,
    parameter_name text NOT NULL CHECK (parameter_name <> ''),
    state_name text NOT NULL CHECK (state_name <> '' AND strpos(state_name, '.') = 0),
    tensor_id uuid NOT NULL REFERENCES @store@.tensor_metadata,
    file_name text,
    file_offset bigint,
    PRIMARY KEY (checkpoint_id, parameter_name, state_name),
    FOREIGN KEY (checkpoint_id, file_name) REFERENCES @store@.checkpoint_files DEFERRABLE INITIALLY DEFERRED,
    CHECK ((file_name IS NULL) = (file_offset IS NULL))
);
CREATE INDEX optimizer_state_tensor_id_idx ON @store@.optimizer_state (tensor_id);
COMMENT ON TABLE @store@.optimizer_state IS 'Optimizer state of each parameter at a checkpoint.';
COMMENT ON COLUMN @store@.optimizer_state.checkpoint_id IS 'The checkpoint.';
COMMENT ON COLUMN @store@.optimizer_state.parameter_name IS 'The parameter.';
COMMENT ON COLUMN @store@.optimizer_state.state_name IS 'Name of the state: exp_avg and exp_avg_sq for Adam, momentum_buffer for SGD, step, or any other.';
COMMENT ON COLUMN @store@.optimizer_state.tensor_id IS 'Tensor with its value.';
COMMENT ON COLUMN @store@.optimizer_state.file_name IS 'optimizer.safetensors if it was stored from a file.';
COMMENT ON COLUMN @store@.optimizer_state.file_offset IS 'Offset of its data in the data section of that file.';

CREATE TABLE @store@.gradient_checkpoints (
    session_id uuid NOT NULL REFERENCES @store@.training_sessions ON DELETE CASCADE,
    layer_index integer NOT NULL CHECK (layer_index >= 0),
    policy text NOT NULL CHECK (policy IN ('store', 'recompute')),
    segment integer NOT NULL CHECK (segment >= 0),
    kept_bytes bigint NOT NULL CHECK (kept_bytes >= 0),
    recompute_flops double precision NOT NULL CHECK (recompute_flops >= 0),
    PRIMARY KEY (session_id, layer_index)
);
COMMENT ON TABLE @store@.gradient_checkpoints IS 'Plan of a run: which layers recompute their activations in the backward pass instead of keeping them.';
COMMENT ON COLUMN @store@.gradient_checkpoints.session_id IS 'The run.';
COMMENT ON COLUMN @store@.gradient_checkpoints.layer_index IS 'The layer.';
COMMENT ON COLUMN @store@.gradient_checkpoints.policy IS 'store: its activations are kept from the forward pass; recompute: only the input of its segment is kept.';
COMMENT ON COLUMN @store@.gradient_checkpoints.segment IS 'Layers of one segment are recomputed together, from its input.';
COMMENT ON COLUMN @store@.gradient_checkpoints.kept_bytes IS 'Bytes kept for it between the forward and the backward pass.';
COMMENT ON COLUMN @store@.gradient_checkpoints.recompute_flops IS 'Floating-point operations per step for recomputing it.';

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
       s.ended_at,
       greatest(s.started_at, h.recorded_at, k.created_at) AS last_seen
FROM @store@.training_sessions s
JOIN @store@.models m USING (model_id)
-- Of all records the one made last, whatever its step: a run may have been resumed from a lower one.
LEFT JOIN LATERAL (
    SELECT t.step, t.value
    FROM @store@.training_metrics t
    WHERE t.session_id = s.session_id AND t.metric_name = s.loss_metric
    ORDER BY t.recorded_at DESC, t.step DESC, t.value DESC LIMIT 1
) n ON true
-- Of a step recorded more than once the later record counts; of records of one microsecond the larger value. All
-- records are looked at only if the step of the smallest was recorded again, or none is marked.
LEFT JOIN LATERAL (
    SELECT t.step, t.value, t.recorded_at
    FROM @store@.training_metrics t
    WHERE t.session_id = s.session_id AND t.metric_name = s.loss_metric AND t.may_be_lowest AND t.value <> 'NaN'
    ORDER BY t.value, t.step LIMIT 1
) lowest ON true
LEFT JOIN LATERAL (
    SELECT lowest.step IS NULL OR EXISTS (
        SELECT FROM @store@.training_metrics t
        WHERE t.session_id = s.session_id AND t.metric_name = s.loss_metric AND t.recorded_at >= lowest.recorded_at
              AND t.step = lowest.step AND (t.recorded_at > lowest.recorded_at OR t.value > lowest.value)) AS yes
) recorded_again ON true
LEFT JOIN LATERAL (
    SELECT lowest.step, lowest.value
    WHERE NOT recorded_again.yes
    UNION ALL
    (SELECT l.step, l.value
     FROM (SELECT DISTINCT ON (t.step) t.step, t.value
           FROM @store@.training_metrics t
           WHERE recorded_again.yes AND t.session_id = s.session_id AND t.metric_name = s.loss_metric
           ORDER BY t.step, t.recorded_at DESC, t.value DESC) l
     WHERE l.value <> 'NaN'
     ORDER BY l.value, l.step LIMIT 1)
) b ON true
-- A report is what was recorded with gaps of at most ten milliseconds: many steps may be logged at once. The median over
-- reports leaves out pauses; one that goes back to a lower step says nothing of speed. Without two reports the mean of
-- what there is, unless it is too short to tell. A limit that the planner does not know makes it read the index from its end,
-- also while it believes that a run has few records.
LEFT JOIN LATERAL (
    SELECT 1 / coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY p.seconds / p.steps) FILTER (WHERE p.steps > 0 AND p.seconds > 0),
                        CASE WHEN max(p.total_seconds) > 1 AND max(p.total_steps) > 0 THEN max(p.total_seconds / nullif(p.total_steps, 0)) END) AS steps_per_second
    FROM (SELECT (g.step::numeric - lag(g.step) OVER reports)::double precision AS steps,
                 (extract(epoch FROM g.recorded_at) - extract(epoch FROM lag(g.recorded_at) OVER reports))::double precision AS seconds,
                 g.total_steps,
                 g.total_seconds
          FROM (SELECT t.step,
                       t.recorded_at,
                       coalesce(extract(epoch FROM lead(t.recorded_at) OVER records) - extract(epoch FROM t.recorded_at) > 0.01, true) AS is_end,
                       ((max(t.step) OVER whole)::numeric - min(t.step) OVER whole)::double precision AS total_steps,
                       (extract(epoch FROM max(t.recorded_at) OVER whole) - extract(epoch FROM min(t.recorded_at) OVER whole))::double precision AS total_seconds
                FROM (SELECT t.step, t.recorded_at
                      FROM @store@.training_metrics t
                      WHERE t.session_id = s.session_id AND t.metric_name = s.loss_metric
                      ORDER BY t.recorded_at DESC, t.step DESC LIMIT (SELECT 1000)) t
                WINDOW records AS (ORDER BY t.recorded_at, t.step), whole AS ()) g
          WHERE g.is_end
          WINDOW reports AS (ORDER BY g.recorded_at, g.step)) p
) r ON true
LEFT JOIN LATERAL (
    SELECT greatest(s.total_steps::numeric - n.step, 0)::double precision AS steps
) remaining ON true
LEFT JOIN LATERAL (
    SELECT k.checkpoint_id, k.step
    FROM @store@.model_checkpoints k
    WHERE k.session_id = s.session_id
    ORDER BY k.step DESC, k.epoch DESC NULLS LAST, k.sequence DESC LIMIT 1
) c ON true
LEFT JOIN LATERAL (
    SELECT max(k.created_at) AS created_at
    FROM @store@.model_checkpoints k
    WHERE k.session_id = s.session_id
) k ON true
-- The newest record of each metric, one step in the index a metric.
LEFT JOIN LATERAL (
    WITH RECURSIVE names AS (
        SELECT min(t.metric_name) AS metric_name
        FROM @store@.training_metrics t
        WHERE t.session_id = s.session_id
        UNION ALL
        SELECT (SELECT min(t.metric_name)
                FROM @store@.training_metrics t
                WHERE t.session_id = s.session_id AND t.metric_name > names.metric_name)
        FROM names
        WHERE names.metric_name IS NOT NULL)
    SELECT max((SELECT max(t.recorded_at)
                FROM @store@.training_metrics t
                WHERE t.session_id = s.session_id AND t.metric_name = names.metric_name)) AS recorded_at
    FROM names
) h ON true;
COMMENT ON VIEW @store@.v_training_progress IS 'One row per run: status, step of the newest record, newest and best loss (by the run''s loss_metric; if a step is recorded twice, the later record counts; NaN is never best), steps per second, time left while it runs, last checkpoint, and last_seen: the time of its newest metric or checkpoint, else of its start. A run with status running that was last seen long ago has probably died: end it with finish_training, or continue it. Steps per second is the median over the last 1000 records of the loss in the order they were recorded, where records within 10 ms of each other count as one; pauses and returns to lower steps do not change it.';
