-- Tensors: content-addressed chunks and tensors, and the weights that name them.
CREATE TABLE @store@.tensor_chunks (
    chunk_hash bytea PRIMARY KEY CHECK (octet_length(chunk_hash) = 32),
    chunk modelstore.tensor_chunk NOT NULL,
    raw_bytes integer NOT NULL CHECK (raw_bytes > 0),
    stored_bytes integer NOT NULL CHECK (stored_bytes > 0),
    base_hash bytea REFERENCES @store@.tensor_chunks,
    delta_depth smallint NOT NULL DEFAULT 0 CHECK (delta_depth BETWEEN 0 AND 4),
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((base_hash IS NULL) = (delta_depth = 0))
);
ALTER TABLE @store@.tensor_chunks ALTER COLUMN chunk SET STORAGE EXTERNAL;
CREATE INDEX tensor_chunks_base_hash_idx ON @store@.tensor_chunks (base_hash) WHERE base_hash IS NOT NULL;
COMMENT ON TABLE @store@.tensor_chunks IS 'Each distinct chunk of tensor data, stored once. Rows are inserted, and deleted by gc; a row is updated only when an import replaces a chunk that does not decode to its hash.';
COMMENT ON COLUMN @store@.tensor_chunks.chunk_hash IS 'BLAKE3-256 of the raw bytes.';
COMMENT ON COLUMN @store@.tensor_chunks.chunk IS 'The encoded bytes.';
COMMENT ON COLUMN @store@.tensor_chunks.raw_bytes IS 'Size before encoding.';
COMMENT ON COLUMN @store@.tensor_chunks.stored_bytes IS 'Size after encoding.';
COMMENT ON COLUMN @store@.tensor_chunks.base_hash IS 'Base chunk of a delta.';
COMMENT ON COLUMN @store@.tensor_chunks.delta_depth IS 'Number of deltas from this chunk to the root of its chain, at most 4; the actual number is lower if one of them has been replaced.';
COMMENT ON COLUMN @store@.tensor_chunks.created_at IS 'Time it was stored.';

CREATE TABLE @store@.tensor_metadata (
    tensor_id uuid PRIMARY KEY,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    dtype text NOT NULL,
    shape bigint[] NOT NULL CHECK (array_position(shape, NULL) IS NULL AND coalesce(array_lower(shape, 1), 1) = 1),
    element_count bigint NOT NULL CHECK (element_count >= 0),
    raw_bytes bigint NOT NULL CHECK (raw_bytes >= 0),
    chunk_count integer NOT NULL CHECK (chunk_count >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (content_hash, dtype, shape)
);
COMMENT ON TABLE @store@.tensor_metadata IS 'Each distinct tensor, stored once for all weights that have this value.';
COMMENT ON COLUMN @store@.tensor_metadata.tensor_id IS 'Key, a UUID of version 7.';
COMMENT ON COLUMN @store@.tensor_metadata.content_hash IS 'BLAKE3-256 of the raw little-endian bytes.';
COMMENT ON COLUMN @store@.tensor_metadata.dtype IS 'Element type, for example f32 or bf16.';
COMMENT ON COLUMN @store@.tensor_metadata.shape IS 'Dimensions, outermost first; empty for a scalar.';
COMMENT ON COLUMN @store@.tensor_metadata.element_count IS 'Product of the dimensions.';
COMMENT ON COLUMN @store@.tensor_metadata.raw_bytes IS 'Size of the elements in bytes.';
COMMENT ON COLUMN @store@.tensor_metadata.chunk_count IS 'Number of its rows in tensor_data.';
COMMENT ON COLUMN @store@.tensor_metadata.created_at IS 'Time it was stored.';

CREATE TABLE @store@.tensor_data (
    tensor_id uuid NOT NULL REFERENCES @store@.tensor_metadata ON DELETE CASCADE,
    chunk_index integer NOT NULL CHECK (chunk_index >= 0),
    chunk_hash bytea NOT NULL REFERENCES @store@.tensor_chunks,
    first_element bigint NOT NULL CHECK (first_element >= 0),
    element_count bigint NOT NULL CHECK (element_count > 0),
    value_min double precision,
    value_max double precision,
    value_mean double precision,
    value_std double precision,
    abs_max double precision,
    zero_count bigint,
    nan_count bigint,
    inf_count bigint,
    PRIMARY KEY (tensor_id, chunk_index)
);
CREATE INDEX tensor_data_chunk_hash_idx ON @store@.tensor_data (chunk_hash);
COMMENT ON TABLE @store@.tensor_data IS 'Chunks of each tensor in order, each with its zone map: statistics that are available without decoding.';
COMMENT ON COLUMN @store@.tensor_data.tensor_id IS 'The tensor.';
COMMENT ON COLUMN @store@.tensor_data.chunk_index IS 'Position of the chunk in the tensor, from 0.';
COMMENT ON COLUMN @store@.tensor_data.chunk_hash IS 'Chunk that contains the elements.';
COMMENT ON COLUMN @store@.tensor_data.first_element IS 'Row-major index of its first element.';
COMMENT ON COLUMN @store@.tensor_data.element_count IS 'Number of elements.';
COMMENT ON COLUMN @store@.tensor_data.value_min IS 'Smallest element that is not NaN; NULL for a dtype without arithmetic.';
COMMENT ON COLUMN @store@.tensor_data.value_max IS 'Largest element that is not NaN.';
COMMENT ON COLUMN @store@.tensor_data.value_mean IS 'Mean of the elements that are not NaN; NULL if there are none.';
COMMENT ON COLUMN @store@.tensor_data.value_std IS 'Population standard deviation of these elements; NaN if one is infinite.';
COMMENT ON COLUMN @store@.tensor_data.abs_max IS 'Largest magnitude.';
COMMENT ON COLUMN @store@.tensor_data.zero_count IS 'Number of elements equal to zero.';
COMMENT ON COLUMN @store@.tensor_data.nan_count IS 'Number of NaN elements.';
COMMENT ON COLUMN @store@.tensor_data.inf_count IS 'Number of infinite elements.';

-- No index: a store has few files beside weights.
ALTER TABLE @store@.model_files ADD FOREIGN KEY (tensor_id) REFERENCES @store@.tensor_metadata;

CREATE TABLE @store@.model_weights (
    model_id uuid NOT NULL REFERENCES @store@.models ON DELETE CASCADE,
    weight_name text NOT NULL CHECK (weight_name <> ''),
    tensor_id uuid NOT NULL REFERENCES @store@.tensor_metadata,
    layer_index integer,
    component text,
    trainable boolean NOT NULL DEFAULT true,
    tied_to text,
    gradient_tensor_id uuid REFERENCES @store@.tensor_metadata,
    file_name text,
    file_offset bigint,
    PRIMARY KEY (model_id, weight_name),
    FOREIGN KEY (model_id, layer_index) REFERENCES @store@.transformer_layers,
    FOREIGN KEY (model_id, file_name) REFERENCES @store@.model_files,
    FOREIGN KEY (model_id, tied_to) REFERENCES @store@.model_weights (model_id, weight_name) DEFERRABLE INITIALLY DEFERRED,
    CHECK ((file_name IS NULL) = (file_offset IS NULL))
);
CREATE INDEX model_weights_tensor_id_idx ON @store@.model_weights (tensor_id);
-- One for each foreign key: without them, deleting a model looks at all its weights once a weight.
CREATE INDEX model_weights_layer_index_idx ON @store@.model_weights (model_id, layer_index) WHERE layer_index IS NOT NULL;
CREATE INDEX model_weights_file_name_idx ON @store@.model_weights (model_id, file_name) WHERE file_name IS NOT NULL;
CREATE INDEX model_weights_tied_to_idx ON @store@.model_weights (model_id, tied_to) WHERE tied_to IS NOT NULL;
CREATE INDEX model_weights_gradient_tensor_id_idx ON @store@.model_weights (gradient_tensor_id) WHERE gradient_tensor_id IS NOT NULL;
COMMENT ON TABLE @store@.model_weights IS 'Weights of each model by name.';
COMMENT ON COLUMN @store@.model_weights.model_id IS 'The model.';
COMMENT ON COLUMN @store@.model_weights.weight_name IS 'Name in the file.';
COMMENT ON COLUMN @store@.model_weights.tensor_id IS 'Tensor with its value.';
COMMENT ON COLUMN @store@.model_weights.layer_index IS 'Layer it belongs to, if any.';
COMMENT ON COLUMN @store@.model_weights.component IS 'Role in the architecture, for example attention.query or norm.';
COMMENT ON COLUMN @store@.model_weights.trainable IS 'Whether training changes it; integers, buffers such as running statistics and masks, and frozen weights are not trainable.';
COMMENT ON COLUMN @store@.model_weights.tied_to IS 'Weight that it is tied to: an earlier weight with the same tensor, counted as one parameter with it. Constant weights are not tied.';
COMMENT ON COLUMN @store@.model_weights.gradient_tensor_id IS 'Its gradient, if stored.';
COMMENT ON COLUMN @store@.model_weights.file_name IS 'File it was imported from.';
COMMENT ON COLUMN @store@.model_weights.file_offset IS 'Offset of its data in the data section of that file.';

-- A model has three at most: the primary key, which begins with the model, serves the foreign key to its weights.
CREATE TABLE @store@.embeddings (
    model_id uuid NOT NULL REFERENCES @store@.models ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('token', 'position', 'segment')),
    weight_name text NOT NULL,
    row_count bigint NOT NULL,
    dim bigint NOT NULL,
    PRIMARY KEY (model_id, kind),
    FOREIGN KEY (model_id, weight_name) REFERENCES @store@.model_weights ON DELETE CASCADE
);
COMMENT ON TABLE @store@.embeddings IS 'Weights that are the token, position and segment embeddings of a model.';
COMMENT ON COLUMN @store@.embeddings.model_id IS 'The model.';
COMMENT ON COLUMN @store@.embeddings.kind IS 'token, position or segment.';
COMMENT ON COLUMN @store@.embeddings.weight_name IS 'The weight.';
COMMENT ON COLUMN @store@.embeddings.row_count IS 'Number of rows, one per ID.';
COMMENT ON COLUMN @store@.embeddings.dim IS 'Width of a row.';

CREATE TABLE @store@.uploads (
    upload_id uuid PRIMARY KEY,
    expected_bytes bigint CHECK (expected_bytes >= 0),
    file_bytes bigint CHECK (file_bytes >= 0),
    received_bytes bigint NOT NULL DEFAULT 0 CHECK (received_bytes >= 0),
    wanted_bytes bigint DEFAULT 9 CHECK (wanted_bytes > 0),
    header bytea,
    hash_state bytea,
    chunk_bytes integer NOT NULL CHECK (chunk_bytes > 0),
    parent_model_id uuid,
    parent_checkpoint_id uuid,
    new_chunks bigint NOT NULL DEFAULT 0,
    new_bytes bigint NOT NULL DEFAULT 0,
    new_raw_bytes bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by name NOT NULL DEFAULT current_user,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE @store@.uploads ALTER COLUMN header SET STORAGE EXTERNAL;
COMMENT ON TABLE @store@.uploads IS 'Unfinished uploads.';
COMMENT ON COLUMN @store@.uploads.upload_id IS 'Key, a UUID of version 7.';
COMMENT ON COLUMN @store@.uploads.expected_bytes IS 'Size of the file that begin_upload was given, if any.';
COMMENT ON COLUMN @store@.uploads.file_bytes IS 'Size of the file that its header describes, once the header is complete.';
COMMENT ON COLUMN @store@.uploads.received_bytes IS 'Bytes received: the offset to resume at.';
COMMENT ON COLUMN @store@.uploads.wanted_bytes IS 'Bytes received at which the header or the next chunk is complete; NULL for a file that is not safetensors.';
COMMENT ON COLUMN @store@.uploads.header IS 'Length and JSON of the header, once it is complete.';
COMMENT ON COLUMN @store@.uploads.hash_state IS 'State of the hashes of the file and of the tensor that is arriving.';
COMMENT ON COLUMN @store@.uploads.chunk_bytes IS 'Size of chunks, from modelstore.chunk_size at the start.';
COMMENT ON COLUMN @store@.uploads.parent_model_id IS 'Model whose tensors of the same names the new ones are stored as differences to.';
COMMENT ON COLUMN @store@.uploads.parent_checkpoint_id IS 'Checkpoint whose tensors of the same names the new ones are stored as differences to.';
COMMENT ON COLUMN @store@.uploads.new_chunks IS 'Chunks that the store did not have.';
COMMENT ON COLUMN @store@.uploads.new_bytes IS 'Encoded bytes of those.';
COMMENT ON COLUMN @store@.uploads.new_raw_bytes IS 'Raw bytes of those.';
COMMENT ON COLUMN @store@.uploads.created_at IS 'Time it was started.';
COMMENT ON COLUMN @store@.uploads.created_by IS 'Role that started it.';
COMMENT ON COLUMN @store@.uploads.updated_at IS 'Time of the last append.';

CREATE TABLE @store@.upload_parts (
    upload_id uuid NOT NULL REFERENCES @store@.uploads ON DELETE CASCADE,
    part_offset bigint NOT NULL CHECK (part_offset >= 0),
    data bytea CHECK (octet_length(data) > 0),
    chunk_hash bytea REFERENCES @store@.tensor_chunks,
    content_hash bytea CHECK (octet_length(content_hash) = 32),
    value_min double precision,
    value_max double precision,
    value_mean double precision,
    value_std double precision,
    abs_max double precision,
    zero_count bigint,
    nan_count bigint,
    inf_count bigint,
    PRIMARY KEY (upload_id, part_offset),
    CHECK ((data IS NULL) <> (chunk_hash IS NULL))
);
ALTER TABLE @store@.upload_parts ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX upload_parts_chunk_hash_idx ON @store@.upload_parts (chunk_hash) WHERE chunk_hash IS NOT NULL;
COMMENT ON TABLE @store@.upload_parts IS 'Parts of unfinished uploads: stored chunks, and bytes that wait for the rest of theirs.';
COMMENT ON COLUMN @store@.upload_parts.upload_id IS 'The upload.';
COMMENT ON COLUMN @store@.upload_parts.part_offset IS 'Offset of the part in the file.';
COMMENT ON COLUMN @store@.upload_parts.data IS 'Bytes that wait, as received: of a header or a chunk that is not complete, or of a file that is not safetensors.';
COMMENT ON COLUMN @store@.upload_parts.chunk_hash IS 'The chunk that holds the part.';
COMMENT ON COLUMN @store@.upload_parts.content_hash IS 'BLAKE3-256 of the raw bytes of the tensor, in the last of several chunks.';
COMMENT ON COLUMN @store@.upload_parts.value_min IS 'Smallest number of the chunk, as in tensor_data.';
COMMENT ON COLUMN @store@.upload_parts.value_max IS 'Largest number.';
COMMENT ON COLUMN @store@.upload_parts.value_mean IS 'Mean of the numbers.';
COMMENT ON COLUMN @store@.upload_parts.value_std IS 'Their standard deviation, as a population.';
COMMENT ON COLUMN @store@.upload_parts.abs_max IS 'Largest absolute value.';
COMMENT ON COLUMN @store@.upload_parts.zero_count IS 'Number of zeros.';
COMMENT ON COLUMN @store@.upload_parts.nan_count IS 'Number of NaNs.';
COMMENT ON COLUMN @store@.upload_parts.inf_count IS 'Number of infinities.';

CREATE VIEW @store@.v_uploads AS
SELECT u.upload_id,
       u.created_by,
       u.received_bytes,
       coalesce(u.file_bytes, u.expected_bytes) AS file_bytes,
       u.received_bytes / nullif(extract(epoch FROM u.updated_at - u.created_at)::double precision, 0) AS bytes_per_second,
       u.created_at,
       u.updated_at,
       clock_timestamp() - u.updated_at AS age
FROM @store@.uploads u;
COMMENT ON VIEW @store@.v_uploads IS 'Unfinished uploads: how far they are, and how long they have been without a part. gc(abandoned_after => interval) deletes those that were abandoned.';
COMMENT ON COLUMN @store@.v_uploads.upload_id IS 'The upload.';
COMMENT ON COLUMN @store@.v_uploads.created_by IS 'Role that started it.';
COMMENT ON COLUMN @store@.v_uploads.received_bytes IS 'Bytes received: the offset to resume at.';
COMMENT ON COLUMN @store@.v_uploads.file_bytes IS 'Size of the file, from its header or from begin_upload; NULL if neither says.';
COMMENT ON COLUMN @store@.v_uploads.bytes_per_second IS 'Mean rate from the start to the last append.';
COMMENT ON COLUMN @store@.v_uploads.created_at IS 'Time it was started.';
COMMENT ON COLUMN @store@.v_uploads.updated_at IS 'Time of the last append.';
COMMENT ON COLUMN @store@.v_uploads.age IS 'Time since the last append.';

-- Views over models and tensors.
CREATE VIEW @store@.v_weight_statistics AS
SELECT w.model_id,
       w.weight_name,
       t.tensor_id,
       t.dtype,
       t.shape,
       t.element_count,
       s.value_min AS min,
       s.value_max AS max,
       modelstore.zone_mean(s.counts, s.means) AS mean,
       modelstore.zone_std(s.counts, s.means, s.stds) AS std,
       modelstore.zone_l2(s.counts, s.means, s.stds) AS l2,
       s.abs_max AS absmax,
       s.zeros,
       s.nans,
       s.infs
FROM @store@.model_weights w
JOIN @store@.tensor_metadata t USING (tensor_id)
LEFT JOIN LATERAL (
    SELECT min(d.value_min) AS value_min,
           max(d.value_max) AS value_max,
           array_agg(d.element_count - d.nan_count ORDER BY d.chunk_index) AS counts,
           array_agg(d.value_mean ORDER BY d.chunk_index) AS means,
           array_agg(d.value_std ORDER BY d.chunk_index) AS stds,
           max(d.abs_max) AS abs_max,
           sum(d.zero_count)::bigint AS zeros,
           sum(d.nan_count)::bigint AS nans,
           sum(d.inf_count)::bigint AS infs
    FROM @store@.tensor_data d
    WHERE d.tensor_id = t.tensor_id
) s ON true;
COMMENT ON VIEW @store@.v_weight_statistics IS 'Statistics of each weight, computed from the zone maps without decoding. mean, std and l2 ignore NaN; std is the population standard deviation.';

CREATE VIEW @store@.v_model_architecture AS
SELECT m.model_id,
       m.model_name,
       m.version,
       m.architecture,
       (SELECT count(*) FROM @store@.transformer_layers l WHERE l.model_id = m.model_id AND l.layer_type <> 'mtp') AS layers,
       m.attention_heads,
       m.kv_heads,
       m.hidden_size,
       m.vocab_size,
       w.weights,
       w.parameters,
       w.trainable_parameters,
       w.raw_bytes,
       -- One row by its key at a time: without statistics the planner would read whole tables for each model.
       (SELECT coalesce(sum(c.stored_bytes), 0)::bigint
        FROM (WITH RECURSIVE used AS (
                  SELECT d.chunk_hash
                  FROM @store@.model_weights mw
                  CROSS JOIN LATERAL (
                      SELECT d.chunk_hash FROM @store@.tensor_data d WHERE d.tensor_id = mw.tensor_id OFFSET 0) d
                  WHERE mw.model_id = m.model_id
                  UNION
                  SELECT b.base_hash
                  FROM used u
                  CROSS JOIN LATERAL (
                      SELECT b.base_hash FROM @store@.tensor_chunks b WHERE b.chunk_hash = u.chunk_hash OFFSET 0) b
                  WHERE b.base_hash IS NOT NULL)
              SELECT chunk_hash FROM used) u
        CROSS JOIN LATERAL (
            SELECT c.stored_bytes FROM @store@.tensor_chunks c WHERE c.chunk_hash = u.chunk_hash OFFSET 0) c) AS stored_bytes,
       f.files,
       f.file_bytes,
       m.status,
       m.created_at
FROM @store@.models m
CROSS JOIN LATERAL (
    SELECT count(*) AS weights,
           coalesce(sum(t.element_count) FILTER (WHERE mw.tied_to IS NULL), 0)::bigint AS parameters,
           coalesce(sum(t.element_count) FILTER (WHERE mw.tied_to IS NULL AND mw.trainable), 0)::bigint AS trainable_parameters,
           coalesce(sum(t.raw_bytes) FILTER (WHERE mw.tied_to IS NULL), 0)::bigint AS raw_bytes
    FROM @store@.model_weights mw
    JOIN @store@.tensor_metadata t USING (tensor_id)
    WHERE mw.model_id = m.model_id
) w
CROSS JOIN LATERAL (
    SELECT count(*) AS files,
           coalesce(sum(mf.file_bytes), 0)::bigint AS file_bytes
    FROM @store@.model_files mf
    WHERE mf.model_id = m.model_id
) f;
COMMENT ON VIEW @store@.v_model_architecture IS 'One row per model: layers, heads per layer, sizes, parameters, raw and stored bytes of its weights, number and bytes of its files. Tied weights count once, as in calculate_model_parameters(); layers of type mtp do not count. Chunks shared by several models, and bases of deltas, count for each model.';
