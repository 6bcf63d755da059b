//! The ancestors of a model.

use crate::error::{Result, or_raise};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::uuid;
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

type Ancestor = (i32, SqlUuid, String, String, Option<String>);

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn lineage(
    model: Regmodel,
) -> TableIterator<
    'static,
    (
        name!(depth, i32),
        name!(model_id, SqlUuid),
        name!(model_name, String),
        name!(version, String),
        name!(derivation, Option<String>),
    ),
> {
    TableIterator::new(or_raise(ancestors(model.0)))
}

fn ancestors(model: uuid::Uuid) -> Result<Vec<Ancestor>> {
    let store = Store::for_reading()?;
    models::require(&store, model)?;
    // The path guards against a cycle made by hand; the columns alone cannot rule one out. Each row carries its path:
    // O(depth²) time and memory.
    store.rows(
        "WITH RECURSIVE line AS (
             SELECT 0 AS depth, ARRAY[m.model_id] AS path, m.* FROM @store@.models m WHERE m.model_id = $1
             UNION ALL
             SELECT line.depth + 1, line.path || m.model_id, m.*
             FROM line JOIN @store@.models m ON m.model_id = line.parent_model_id
             WHERE NOT m.model_id = ANY (line.path)
         )
         SELECT depth, model_id, model_name, version, derivation FROM line ORDER BY depth",
        &[uuid(model)],
        |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.opt(5)?)),
    )
}
