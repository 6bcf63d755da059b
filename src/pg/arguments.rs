//! Parameters of statements on a store's tables, each with its SQL type.
#![allow(unsafe_code)]

use crate::pg::extension;
use crate::pg::jsonb::Jsonb;
use crate::pg::varlena::Building;
use pgrx::datum::{DatumWithOid, IntoDatum, Uuid};
use pgrx::pg_sys;

/// A uuid.
pub fn uuid<'a>(id: uuid::Uuid) -> DatumWithOid<'a> {
    DatumWithOid::from(Uuid::from_bytes(*id.as_bytes()))
}

/// A uuid or NULL.
pub fn maybe_uuid<'a>(id: Option<uuid::Uuid>) -> DatumWithOid<'a> {
    DatumWithOid::from(id.map(|id| Uuid::from_bytes(*id.as_bytes())))
}

/// Text.
pub fn text<'a>(text: &str) -> DatumWithOid<'a> {
    // SAFETY: the datum is palloc'd now and of type text.
    unsafe { DatumWithOid::new(text.into_datum().map(Raw), pg_sys::TEXTOID) }
}

/// Text or NULL.
pub fn maybe_text<'a>(value: Option<&str>) -> DatumWithOid<'a> {
    value.map_or_else(|| DatumWithOid::null_oid(pg_sys::TEXTOID), text)
}

/// Bytes.
pub fn bytes<'a>(bytes: &[u8]) -> DatumWithOid<'a> {
    // SAFETY: the datum is palloc'd now and of type bytea.
    unsafe { DatumWithOid::new(bytes.into_datum().map(Raw), pg_sys::BYTEAOID) }
}

/// Bytes or NULL.
pub fn maybe_bytes<'a>(value: Option<&[u8]>) -> DatumWithOid<'a> {
    value.map_or_else(|| DatumWithOid::null_oid(pg_sys::BYTEAOID), bytes)
}

/// bytea[].
pub fn bytes_array<'a>(items: Vec<Vec<u8>>) -> DatumWithOid<'a> {
    DatumWithOid::from(items)
}

/// jsonb or NULL.
pub fn maybe_jsonb<'a>(value: Option<&'a Jsonb<'a>>) -> DatumWithOid<'a> {
    match value {
        // SAFETY: the datum is a whole jsonb value that outlives the statement it is passed to.
        Some(value) => unsafe { DatumWithOid::new(Some(Raw(value.0.datum())), pg_sys::JSONBOID) },
        None => DatumWithOid::null_oid(pg_sys::JSONBOID),
    }
}

/// A finished `tensor_chunk` value.
pub fn chunk<'a>(value: &Building) -> DatumWithOid<'a> {
    // SAFETY: the value is a complete varlena of this type that outlives the statement it is passed to.
    unsafe { DatumWithOid::new(Some(Raw(value.datum())), extension::types().tensor_chunk) }
}

/// A datum passed as it is.
struct Raw(pg_sys::Datum);

impl IntoDatum for Raw {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}

/// Converts SQL's uuid to the crate's.
pub fn from_sql_uuid(id: Uuid) -> uuid::Uuid {
    uuid::Uuid::from_bytes(*id.as_bytes())
}

/// Converts the crate's uuid to SQL's.
pub fn to_sql_uuid(id: uuid::Uuid) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// The time, as `clock_timestamp()` gives it. An UPDATE of a distributed table cannot call that itself.
pub fn now<'a>() -> DatumWithOid<'a> {
    pgrx::datetime::clock_timestamp().into()
}
