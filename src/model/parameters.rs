//! Parameter counts.

use crate::error::{Result, or_raise};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::uuid;
use crate::store::Store;
use pgrx::prelude::*;

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn calculate_model_parameters(
    model: Regmodel,
) -> TableIterator<
    'static,
    (
        name!(total_parameters, i64),
        name!(trainable_parameters, i64),
        name!(frozen_parameters, i64),
        name!(total_bytes, i64),
    ),
> {
    TableIterator::new(or_raise(count(model.0)))
}

fn count(model: uuid::Uuid) -> Result<Option<(i64, i64, i64, i64)>> {
    let store = Store::for_reading()?;
    models::require(&store, model)?;
    store.row(
        "SELECT coalesce(sum(t.element_count), 0)::bigint,
                coalesce(sum(t.element_count) FILTER (WHERE w.trainable), 0)::bigint,
                coalesce(sum(t.element_count) FILTER (WHERE NOT w.trainable), 0)::bigint,
                coalesce(sum(t.raw_bytes), 0)::bigint
         FROM @store@.model_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
         WHERE w.model_id = $1 AND w.tied_to IS NULL",
        &[uuid(model)],
        |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
    )
}
