//! What models take, and what sharing, deltas and encoding save.

use crate::error::{Result, or_raise};
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

type Space = (SqlUuid, String, String, i64, i64, i64, i64, i64, i64);

/// One row a model: raw bytes of its weights; stored bytes of the chunks it uses, those only it uses (unique), those
/// other models or checkpoints use too (shared) and those stored as deltas; saved is raw minus stored.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn space_report() -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(model_name, String),
        name!(version, String),
        name!(raw_bytes, i64),
        name!(stored_bytes, i64),
        name!(unique_bytes, i64),
        name!(shared_bytes, i64),
        name!(delta_bytes, i64),
        name!(saved_bytes, i64),
    ),
> {
    TableIterator::new(or_raise(report()))
}

fn report() -> Result<Vec<Space>> {
    Store::for_reading()?.rows(
        "WITH RECURSIVE owned(owner_id, tensor_id) AS (
             SELECT model_id, tensor_id FROM @store@.model_weights
             UNION SELECT checkpoint_id, tensor_id FROM @store@.checkpoint_weights
             UNION SELECT checkpoint_id, tensor_id FROM @store@.optimizer_state
         ), used AS (
             SELECT o.owner_id, d.chunk_hash FROM owned o JOIN @store@.tensor_data d USING (tensor_id)
             UNION
             SELECT u.owner_id, c.base_hash
             FROM used u JOIN @store@.tensor_chunks c USING (chunk_hash) WHERE c.base_hash IS NOT NULL
         ), users AS (
             SELECT chunk_hash, count(*) AS owners FROM used GROUP BY chunk_hash
         ), chunks AS (
             SELECT u.owner_id AS model_id,
                    sum(c.stored_bytes) AS stored,
                    sum(c.stored_bytes) FILTER (WHERE n.owners = 1) AS unshared,
                    sum(c.stored_bytes) FILTER (WHERE n.owners > 1) AS shared,
                    sum(c.stored_bytes) FILTER (WHERE c.base_hash IS NOT NULL) AS delta
             FROM used u JOIN users n USING (chunk_hash) JOIN @store@.tensor_chunks c USING (chunk_hash)
             GROUP BY u.owner_id
         ), raw AS (
             SELECT w.model_id, sum(t.raw_bytes) AS bytes
             FROM @store@.model_weights w JOIN @store@.tensor_metadata t USING (tensor_id) GROUP BY w.model_id
         )
         SELECT m.model_id, m.model_name, m.version,
                coalesce(raw.bytes, 0)::bigint, coalesce(c.stored, 0)::bigint, coalesce(c.unshared, 0)::bigint,
                coalesce(c.shared, 0)::bigint, coalesce(c.delta, 0)::bigint,
                (coalesce(raw.bytes, 0) - coalesce(c.stored, 0))::bigint
         FROM @store@.models m LEFT JOIN raw USING (model_id) LEFT JOIN chunks c USING (model_id)
         ORDER BY m.model_name, m.created_at, m.model_id",
        &[],
        |row| {
            Ok((
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
                row.get(8)?,
                row.get(9)?,
            ))
        },
    )
}
