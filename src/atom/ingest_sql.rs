//! The SQL functions that ingest data.

use crate::atom::current_store;
use crate::atom::ingest::{About, Ingested, Run, Sources};
use crate::atom::key::modality_argument;
use crate::error::{Code, Failure, Result, or_raise, required};
use crate::io::Source;
use crate::io::bytes::{Bytea, ByteaSource};
use crate::io::joined::Joined;
use crate::io::large_object::LargeObject;
use crate::pg::arguments::to_sql_uuid;
use crate::pg::array::ByteaArray;
use crate::pg::jsonb::Jsonb;
use modelstore_chunk::Memory;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

/// The result of an ingest: its row of the log.
pub type Report = (
    SqlUuid,
    String,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
    i64,
    Option<String>,
);

#[pg_extern(name = "ingest", volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn ingest_bytea(
    data: Option<Bytea<'_>>,
    modality: default!(Option<&str>, "'other'"),
    source_uri: default!(Option<&str>, "NULL"),
    batch_id: default!(Option<SqlUuid>, "NULL"),
    meta: default!(Option<Jsonb<'_>>, "NULL"),
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
    TableIterator::once(or_raise((|| {
        let source = ByteaSource::new(required(data, "data")?);
        one(
            &mut One(source),
            modality,
            About::new(source_uri, batch_id, meta)?,
        )
    })()))
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn ingest_text(
    data: Option<&str>,
    modality: default!(Option<&str>, "'text'"),
    source_uri: default!(Option<&str>, "NULL"),
    batch_id: default!(Option<SqlUuid>, "NULL"),
    meta: default!(Option<Jsonb<'_>>, "NULL"),
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
    TableIterator::once(or_raise((|| {
        let source = Memory(required(data, "data")?.as_bytes());
        one(
            &mut One(source),
            modality,
            About::new(source_uri, batch_id, meta)?,
        )
    })()))
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn ingest_large_object(
    data: Option<pg_sys::Oid>,
    modality: default!(Option<&str>, "'other'"),
    source_uri: default!(Option<&str>, "NULL"),
    batch_id: default!(Option<SqlUuid>, "NULL"),
    meta: default!(Option<Jsonb<'_>>, "NULL"),
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
    TableIterator::once(or_raise((|| {
        let about = About::new(source_uri, batch_id, meta)?;
        one(&mut Object(required(data, "data")?), modality, about)
    })()))
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn ingest_many(
    contents: Option<ByteaArray<'_>>,
    modality: default!(Option<&str>, "'other'"),
    source_uri: default!(Option<&str>, "NULL"),
    batch_id: default!(Option<SqlUuid>, "NULL"),
    meta: default!(Option<Jsonb<'_>>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(content_index, i64),
        name!(h_xy, i64),
        name!(h_yz, i64),
        name!(h_zm, i64),
        name!(byte_length, i64),
        name!(is_new, bool),
    ),
> {
    let ingested = or_raise((|| {
        let contents = required(contents, "contents")?;
        let about = About::new(source_uri, batch_id, meta)?;
        run(modality, about)?.ingest(&mut Many(contents.views()?))
    })());
    let roots = ingested
        .outcome
        .map_or_else(|_| Vec::new(), |done| done.roots);
    TableIterator::new(
        roots
            .into_iter()
            .enumerate()
            .map(|(index, (key, bytes, is_new))| {
                let index = index as i64 + 1;
                (index, key.h_xy, key.h_yz, key.h_zm, bytes as i64, is_new)
            }),
    )
}

fn run<'a>(modality: Option<&str>, about: About<'a>) -> Result<Run<'a>> {
    Ok(Run {
        modality: required(modality_argument(modality)?, "modality")?,
        store: current_store()?,
        about,
    })
}

fn one(sources: &mut dyn Sources, modality: Option<&str>, about: About<'_>) -> Result<Report> {
    report(run(modality, about)?.ingest(sources)?)
}

/// Converts the result of a run of one content.
pub fn report(Ingested { id, outcome }: Ingested) -> Result<Report> {
    let id = to_sql_uuid(id);
    Ok(match outcome {
        Ok(done) => {
            let Some(&(key, bytes, _)) = done.roots.first() else {
                return Err(Failure::new(
                    Code::ERRCODE_INTERNAL_ERROR,
                    "nothing was ingested",
                ));
            };
            let counts = done.counts;
            (
                id,
                "completed".to_owned(),
                Some(key.h_xy),
                Some(key.h_yz),
                Some(key.h_zm),
                Some(bytes as i64),
                counts.created,
                counts.updated,
                counts.skipped,
                None,
            )
        }
        Err(failure) => {
            let error = Some(failure.message().to_owned());
            (
                id,
                "failed".to_owned(),
                None,
                None,
                None,
                None,
                0,
                0,
                0,
                error,
            )
        }
    })
}

/// A source that is already open.
struct One<S>(S);

impl<S: Source> Sources for One<S> {
    fn each(&mut self, take: &mut dyn FnMut(&mut dyn Source, u64) -> Result<()>) -> Result<()> {
        take(&mut self.0, 0)
    }

    fn joined(&mut self) -> Result<Box<dyn Source + '_>> {
        Ok(Box::new(&mut self.0))
    }
}

/// A large object, opened inside the run, so that a missing one is a failure in the log.
pub struct Object(pub pg_sys::Oid);

impl Sources for Object {
    fn each(&mut self, take: &mut dyn FnMut(&mut dyn Source, u64) -> Result<()>) -> Result<()> {
        take(&mut LargeObject::open(self.0)?, 0)
    }

    fn joined(&mut self) -> Result<Box<dyn Source + '_>> {
        Ok(Box::new(LargeObject::open(self.0)?))
    }
}

/// The elements of an array.
struct Many<'a>(Vec<&'a [u8]>);

impl Sources for Many<'_> {
    fn each(&mut self, take: &mut dyn FnMut(&mut dyn Source, u64) -> Result<()>) -> Result<()> {
        let mut base = 0;
        for content in &self.0 {
            take(&mut Memory(content), base)?;
            base += content.len() as u64;
        }
        Ok(())
    }

    fn joined(&mut self) -> Result<Box<dyn Source + '_>> {
        Ok(Box::new(Joined::new(&self.0)))
    }
}
