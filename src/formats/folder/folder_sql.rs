//! The SQL functions on the files of a model.

use crate::error::{Result, or_raise, required};
use crate::formats::folder::add::{Sniffed, add};
use crate::formats::folder::delete::delete;
use crate::formats::safetensors::export::Export;
use crate::formats::safetensors::import_sql::{ImportedRow, row};
use crate::formats::safetensors::shards::lock;
use crate::io::Source;
use crate::io::bytes::{Bytea, ByteaOut, ByteaSource};
use crate::io::large_object::LargeObject;
use crate::io::parts::stream;
use crate::model::arguments::Regmodel;
use crate::model::state_dict::StateDict;
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

#[pg_extern(name = "add_file", volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn add_file_bytea(
    model: Option<Regmodel>,
    file_name: Option<&str>,
    data: Option<Bytea<'_>>,
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
        add_from(model, file_name, &mut source)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn add_file_large_object(
    model: Option<Regmodel>,
    file_name: Option<&str>,
    data: Option<pg_sys::Oid>,
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
        add_from(model, file_name, &mut source)
    })())
}

fn add_from(
    model: Option<Regmodel>,
    file_name: Option<&str>,
    source: &mut dyn Source,
) -> Result<ImportedRow> {
    let model = required(model, "model")?.0;
    let name = required(file_name, "file_name")?;
    let store = Store::current()?;
    lock(&store, model)?;
    row(add(&store, model, Sniffed::open(name, source)?)?)
}

#[pg_extern(stable, parallel_restricted, cost = 10000)]
#[search_path(pg_catalog, pg_temp)]
fn export_file(
    model: Option<Regmodel>,
    file_name: Option<&str>,
    from_byte: default!(Option<i64>, "0"),
) -> SetOfIterator<'static, ByteaOut> {
    stream(or_raise((|| {
        let model = StateDict::Model(required(model, "model")?.0);
        let name = required(file_name, "file_name")?;
        let from_byte = required(from_byte, "from_byte")?;
        Export::resume(&Store::for_reading()?, model, Some(name), from_byte)
    })()))
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn delete_file(model: Option<Regmodel>, file_name: Option<&str>) -> i64 {
    or_raise((|| {
        let model = required(model, "model")?.0;
        let name = required(file_name, "file_name")?;
        let store = Store::current()?;
        lock(&store, model)?;
        delete(&store, model, name)
    })())
}
