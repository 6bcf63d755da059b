//! The SQL functions on folders of the server.

use crate::error::{or_raise, required};
use crate::formats::folder::export::export_folder as export;
use crate::formats::folder::import::import_folder as import;
use crate::formats::safetensors::import_sql::new_model;
use crate::model::arguments::Regmodel;
use crate::pg::arguments::to_sql_uuid;
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::path::Path;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn import_folder(
    name: Option<&str>,
    version: Option<&str>,
    path: Option<&str>,
    parent: default!(Option<Regmodel>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(files, i64),
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
        let model = new_model(name, version, None, parent, metadata.as_ref())?;
        let (files, imported) = import(&store, &model, Path::new(required(path, "path")?))?;
        Ok(TableIterator::once((
            to_sql_uuid(imported.model),
            files as i64,
            imported.weights as i64,
            imported.parameters as i64,
            imported.raw_bytes as i64,
            imported.new_chunks as i64,
            imported.new_bytes as i64,
            imported.reused_bytes as i64,
        )))
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn export_folder(
    model: Option<Regmodel>,
    path: Option<&str>,
) -> TableIterator<'static, (name!(files, i64), name!(bytes, i64))> {
    or_raise((|| {
        let model = required(model, "model")?.0;
        let path = Path::new(required(path, "path")?);
        let (files, bytes) = export(&Store::for_reading()?, model, path)?;
        Ok(TableIterator::once((files as i64, bytes as i64)))
    })())
}
