//! The SQL functions that export.

use crate::error::{Failure, Result, or_raise, required};
use crate::formats::safetensors::export::Export;
use crate::formats::safetensors::half_written::HalfWritten;
use crate::io::bytes::ByteaOut;
use crate::io::large_object::LargeObject;
use crate::io::server_file::{Access, io_failure, require_absolute, require_privilege};
use crate::model::arguments::Regmodel;
use crate::model::state_dict::StateDict;
use crate::store::Store;
use pgrx::prelude::*;
use std::fs::File;
use std::io::Write;
use std::path::Path;

#[pg_extern(stable, parallel_restricted, cost = 10000)]
#[search_path(pg_catalog, pg_temp)]
fn export_safetensors(
    model: Option<Regmodel>,
    file_name: default!(Option<&str>, "NULL"),
) -> SetOfIterator<'static, ByteaOut> {
    stream(or_raise(begin(model, file_name)))
}

/// Returns the parts as rows. Each is copied into memory of the server, and its buffer is reused for a later part.
pub fn stream(mut export: Export) -> SetOfIterator<'static, ByteaOut> {
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

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn export_safetensors_large_object(
    model: Option<Regmodel>,
    file_name: default!(Option<&str>, "NULL"),
) -> pg_sys::Oid {
    or_raise((|| {
        let mut export = begin(model, file_name)?;
        let mut object = LargeObject::create()?;
        drain(&mut export, |part| object.append(part))?;
        Ok(object.oid())
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn export_safetensors_file(
    model: Option<Regmodel>,
    path: Option<&str>,
    file_name: default!(Option<&str>, "NULL"),
) -> i64 {
    or_raise((|| {
        to_file(model, Path::new(required(path, "path")?), file_name)
    })())
}

fn to_file(model: Option<Regmodel>, path: &Path, file_name: Option<&str>) -> Result<i64> {
    require_privilege(Access::Write)?;
    require_absolute(path)?;
    let mut export = begin(model, file_name)?;
    // Never over an existing file: the server could overwrite its own.
    let mut file = File::create_new(path).map_err(|e| io_failure("create", path, &e))?;
    let half_written = HalfWritten::new(path);
    let mut bytes = 0;
    drain(&mut export, |part| {
        bytes += part.len() as i64;
        file.write_all(part)
            .map_err(|e| io_failure("write", path, &e))
    })?;
    file.sync_all().map_err(|e| io_failure("write", path, &e))?;
    half_written.finished();
    Ok(bytes)
}

fn begin(model: Option<Regmodel>, file_name: Option<&str>) -> Result<Export> {
    let model = required(model, "model")?.0;
    Export::begin(&Store::for_reading()?, StateDict::Model(model), file_name)
}

/// Passes on all parts.
pub fn drain(
    export: &mut Export,
    mut each: impl FnMut(&[u8]) -> std::result::Result<(), Failure>,
) -> Result<()> {
    while let Some(part) = export.next()? {
        each(&part)?;
        export.recycle(part);
        pgrx::check_for_interrupts!();
    }
    Ok(())
}
