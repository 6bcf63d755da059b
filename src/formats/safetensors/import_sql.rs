//! The SQL functions that import.

use crate::error::{Result, or_raise, required};
use crate::formats::safetensors::import::{Imported, import};
use crate::formats::safetensors::shards;
use crate::io::Source;
use crate::io::bytes::{Bytea, ByteaSource};
use crate::io::large_object::LargeObject;
use crate::model::arguments::Regmodel;
use crate::model::models::NewModel;
use crate::names;
use crate::pg::arguments::to_sql_uuid;
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::path::Path;

/// The result of every import, as one row. pgrx reads the columns from each signature, so they are repeated there.
pub type ImportedRow = TableIterator<
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
>;

/// The file name of an import from bytes without a name.
pub const DEFAULT_FILE_NAME: &str = "model.safetensors";

#[pg_extern(name = "import_safetensors", volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn import_safetensors_bytea(
    name: Option<&str>,
    version: Option<&str>,
    data: Option<Bytea<'_>>,
    config: default!(Option<Jsonb<'_>>, "NULL"),
    parent: default!(Option<Regmodel>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
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
        let mut source = ByteaSource::new(required(data, "data")?);
        import_as(&mut source, name, version, config, parent, metadata)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn import_safetensors_large_object(
    name: Option<&str>,
    version: Option<&str>,
    data: Option<pg_sys::Oid>,
    config: default!(Option<Jsonb<'_>>, "NULL"),
    parent: default!(Option<Regmodel>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
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
        let mut source = LargeObject::open(required(data, "data")?)?;
        import_as(&mut source, name, version, config, parent, metadata)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn import_safetensors_file(
    name: Option<&str>,
    version: Option<&str>,
    path: Option<&str>,
    config: default!(Option<Jsonb<'_>>, "NULL"),
    parent: default!(Option<Regmodel>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
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
        let store = Store::current()?;
        let model = new_model(name, version, config.as_ref(), parent, metadata.as_ref())?;
        row(shards::import_path(
            &store,
            &model,
            Path::new(required(path, "path")?),
        )?)
    })())
}

/// Imports a source as the only file of a new model.
fn import_as(
    source: &mut dyn Source,
    name: Option<&str>,
    version: Option<&str>,
    config: Option<Jsonb<'_>>,
    parent: Option<Regmodel>,
    metadata: Option<Jsonb<'_>>,
) -> Result<ImportedRow> {
    let model = new_model(name, version, config.as_ref(), parent, metadata.as_ref())?;
    row(import(
        &Store::current()?,
        &model,
        DEFAULT_FILE_NAME,
        source,
    )?)
}

/// The model that an import makes.
pub fn new_model<'a>(
    name: Option<&'a str>,
    version: Option<&'a str>,
    config: Option<&'a Jsonb<'a>>,
    parent: Option<Regmodel>,
    metadata: Option<&'a Jsonb<'a>>,
) -> Result<NewModel<'a>> {
    Ok(NewModel {
        name: names::check_model(required(name, "name")?)?,
        version: names::check_part("model version", required(version, "version")?)?,
        parent: parent.map(|parent| parent.0),
        config,
        metadata,
        status: "ready",
        ..NewModel::default()
    })
}

/// The row of an import.
pub fn row(imported: Imported) -> Result<ImportedRow> {
    Ok(TableIterator::once((
        to_sql_uuid(imported.model),
        imported.weights as i64,
        imported.parameters as i64,
        imported.raw_bytes as i64,
        imported.new_chunks as i64,
        imported.new_bytes as i64,
        imported.reused_bytes as i64,
    )))
}
