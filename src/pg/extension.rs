//! This extension in the current database: its types, and whether they are where functions look for them.
#![allow(unsafe_code)]

use crate::encoding::require_utf8;
use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::invalidation;
use crate::store::query;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

/// The schema that the control file names.
pub const SCHEMA: &CStr = c"modelstore";

thread_local! {
    /// The types, as of a generation of the catalog.
    static TYPES: Cell<Option<(u64, Types)>> = const { Cell::new(None) };
}

/// OIDs of the extension's types; invalid where one is gone.
#[derive(Clone, Copy)]
pub struct Types {
    pub tensor: pg_sys::Oid,
    pub tensor_chunk: pg_sys::Oid,
}

/// The types in this database. A type counts only if it is a base type, which a superuser alone can make, and a member of
/// the extension: a name and a schema can be anybody's.
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

/// Called once, by the script of CREATE EXTENSION, before anything else: an error unless the database's encoding is UTF8 and
/// the schema belongs to the role that installs, or to a superuser, and holds no functions that somebody left there.
#[pgrx::pg_extern(sql = false)]
fn check_installation() {
    or_raise(require_utf8().and_then(|()| check_schema()));
}

fn check_schema() -> Result<()> {
    let found = query::rows(
        "SELECT r.rolname::text, r.rolsuper OR r.oid = e.extowner,
                (SELECT min(p.oid::regprocedure::text) FROM pg_proc p
                 WHERE p.pronamespace = n.oid AND p.proname <> 'check_installation')
         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace JOIN pg_roles r ON r.oid = n.nspowner
         WHERE e.extname = 'pg_modelstore'",
        &[],
        |row| Ok((row.get::<String>(1)?, row.get::<bool>(2)?, row.opt::<String>(3)?)),
    )?;
    match found.first() {
        Some((owner, false, _)) => Err(Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("schema \"modelstore\" belongs to role \"{owner}\""),
        )
        .detail("The extension is installed into a schema of its own, which no other role owns.")
        .hint("ALTER SCHEMA modelstore RENAME TO other;")),
        Some((_, true, Some(function))) => Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("schema \"modelstore\" has functions already, such as {function}"),
        )
        .detail("Calls with untyped literals could find them before those of the extension.")
        .hint("ALTER SCHEMA modelstore RENAME TO other;")),
        _ => Ok(()),
    }
}

/// An error where the schema of the extension was renamed: statements name functions of it.
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

/// Whether an object of a catalog is a member of the extension.
pub fn has_member(catalog: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    // SAFETY: main thread, inside a transaction; look-ups in the catalog.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"pg_modelstore".as_ptr(), true);
        extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(catalog, object) == extension
    }
}

fn member(name: &CStr) -> pg_sys::Oid {
    // SAFETY: main thread, inside a transaction; look-ups in the catalog by constant, nul-terminated names. A tuple of the
    // cache is read before it is released.
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
