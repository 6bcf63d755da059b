//! The SQL functions that export an archive.

use crate::error::{Result, or_raise, required};
use crate::formats::safetensors::half_written::HalfWritten;
use crate::io::bytes::ByteaOut;
use crate::io::large_object::LargeObject;
use crate::io::server_file::{Access, io_failure, require_absolute, require_privilege};
use crate::model::arguments::Regmodel;
use crate::store::Store;
use crate::transfer::archive::export::ArchiveExport;
use pgrx::prelude::*;
use std::fs::File;
use std::io::Write;
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
    let mut export = or_raise(begin(model, with_checkpoints));
    SetOfIterator::new(std::iter::from_fn(move || {
        or_raise((|| {
            let Some(part) = export.next()? else {
                return Ok(None);
            };
            let row = ByteaOut::copy(&part)?;
            export.recycle(part);
            Ok(Some(row))
        })())
    }))
}

/// Passes on all parts, and returns the number of their bytes.
fn drain(export: &mut ArchiveExport, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<i64> {
    let mut bytes = 0;
    while let Some(part) = export.next()? {
        bytes += part.len() as i64;
        each(&part)?;
        export.recycle(part);
        pgrx::check_for_interrupts!();
    }
    Ok(bytes)
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
        require_privilege(Access::Write)?;
        require_absolute(path)?;
        let mut export = begin(model, with_checkpoints)?;
        // Never over an existing file: the server could overwrite its own.
        let mut file = File::create_new(path).map_err(|e| io_failure("create", path, &e))?;
        let half_written = HalfWritten::new(path);
        let failed = |e| io_failure("write", path, &e);
        let bytes = drain(&mut export, |part| file.write_all(part).map_err(failed))?;
        file.sync_all().map_err(failed)?;
        half_written.finished();
        Ok(bytes)
    })())
}
