//! Resumable uploads: any number of parts of any size, over any driver, across sessions.

use crate::chunks::spi_chunks::suppressed;
use crate::error::{Code, Failure, Result, or_raise, required};
use crate::io::Source;
use crate::io::parts::Parts;
use crate::pg::arguments::{bytes, from_sql_uuid, to_sql_uuid, uuid};
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn begin_upload(expected_bytes: default!(Option<i64>, "NULL")) -> SqlUuid {
    or_raise((|| {
        if let Some(expected) = expected_bytes.filter(|&b| b < 0) {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("expected size {expected} is negative"),
            ));
        }
        let id = Uuid::now_v7();
        Store::current()?.execute(
            "INSERT INTO @store@.uploads (upload_id, expected_bytes) VALUES ($1, $2)",
            &[uuid(id), expected_bytes.into()],
        )?;
        Ok(to_sql_uuid(id))
    })())
}

/// Appends a part and returns the offset behind it. With `at_offset`, the part is refused unless it belongs exactly
/// there, so that a client that lost an answer cannot append twice.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn append_upload(
    upload_id: Option<SqlUuid>,
    data: Option<&[u8]>,
    at_offset: default!(Option<i64>, "NULL"),
) -> i64 {
    or_raise((|| {
        let upload = from_sql_uuid(required(upload_id, "upload_id")?);
        append(upload, required(data, "data")?, at_offset)
    })())
}

fn append(upload: Uuid, data: &[u8], at_offset: Option<i64>) -> Result<i64> {
    let store = Store::current()?;
    let expected = lock(&store, upload)?;
    let offset = offset_now(&store, upload)?;
    if let Some(at) = at_offset.filter(|&at| at != offset) {
        return Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("part at offset {at} does not continue upload {upload}"),
        )
        .detail(format!("The upload has received {offset} bytes."))
        .hint(format!("SELECT modelstore.upload_offset('{upload}');")));
    }
    let end = offset + data.len() as i64;
    if let Some(expected) = expected.filter(|&expected| end > expected) {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!(
                "upload {upload} would grow to {end} bytes, more than the {expected} announced"
            ),
        )
        .hint(format!("SELECT modelstore.abort_upload('{upload}');")));
    }
    if !data.is_empty() {
        insert_part(&store, upload, offset, data)?;
    }
    Ok(end)
}

/// Bytes received so far: where to resume.
#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn upload_offset(upload_id: SqlUuid) -> i64 {
    or_raise((|| {
        let (store, upload) = (Store::for_reading()?, from_sql_uuid(upload_id));
        store
            .row(
                "SELECT 1 FROM @store@.uploads WHERE upload_id = $1",
                &[uuid(upload)],
                |_| Ok(()),
            )?
            .ok_or_else(|| unknown(&store, upload))?;
        offset_of(&store, upload)
    })())
}

/// Forgets an upload and returns how many bytes it had received.
#[pg_extern(volatile, strict, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn abort_upload(upload_id: SqlUuid) -> i64 {
    or_raise((|| {
        let (store, upload) = (Store::current()?, from_sql_uuid(upload_id));
        lock(&store, upload)?;
        let offset = offset_now(&store, upload)?;
        remove(&store, upload)?;
        Ok(offset)
    })())
}

/// Locks an upload, hands its bytes to `read`, and forgets it.
pub fn consume<T>(upload: Uuid, read: impl FnOnce(&mut dyn Source) -> Result<T>) -> Result<T> {
    let store = Store::current()?;
    let expected = lock(&store, upload)?;
    let offset = offset_now(&store, upload)?;
    if let Some(expected) = expected.filter(|&expected| expected != offset) {
        return Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("upload {upload} is not complete"),
        )
        .detail(format!("It has received {offset} of {expected} bytes."))
        .hint(format!("SELECT modelstore.upload_offset('{upload}');")));
    }
    let result = read(&mut Parts::new(store.clone(), upload, offset as u64))?;
    remove(&store, upload)?;
    Ok(result)
}

/// Takes the upload for this transaction and returns the size announced for it.
fn lock(store: &Store, upload: Uuid) -> Result<Option<i64>> {
    store
        .write(
            "SELECT expected_bytes FROM @store@.uploads WHERE upload_id = $1 FOR UPDATE",
            &[uuid(upload)],
            |row| row.opt(1),
        )?
        .pop()
        .ok_or_else(|| unknown(store, upload))
}

fn unknown(store: &Store, upload: Uuid) -> Failure {
    Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("upload {upload} does not exist"),
    )
    .detail("It was never started, or has been finished or aborted.")
    .hint(store.sql("SELECT * FROM @store@.uploads;"))
}

fn offset_of(store: &Store, upload: Uuid) -> Result<i64> {
    let end = store.row(
        "SELECT part_offset + octet_length(data) FROM @store@.upload_parts
         WHERE upload_id = $1 ORDER BY part_offset DESC LIMIT 1",
        &[uuid(upload)],
        |row| row.get(1),
    )?;
    Ok(end.unwrap_or(0))
}

/// The same for a transaction that has locked the upload and goes on from there. Where it keeps one snapshot, parts that
/// others have committed since are not seen but there: then it is a serialization failure, as PostgreSQL raises it for a
/// row that ON CONFLICT DO NOTHING meets but must not see.
fn offset_now(store: &Store, upload: Uuid) -> Result<i64> {
    let offset = offset_of(store, upload)?;
    let keeps_snapshot = store.row(
        "SELECT pg_catalog.current_setting('transaction_isolation') IN ('repeatable read', 'serializable')",
        &[],
        |row| row.get::<bool>(1),
    )?;
    if keeps_snapshot == Some(true) {
        insert_part(store, upload, offset, b"?")?;
        store.execute(
            "DELETE FROM @store@.upload_parts WHERE upload_id = $1 AND part_offset = $2",
            &[uuid(upload), offset.into()],
        )?;
    }
    Ok(offset)
}

fn insert_part(store: &Store, upload: Uuid, offset: i64, data: &[u8]) -> Result<()> {
    let inserted = store.execute(
        "INSERT INTO @store@.upload_parts (upload_id, part_offset, data) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        &[uuid(upload), offset.into(), bytes(data)],
    )?;
    match inserted {
        0 => Err(suppressed(
            store,
            "upload_parts",
            &format!("part at offset {offset} of upload {upload}"),
        )),
        _ => Ok(()),
    }
}

fn remove(store: &Store, upload: Uuid) -> Result<()> {
    store.execute(
        "DELETE FROM @store@.uploads WHERE upload_id = $1",
        &[uuid(upload)],
    )?;
    Ok(())
}

/// What `COPY modelstore.upload FROM STDIN` does with each row.
#[pg_trigger]
fn upload_append<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, PgHeapTupleError> {
    let row = trigger.new();
    if let Some(row) = &row {
        let unreadable = |e: pgrx::datum::TryFromDatumError| {
            Failure::new(
                Code::ERRCODE_DATATYPE_MISMATCH,
                format!("could not read row of upload: {e}"),
            )
        };
        let upload = or_raise(row.get_by_name::<SqlUuid>("upload_id").map_err(unreadable));
        let data = or_raise(row.get_by_name::<&[u8]>("data").map_err(unreadable));
        or_raise(match (upload, data) {
            (Some(upload), Some(data)) => append(from_sql_uuid(upload), data, None),
            _ => Err(Failure::new(
                Code::ERRCODE_NOT_NULL_VIOLATION,
                "upload_id and data must not be null",
            )),
        });
    }
    Ok(row)
}

pgrx::extension_sql_file!(
    "../../../sql/extension/30_upload_view.sql",
    name = "upload_view",
    requires = [upload_append]
);
