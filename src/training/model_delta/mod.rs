//! Model deltas: the difference between the weights of two models, to move between databases. The format is in
//! docs/formats.md.

mod apply;
mod publish;

use crate::error::{Result, or_raise, required};
use crate::formats::safetensors::import_sql::{ImportedRow, row};
use crate::io::Source;
use crate::io::bytes::{Bytea, ByteaSource};
use crate::io::large_object::LargeObject;
use crate::model::arguments::{Regcheckpoint, Regmodel};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::uuid;
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
    from_model: Option<Regmodel>,
    to_model: Option<Regmodel>,
) -> SetOfIterator<'static, Vec<u8>> {
    or_raise((|| {
        let from = required(from_model, "from_model")?.0;
        let to = required(to_model, "to_model")?.0;
        publish(StateDict::Model(from), StateDict::Model(to))
    })())
}

#[pg_extern(stable, parallel_restricted, cost = 10000)]
#[search_path(pg_catalog, pg_temp)]
fn publish_checkpoint_delta(
    from_checkpoint: Option<Regcheckpoint>,
    to_checkpoint: Option<Regcheckpoint>,
) -> SetOfIterator<'static, Vec<u8>> {
    or_raise((|| {
        let from = required(from_checkpoint, "from_checkpoint")?.0;
        let to = required(to_checkpoint, "to_checkpoint")?.0;
        publish(StateDict::Checkpoint(from), StateDict::Checkpoint(to))
    })())
}

/// Returns the parts of the delta as they are computed.
fn publish(from: StateDict, to: StateDict) -> Result<SetOfIterator<'static, Vec<u8>>> {
    let store = Store::for_reading()?;
    from.require(&store)?;
    to.require(&store)?;
    let mut publish = Publish::begin(&store, from, to)?;
    Ok(SetOfIterator::new(std::iter::from_fn(move || {
        or_raise(publish.next())
    })))
}

#[pg_extern(name = "apply_delta", volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn apply_delta_bytea(
    base: Option<Regmodel>,
    delta: Option<Bytea<'_>>,
    name: default!(Option<&str>, "NULL"),
    version: default!(Option<&str>, "NULL"),
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
        let base = StateDict::Model(required(base, "base")?.0);
        let mut delta = ByteaSource::new(required(delta, "delta")?);
        apply_from(&mut delta, base, name, version)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn apply_delta_large_object(
    base: Option<Regmodel>,
    delta: Option<pg_sys::Oid>,
    name: default!(Option<&str>, "NULL"),
    version: default!(Option<&str>, "NULL"),
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
        let base = StateDict::Model(required(base, "base")?.0);
        let mut delta = LargeObject::open(required(delta, "delta")?)?;
        apply_from(&mut delta, base, name, version)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn apply_checkpoint_delta(
    base: Option<Regcheckpoint>,
    delta: Option<Bytea<'_>>,
    name: default!(Option<&str>, "NULL"),
    version: default!(Option<&str>, "NULL"),
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
        let base = StateDict::Checkpoint(required(base, "base")?.0);
        let mut delta = ByteaSource::new(required(delta, "delta")?);
        apply_from(&mut delta, base, name, version)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn apply_checkpoint_delta_large_object(
    base: Option<Regcheckpoint>,
    delta: Option<pg_sys::Oid>,
    name: default!(Option<&str>, "NULL"),
    version: default!(Option<&str>, "NULL"),
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
        let base = StateDict::Checkpoint(required(base, "base")?.0);
        let mut delta = LargeObject::open(required(delta, "delta")?)?;
        apply_from(&mut delta, base, name, version)
    })())
}

fn apply_from(
    delta: &mut dyn Source,
    base: StateDict,
    name: Option<&str>,
    version: Option<&str>,
) -> Result<ImportedRow> {
    let store = Store::current()?;
    base.require(&store)?;
    row(apply::apply(&store, base, delta, version, name)?)
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
