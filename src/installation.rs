//! What CREATE EXTENSION checks first: the encoding of the database, and the owner and content of the schema.

use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::encoding::require_utf8;
use crate::pg::query;

/// Called once, first, by the script of CREATE EXTENSION. Raises an error unless the encoding is UTF8, the schema
/// belongs to the installing role or a superuser, and the schema contains no functions.
#[pgrx::pg_extern(sql = false)]
fn check_installation() {
    or_raise(require_utf8().and_then(|()| check_schema()));
}

#[pgrx::pg_extern(immutable, parallel_safe)]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
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
