//! The SQL functions that import an archive.

use crate::error::{Result, or_raise, required};
use crate::io::Source;
use crate::io::bytes::{Bytea, ByteaSource};
use crate::io::large_object::LargeObject;
use crate::io::server_file::ServerFile;
use crate::pg::arguments::{from_sql_uuid, to_sql_uuid};
use crate::store::Store;
use crate::transfer::archive::import::import;
use crate::upload::finish::{Received, consume};
use modelstore_archive::Error;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::path::Path;

/// The result of every function here, as one row. pgrx reads the columns from each signature, so they are repeated there.
type ArchiveRow = TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(files, i64),
        name!(runs, i64),
        name!(checkpoints, i64),
        name!(weights, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
>;

#[pg_extern(name = "import_archive", volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn import_archive_bytea(
    data: Option<Bytea<'_>>,
    name: default!(Option<&str>, "NULL"),
    version: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(files, i64),
        name!(runs, i64),
        name!(checkpoints, i64),
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
        row(&mut source, name, version)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn import_archive_large_object(
    data: Option<pg_sys::Oid>,
    name: default!(Option<&str>, "NULL"),
    version: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(files, i64),
        name!(runs, i64),
        name!(checkpoints, i64),
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
        row(&mut source, name, version)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn import_archive_file(
    path: Option<&str>,
    name: default!(Option<&str>, "NULL"),
    version: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(files, i64),
        name!(runs, i64),
        name!(checkpoints, i64),
        name!(weights, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise((|| {
        let mut source = ServerFile::open(Path::new(required(path, "path")?))?;
        row(&mut source, name, version)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn import_archive_upload(
    upload_id: Option<SqlUuid>,
    name: default!(Option<&str>, "NULL"),
    version: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(files, i64),
        name!(runs, i64),
        name!(checkpoints, i64),
        name!(weights, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise((|| {
        let upload = from_sql_uuid(required(upload_id, "upload_id")?);
        consume(upload, |received, _| match received {
            Received::Stored(_) => Err(Error::NotTar.into()),
            Received::Other(mut waiting) => row(&mut waiting, name, version),
        })
    })())
}

fn row(source: &mut dyn Source, name: Option<&str>, version: Option<&str>) -> Result<ArchiveRow> {
    let restored = import(&Store::current()?, source, name, version)?;
    let imported = restored.imported;
    Ok(TableIterator::once((
        to_sql_uuid(imported.model),
        restored.files as i64,
        restored.runs as i64,
        restored.checkpoints as i64,
        imported.weights as i64,
        imported.parameters as i64,
        imported.raw_bytes as i64,
        imported.new_chunks as i64,
        imported.new_bytes as i64,
        imported.reused_bytes as i64,
    )))
}
