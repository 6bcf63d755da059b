//! Atoms as geometries, where PostGIS is installed.

use crate::error::{Code, Failure, Result, or_raise};
use crate::store::Store;
use crate::store::query;
use pgrx::prelude::*;

/// Makes the view `atom_geometries` of the current store and returns its name.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn enable_postgis() -> String {
    or_raise(enable())
}

fn enable() -> Result<String> {
    let store = Store::current()?;
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
    let make = store.sql(
        "CREATE OR REPLACE VIEW @store@.atom_geometries WITH (security_invoker = true) AS
         SELECT a.h_xy, a.h_yz, a.h_zm, a.modality, a.byte_length, a.meta,
                @postgis@.st_makepoint(p.x, p.y, p.z, p.m) AS geom
         FROM @store@.atoms a, modelstore.atom_point(a.h_xy, a.h_yz, a.h_zm) p",
    );
    // security_invoker is of 15 and later, as this extension.
    Spi::run(&make.replace("@postgis@", schema))?;
    Spi::run(&store.sql(
        "COMMENT ON VIEW @store@.atom_geometries IS 'Atoms as PostGIS points (x, y, z, m), without a spatial reference system.'",
    ))?;
    Ok(store.sql("@store@.atom_geometries"))
}
