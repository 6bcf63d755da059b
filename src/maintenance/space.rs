//! Space that models take, and that sharing, deltas and encoding save.

use crate::error::{Result, or_raise};
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

type Space = (
    SqlUuid,
    String,
    String,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
);

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
        name!(weight_bytes, i64),
        name!(checkpoint_bytes, i64),
        name!(unique_bytes, i64),
        name!(shared_bytes, i64),
        name!(delta_bytes, i64),
        name!(saved_bytes, i64),
    ),
> {
    TableIterator::new(or_raise(report(&or_raise(Store::for_reading()))))
}

fn report(store: &Store) -> Result<Vec<Space>> {
    let tensors: Vec<&str> = store
        .modules()
        .iter()
        .flat_map(|module| module.tensors_of_models)
        .copied()
        .collect();
    store.rows(
            &format!("WITH RECURSIVE refers AS ({}
             ), named AS (
                 SELECT r.model_id, r.is_checkpoint, d.chunk_hash
                 FROM (SELECT DISTINCT model_id, is_checkpoint, tensor_id FROM refers) r JOIN @store@.tensor_data d USING (tensor_id)
             ), used AS (
                 SELECT model_id, is_checkpoint, chunk_hash FROM named
                 UNION
                 SELECT u.model_id, u.is_checkpoint, c.base_hash
                 FROM used u JOIN @store@.tensor_chunks c USING (chunk_hash) WHERE c.base_hash IS NOT NULL
             ), owned AS (
                 SELECT model_id, chunk_hash, bool_and(is_checkpoint) AS is_checkpoint,
                        count(*) OVER (PARTITION BY chunk_hash) AS owners
                 FROM used GROUP BY model_id, chunk_hash
             ), stored AS (
                 SELECT o.model_id,
                        sum(c.stored_bytes) AS bytes,
                        sum(c.stored_bytes) FILTER (WHERE o.is_checkpoint) AS checkpoints,
                        sum(c.stored_bytes) FILTER (WHERE o.owners = 1) AS unshared,
                        sum(c.stored_bytes) FILTER (WHERE c.base_hash IS NOT NULL) AS delta
                 FROM owned o JOIN @store@.tensor_chunks c USING (chunk_hash)
                 GROUP BY o.model_id
             ), raw AS (
                 SELECT r.model_id, sum(t.raw_bytes) AS bytes
                 FROM refers r JOIN @store@.tensor_metadata t USING (tensor_id) GROUP BY r.model_id
             ), sums AS (
                 SELECT m.model_id, m.model_name, m.version, m.created_at,
                        coalesce(raw.bytes, 0)::bigint AS raw,
                        coalesce(s.bytes, 0)::bigint AS stored,
                        coalesce(s.checkpoints, 0)::bigint AS checkpoints,
                        coalesce(s.unshared, 0)::bigint AS unshared,
                        coalesce(s.delta, 0)::bigint AS delta
                 FROM @store@.models m LEFT JOIN raw USING (model_id) LEFT JOIN stored s USING (model_id)
             )
             SELECT model_id, model_name, version, raw, stored, stored - checkpoints, checkpoints,
                    unshared, stored - unshared, delta, raw - stored
             FROM sums ORDER BY model_name, created_at, model_id",
            tensors.join(" UNION ALL ")),
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
                row.get(10)?,
                row.get(11)?,
            ))
        },
    )
}
