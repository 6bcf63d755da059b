//! Lists models: all, and those derived from one.

use crate::error::{Result, or_raise};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::{maybe_text, uuid};
use crate::store::Store;
use pgrx::datum::{TimestampWithTimeZone, Uuid as SqlUuid};
use pgrx::prelude::*;

type Listed = (
    SqlUuid,
    String,
    String,
    Vec<String>,
    Option<String>,
    i64,
    i64,
    String,
    Option<String>,
    Vec<String>,
    TimestampWithTimeZone,
);

type Child = (SqlUuid, String, String, Option<String>);

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn list_models(
    pattern: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(model_name, String),
        name!(version, String),
        name!(aliases, Vec<String>),
        name!(architecture, Option<String>),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(status, String),
        name!(license, Option<String>),
        name!(tags, Vec<String>),
        name!(created_at, TimestampWithTimeZone),
    ),
> {
    TableIterator::new(or_raise(list(pattern)))
}

fn list(pattern: Option<&str>) -> Result<Vec<Listed>> {
    Store::for_reading()?.rows(
        "SELECT m.model_id, m.model_name, m.version,
                ARRAY(SELECT a.alias FROM @store@.model_aliases a WHERE a.model_id = m.model_id ORDER BY 1),
                m.architecture, w.parameters, w.raw_bytes, m.status, m.license, m.tags, m.created_at
         FROM @store@.models m
         CROSS JOIN LATERAL (
             SELECT coalesce(sum(t.element_count), 0)::bigint AS parameters, coalesce(sum(t.raw_bytes), 0)::bigint AS raw_bytes
             FROM @store@.model_weights mw JOIN @store@.tensor_metadata t USING (tensor_id)
             WHERE mw.model_id = m.model_id AND mw.tied_to IS NULL
         ) w
         WHERE $1 IS NULL OR m.model_name LIKE $1
         ORDER BY m.model_name, m.created_at, m.model_id",
        &[maybe_text(pattern)],
        |row| {
            Ok((
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.opt(5)?,
                row.get(6)?,
                row.get(7)?,
                row.get(8)?,
                row.opt(9)?,
                row.get(10)?,
                row.get(11)?,
            ))
        },
    )
}

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn children(
    model: Regmodel,
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(model_name, String),
        name!(version, String),
        name!(derivation, Option<String>),
    ),
> {
    TableIterator::new(or_raise(of(model)))
}

fn of(model: Regmodel) -> Result<Vec<Child>> {
    let store = Store::for_reading()?;
    models::require(&store, model.0)?;
    store.rows(
        "SELECT model_id, model_name, version, derivation FROM @store@.models
         WHERE parent_model_id = $1 ORDER BY created_at, model_id",
        &[uuid(model.0)],
        |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.opt(4)?)),
    )
}
