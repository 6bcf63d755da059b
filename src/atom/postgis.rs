//! Atoms as geometries, where PostGIS is installed.

use crate::atom::current_store;
use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::query;
use crate::pg::spi;
use pgrx::prelude::*;

/// `@postgis@` is replaced by the schema of PostGIS, `@store@` by that of the store.
const VIEW: &str = include_str!("../../sql/store/optional/atom_geometries.sql");

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn enable_postgis() -> String {
    or_raise(enable())
}

fn enable() -> Result<String> {
    let store = current_store()?;
    let schema = query::rows(
        "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'postgis'",
        &[],
        |row| row.get::<String>(1),
    )?;
    let Some(schema) = schema.first() else {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            "extension \"postgis\" is not installed in this database",
        )
        .hint("CREATE EXTENSION postgis;"));
    };
    query::refuse_during_recovery()?;
    // Replace each in its own step: either name may contain the other's placeholder.
    let pieces: Vec<String> = VIEW.split("@postgis@").map(|sql| store.sql(sql)).collect();
    spi::run_script(&pieces.join(schema))?;
    Ok(store.sql("@store@.atom_geometries"))
}
