//! The SQL functions that export an archive.

use crate::error::{Result, or_raise, required};
use crate::io::bytes::ByteaOut;
use crate::io::large_object::LargeObject;
use crate::io::parts::{drain, stream, to_file};
use crate::model::arguments::Regmodel;
use crate::store::Store;
use crate::transfer::archive::export::ArchiveExport;
use pgrx::prelude::*;
use std::path::Path;

fn begin(model: Option<Regmodel>, with_checkpoints: Option<bool>) -> Result<ArchiveExport> {
    let model = required(model, "model")?.0;
    let with_checkpoints = required(with_checkpoints, "with_checkpoints")?;
    ArchiveExport::begin(&Store::for_reading()?, model, with_checkpoints)
}

#[pg_extern(stable, parallel_restricted, cost = 10000)]
#[search_path(pg_catalog, pg_temp)]
fn export_archive(
    model: Option<Regmodel>,
    with_checkpoints: default!(Option<bool>, "true"),
) -> SetOfIterator<'static, ByteaOut> {
    stream(or_raise(begin(model, with_checkpoints)))
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn export_archive_large_object(
    model: Option<Regmodel>,
    with_checkpoints: default!(Option<bool>, "true"),
) -> pg_sys::Oid {
    or_raise((|| {
        let mut export = begin(model, with_checkpoints)?;
        let mut object = LargeObject::create()?;
        drain(&mut export, |part| object.append(part))?;
        Ok(object.oid())
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn export_archive_file(
    model: Option<Regmodel>,
    path: Option<&str>,
    with_checkpoints: default!(Option<bool>, "true"),
) -> i64 {
    or_raise((|| {
        let path = Path::new(required(path, "path")?);
        to_file(path, || begin(model, with_checkpoints))
    })())
}
