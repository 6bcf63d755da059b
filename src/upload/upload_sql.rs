//! The SQL functions of uploads.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::formats::safetensors::import::import_file;
use crate::formats::safetensors::import_sql::{DEFAULT_FILE_NAME, new_model, row};
use crate::model::arguments::{Regcheckpoint, Regmodel};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{from_sql_uuid, to_sql_uuid, uuid};
use crate::pg::jsonb::Jsonb;
use crate::settings;
use crate::store::Store;
use crate::upload::append::Appending;
use crate::upload::copy;
use crate::upload::finish::consume;
use crate::upload::row::{self as upload_row, UploadRow, unknown};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn begin_upload(
    expected_bytes: default!(Option<i64>, "NULL"),
    parent: default!(Option<Regmodel>, "NULL"),
    parent_checkpoint: default!(Option<Regcheckpoint>, "NULL"),
) -> SqlUuid {
    or_raise((|| {
        if let Some(expected) = expected_bytes.filter(|&b| b < 0) {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("expected size {expected} is negative"),
            ));
        }
        let store = Store::current()?;
        let parents = [parent.map(|of| of.0), parent_checkpoint.map(|of| of.0)];
        if let [Some(_), Some(_)] = parents {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                "parent and parent_checkpoint cannot both be given",
            ));
        }
        for base in upload_row::bases(parents) {
            base.require(&store)?;
        }
        let id = upload_row::insert(&store, expected_bytes, parents, settings::chunk_bytes())?;
        Ok(to_sql_uuid(id))
    })())
}

/// With `at_offset`, the part is refused unless it belongs exactly there, so that a client that lost an answer cannot append
/// twice.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn append_upload(
    upload_id: Option<SqlUuid>,
    data: Option<&[u8]>,
    at_offset: default!(Option<i64>, "NULL"),
) -> i64 {
    or_raise((|| {
        let upload = from_sql_uuid(required(upload_id, "upload_id")?);
        let data = required(data, "data")?;
        copy::flush()?;
        let mut appending = Appending::open(&Store::current()?, upload)?;
        if let Some(at) = at_offset {
            appending.check_offset(at)?;
        }
        if data.is_empty() {
            return Ok(appending.received() as i64);
        }
        appending.feed(data)?;
        Ok(appending.finish()? as i64)
    })())
}

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn upload_offset(upload_id: SqlUuid) -> i64 {
    or_raise((|| {
        let (store, upload) = (Store::for_reading()?, from_sql_uuid(upload_id));
        let received = store.row(
            "SELECT received_bytes FROM @store@.uploads WHERE upload_id = $1",
            &[uuid(upload)],
            |row| row.get::<i64>(1),
        )?;
        received.ok_or_else(|| unknown(&store, upload))
    })())
}

#[pg_extern(volatile, strict, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn abort_upload(upload_id: SqlUuid) -> i64 {
    or_raise((|| {
        copy::flush()?;
        let store = Store::current()?;
        let row = UploadRow::lock(&store, from_sql_uuid(upload_id))?;
        row.remove(&store)?;
        Ok(row.received as i64)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn finish_upload(
    upload_id: Option<SqlUuid>,
    name: Option<&str>,
    version: Option<&str>,
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
        let upload = from_sql_uuid(required(upload_id, "upload_id")?);
        consume(upload, |received, base| {
            let parent = match (parent, base) {
                (None, Some(base)) => existing(base)?.map(Regmodel),
                (parent, _) => parent,
            };
            let model = new_model(name, version, config.as_ref(), parent, metadata.as_ref())?;
            let mut waiting = None;
            let file = received.file(DEFAULT_FILE_NAME, &mut waiting)?;
            row(import_file(&Store::current()?, &model, file)?)
        })
    })())
}

/// The model, unless it has been deleted: what was begun as its child can be finished without it.
fn existing(model: Uuid) -> Result<Option<Uuid>> {
    match StateDict::Model(model).require(&Store::current()?) {
        Ok(()) => Ok(Some(model)),
        Err(e) if e.code() == Code::ERRCODE_UNDEFINED_OBJECT => Ok(None),
        Err(e) => Err(e),
    }
}
