//! The SQL functions that export.

use crate::error::{Result, or_raise, required};
use crate::formats::safetensors::export::Export;
use crate::io::bytes::ByteaOut;
use crate::io::large_object::LargeObject;
use crate::io::parts::{drain, stream, to_file};
use crate::model::arguments::Regmodel;
use crate::model::state_dict::StateDict;
use crate::store::Store;
use pgrx::prelude::*;
use std::path::Path;

#[pg_extern(stable, parallel_restricted, cost = 10000)]
#[search_path(pg_catalog, pg_temp)]
fn export_safetensors(
    model: Option<Regmodel>,
    file_name: default!(Option<&str>, "NULL"),
    from_byte: default!(Option<i64>, "0"),
) -> SetOfIterator<'static, ByteaOut> {
    stream(or_raise((|| {
        let model = required(model, "model")?.0;
        let from_byte = required(from_byte, "from_byte")?;
        let store = Store::for_reading()?;
        Export::resume(&store, StateDict::Model(model), file_name, from_byte)
    })()))
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
        let path = Path::new(required(path, "path")?);
        to_file(path, || begin(model, file_name))
    })())
}

fn begin(model: Option<Regmodel>, file_name: Option<&str>) -> Result<Export> {
    let model = required(model, "model")?.0;
    Export::begin(&Store::for_reading()?, StateDict::Model(model), file_name)
}
