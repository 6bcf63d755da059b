//! Model deltas: the difference between the weights of two models, to move between databases. The format is in
//! docs/formats.md.

mod apply;
mod publish;

use crate::error::{Result, or_raise, required};
use crate::formats::safetensors::import_sql::{ImportedRow, row};
use crate::io::Source;
use crate::io::bytes::{Bytea, ByteaSource};
use crate::io::large_object::LargeObject;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{from_sql_uuid, uuid};
use crate::store::Store;
use crate::tensor_storage::locate::{read_tensor, tensor_columns};
use modelstore_chunk::StoredTensor;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use publish::Publish;
use std::collections::HashMap;

#[pg_extern(stable, parallel_restricted, cost = 10000)]
#[search_path(pg_catalog, pg_temp)]
fn publish_delta(
    from_id: Option<SqlUuid>,
    to_id: Option<SqlUuid>,
) -> SetOfIterator<'static, Vec<u8>> {
    let mut publish = or_raise((|| {
        let store = Store::for_reading()?;
        let from = StateDict::find(&store, from_sql_uuid(required(from_id, "from_id")?))?;
        let to = StateDict::find(&store, from_sql_uuid(required(to_id, "to_id")?))?;
        Publish::begin(&store, from, to)
    })());
    SetOfIterator::new(std::iter::from_fn(move || or_raise(publish.next())))
}

#[pg_extern(name = "apply_delta", volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn apply_delta_bytea(
    base_id: Option<SqlUuid>,
    delta: Option<Bytea<'_>>,
    version: default!(Option<&str>, "NULL"),
    model_name: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(weights, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise((|| {
        let mut delta = ByteaSource::new(required(delta, "delta")?);
        apply_from(&mut delta, base_id, version, model_name)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn apply_delta_large_object(
    base_id: Option<SqlUuid>,
    delta: Option<pg_sys::Oid>,
    version: default!(Option<&str>, "NULL"),
    model_name: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(weights, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise((|| {
        let mut delta = LargeObject::open(required(delta, "delta")?)?;
        apply_from(&mut delta, base_id, version, model_name)
    })())
}

fn apply_from(
    delta: &mut dyn Source,
    base_id: Option<SqlUuid>,
    version: Option<&str>,
    model_name: Option<&str>,
) -> Result<ImportedRow> {
    let store = Store::current()?;
    let base = StateDict::find(&store, from_sql_uuid(required(base_id, "base_id")?))?;
    row(apply::apply(&store, base, delta, version, model_name)?)
}

/// Returns the weights of a model or a checkpoint by name.
fn weights(store: &Store, of: StateDict) -> Result<HashMap<String, StoredTensor>> {
    let rows = store.rows(
        &of.sql(concat!(
            "SELECT ",
            tensor_columns!(),
            ", w.weight_name FROM @weights@ w JOIN @store@.tensor_metadata t USING (tensor_id) WHERE w.@owner@ = $1"
        )),
        &[uuid(of.id())],
        |row| {
            let name: String = row.get(6)?;
            Ok((name.clone(), read_tensor(row, Some(name))?.check()?))
        },
    )?;
    Ok(rows.into_iter().collect())
}
