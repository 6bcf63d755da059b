//! Ingests that are queued first and run later, by any session.

use crate::atom::current_store;
use crate::atom::ingest::{About, Run};
use crate::atom::ingest_sql::{Object, Report, report};
use crate::atom::key::modality_argument;
use crate::error::{Code, Failure, Result, or_raise, required};
use crate::pg::arguments::{from_sql_uuid, maybe_uuid, now, to_sql_uuid, uuid};
use crate::pg::jsonb::Jsonb;
use crate::pg::query::refuse_during_recovery;
use crate::store::Store;
use modelstore_atom::Modality;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn queue_ingest(
    data: Option<pg_sys::Oid>,
    modality: default!(Option<&str>, "'other'"),
    source_uri: default!(Option<&str>, "NULL"),
    batch_id: default!(Option<SqlUuid>, "NULL"),
    meta: default!(Option<Jsonb<'_>>, "NULL"),
) -> SqlUuid {
    or_raise((|| {
        let about = About::new(source_uri, batch_id, meta)?;
        let modality = required(modality_argument(modality)?, "modality")?;
        let data = required(data, "data")?;
        let store = current_store()?;
        refuse_during_recovery()?;
        let id = about.log(&store, modality, "pending", Some(data))?;
        Ok(to_sql_uuid(id))
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn run_queued_ingests(
    max_runs: default!(Option<i32>, "NULL"),
    batch_id: default!(Option<SqlUuid>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(ingestion_id, SqlUuid),
        name!(status, String),
        name!(h_xy, Option<i64>),
        name!(h_yz, Option<i64>),
        name!(h_zm, Option<i64>),
        name!(byte_length, Option<i64>),
        name!(created, i64),
        name!(updated, i64),
        name!(skipped, i64),
        name!(error, Option<String>),
    ),
> {
    TableIterator::new(or_raise(run(max_runs, batch_id)))
}

fn run(max_runs: Option<i32>, batch_id: Option<SqlUuid>) -> Result<std::vec::IntoIter<Report>> {
    if let Some(max) = max_runs.filter(|max| *max < 0) {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("maximum of runs {max} is out of range"),
        )
        .detail("It is 0 or more, or NULL for all."));
    }
    let store = current_store()?;
    let batch_id = batch_id.map(from_sql_uuid);
    let mut reports = Vec::new();
    while max_runs.is_none_or(|max| reports.len() < max as usize) {
        let Some((id, modality, data)) = next(&store, batch_id)? else {
            break;
        };
        let run = Run {
            store: store.clone(),
            modality,
            about: About::new(None, None, None)?,
        };
        reports.push(report(run.ingest_as(id, &mut Object(data))?)?);
        pgrx::check_for_interrupts!();
    }
    Ok(reports.into_iter())
}

/// Marks the oldest queued ingest that no other session runs as running. Only of this role: another one could have queued a
/// large object that it may not read itself.
fn next(
    store: &Store,
    batch_id: Option<uuid::Uuid>,
) -> Result<Option<(uuid::Uuid, Modality, pg_sys::Oid)>> {
    let queued = store.write(
        "SELECT ingestion_id, modality, large_object FROM @store@.ingestion_log
         WHERE status = 'pending' AND created_by = current_user AND ($1 IS NULL OR batch_id = $1)
         ORDER BY started_at, ingestion_id LIMIT 1 FOR UPDATE SKIP LOCKED",
        &[maybe_uuid(batch_id)],
        |row| {
            let modality = Modality::from_number(row.get::<i16>(2)?.into())?;
            let data = row.opt::<pg_sys::Oid>(3)?.unwrap_or(pg_sys::Oid::INVALID);
            Ok((from_sql_uuid(row.get::<SqlUuid>(1)?), modality, data))
        },
    )?;
    let Some(queued) = queued.into_iter().next() else {
        return Ok(None);
    };
    store.execute(
        "UPDATE @store@.ingestion_log SET status = 'running', started_at = $2 WHERE ingestion_id = $1",
        &[uuid(queued.0), now()],
    )?;
    Ok(Some(queued))
}
