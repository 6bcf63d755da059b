//! This extension in the current database: its types, and whether they are in the expected schema.
#![allow(unsafe_code)]

use crate::error::{Code, Failure, Result};
use crate::pg::invalidation;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

/// The schema named in the control file.
pub const SCHEMA: &CStr = c"modelstore";

thread_local! {
    /// The types, cached for a generation of the catalog.
    static TYPES: Cell<Option<(u64, Types)>> = const { Cell::new(None) };
}

/// OIDs of the extension's types; invalid if the type does not exist.
#[derive(Clone, Copy)]
pub struct Types {
    pub tensor: pg_sys::Oid,
    pub tensor_chunk: pg_sys::Oid,
}

/// Returns the types in this database. Name and schema prove nothing, so a type counts only if it is a base type, which
/// only a superuser can create, and a member of the extension.
pub fn types() -> Types {
    let generation = invalidation::types();
    if let Some((as_of, types)) = TYPES.get()
        && as_of == generation
    {
        return types;
    }
    let types = Types {
        tensor: member(c"tensor"),
        tensor_chunk: member(c"tensor_chunk"),
    };
    TYPES.set(Some((generation, types)));
    types
}

/// Raises an error if the schema of the extension was renamed: statements name functions in it.
pub fn require_schema() -> Result<()> {
    if types().tensor_chunk != pg_sys::InvalidOid {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "extension pg_modelstore is not in the schema \"modelstore\"",
    )
    .detail("Its functions find their types and each other in the schema that CREATE EXTENSION made.")
    .hint("SELECT extname, extnamespace::regnamespace FROM pg_extension WHERE extname = 'pg_modelstore';"))
}

/// Returns whether an object of a catalog is a member of the extension.
pub fn has_member(catalog: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    // SAFETY: main thread, inside a transaction; lookups in the catalog.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"pg_modelstore".as_ptr(), true);
        extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(catalog, object) == extension
    }
}

fn member(name: &CStr) -> pg_sys::Oid {
    // SAFETY: main thread, inside a transaction; lookups in the catalog by constant, nul-terminated names. A tuple of
    // the cache is read before it is released.
    unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return pg_sys::InvalidOid;
        }
        let tuple = pg_sys::SearchSysCache2(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(schema),
        );
        if tuple.is_null() {
            return pg_sys::InvalidOid;
        }
        let row = pgrx::pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_type>();
        let (oid, kind, length) = ((*row).oid, (*row).typtype, (*row).typlen);
        pg_sys::ReleaseSysCache(tuple);
        let is_base = kind as u8 == pg_sys::TYPTYPE_BASE && length == -1;
        if is_base && has_member(pg_sys::TypeRelationId, oid) {
            oid
        } else {
            pg_sys::InvalidOid
        }
    }
}
