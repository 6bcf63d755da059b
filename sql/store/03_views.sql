-- Views over modules 1 and 2.
CREATE VIEW @store@.v_weight_statistics AS
SELECT w.model_id,
       w.weight_name,
       t.tensor_id,
       t.dtype,
       t.shape,
       t.element_count,
       s.value_min AS min,
       s.value_max AS max,
       modelstore.zone_mean(s.value_sum, s.counted) AS mean,
       modelstore.zone_std(s.value_sum, s.value_sum_squares, s.counted) AS std,
       sqrt(s.value_sum_squares) AS l2,
       s.abs_max AS absmax,
       s.zeros,
       s.nans,
       s.infs
FROM @store@.model_weights w
JOIN @store@.tensor_metadata t USING (tensor_id)
LEFT JOIN LATERAL (
    SELECT min(d.value_min) AS value_min,
           max(d.value_max) AS value_max,
           modelstore.zone_sum(array_agg(d.value_sum ORDER BY d.chunk_index)) AS value_sum,
           modelstore.zone_sum(array_agg(d.value_sum_squares ORDER BY d.chunk_index)) AS value_sum_squares,
           max(d.abs_max) AS abs_max,
           sum(d.zero_count)::bigint AS zeros,
           sum(d.nan_count)::bigint AS nans,
           sum(d.inf_count)::bigint AS infs,
           sum(d.element_count - d.nan_count)::bigint AS counted
    FROM @store@.tensor_data d
    WHERE d.tensor_id = t.tensor_id
) s ON true;
COMMENT ON VIEW @store@.v_weight_statistics IS 'Figures of each weight, from the zone maps: nothing is decoded. Mean and std leave NaN out; std is that of the population.';

CREATE VIEW @store@.v_model_architecture AS
SELECT m.model_id,
       m.model_name,
       m.version,
       m.architecture,
       (SELECT count(*) FROM @store@.transformer_layers l WHERE l.model_id = m.model_id) AS layers,
       (SELECT count(*) FROM @store@.attention_heads h WHERE h.model_id = m.model_id) AS attention_heads,
       m.hidden_size,
       m.vocab_size,
       w.weights,
       w.parameters,
       w.trainable_parameters,
       w.raw_bytes,
       (SELECT coalesce(sum(c.stored_bytes), 0)::bigint
        FROM @store@.tensor_chunks c
        WHERE c.chunk_hash IN (
            WITH RECURSIVE used AS (
                SELECT d.chunk_hash
                FROM @store@.model_weights mw
                JOIN @store@.tensor_data d USING (tensor_id)
                WHERE mw.model_id = m.model_id
                UNION
                SELECT b.base_hash
                FROM used u
                JOIN @store@.tensor_chunks b USING (chunk_hash)
                WHERE b.base_hash IS NOT NULL)
            SELECT chunk_hash FROM used)) AS stored_bytes,
       m.status,
       m.created_at
FROM @store@.models m
CROSS JOIN LATERAL (
    SELECT count(*) AS weights,
           coalesce(sum(t.element_count) FILTER (WHERE mw.tied_to IS NULL), 0)::bigint AS parameters,
           coalesce(sum(t.element_count) FILTER (WHERE mw.tied_to IS NULL AND mw.trainable), 0)::bigint AS trainable_parameters,
           coalesce(sum(t.raw_bytes), 0)::bigint AS raw_bytes
    FROM @store@.model_weights mw
    JOIN @store@.tensor_metadata t USING (tensor_id)
    WHERE mw.model_id = m.model_id
) w;
COMMENT ON VIEW @store@.v_model_architecture IS 'One row a model: layers, heads, sizes, parameters (tied ones once), bytes of its weights raw and as stored. Chunks shared with other models count in each, and so do the bases of deltas.';
