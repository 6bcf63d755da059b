//! The ancestors of a model.

use crate::error::{Result, or_raise};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::{from_sql_uuid, to_sql_uuid, uuid};
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::collections::HashSet;
use uuid::Uuid;

/// A model and how it was derived from the next.
pub struct Ancestor {
    /// Its key.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How it was derived.
    pub derivation: Option<String>,
    /// BLAKE3-256 of its weights, in hexadecimal.
    pub content_hash: Option<String>,
}

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
    let line = or_raise((|| {
        let store = Store::for_reading()?;
        models::require(&store, model.0)?;
        ancestors(&store, model.0)
    })());
    TableIterator::new((0..).zip(line).map(|(depth, of)| {
        (
            depth,
            to_sql_uuid(of.id),
            of.name,
            of.version,
            of.derivation,
        )
    }))
}

/// Returns the model, its parent, and so on: none if the model does not exist. One statement for each, so a line of any
/// length takes linear time.
pub fn ancestors(store: &Store, model: Uuid) -> Result<Vec<Ancestor>> {
    let (mut line, mut seen) = (Vec::new(), HashSet::new());
    let mut next = Some(model);
    // A cycle can be made by hand: the columns alone cannot rule one out.
    while let Some(id) = next.take().filter(|id| seen.insert(*id)) {
        pgrx::check_for_interrupts!();
        let found = store.row(
            "SELECT model_name, version, derivation, encode(content_hash, 'hex'), parent_model_id FROM @store@.models
             WHERE model_id = $1",
            &[uuid(id)],
            |row| {
                let ancestor = Ancestor {
                    id,
                    name: row.get(1)?,
                    version: row.get(2)?,
                    derivation: row.opt(3)?,
                    content_hash: row.opt(4)?,
                };
                Ok((ancestor, row.opt::<SqlUuid>(5)?.map(from_sql_uuid)))
            },
        )?;
        if let Some((ancestor, parent)) = found {
            line.push(ancestor);
            next = parent;
        }
    }
    Ok(line)
}
