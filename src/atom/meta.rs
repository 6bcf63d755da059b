//! What users keep with an atom, and who may see it.

use crate::atom::argument::{AtomArgument, key_argument};
use crate::atom::reconstruct::missing;
use crate::error::{Result, or_raise};
use crate::jsonb::Jsonb;
use crate::store::Store;
use crate::store::arguments::maybe_jsonb;
use pgrx::prelude::*;

/// Tables with policies.
const SECURED: [&str; 4] = ["atoms", "atom_parts", "atom_chunks", "ingestion_log"];

/// Sets an atom's meta and returns its new version.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_atom_meta(atom: Option<AtomArgument>, meta: Option<Jsonb<'_>>) -> i32 {
    or_raise((|| {
        let key = key_argument(atom, "atom")?;
        let versions = Store::current()?.write(
            "UPDATE @store@.atoms SET meta = $4, version = version + 1, updated_at = now(), updated_by = current_user
             WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3 RETURNING version",
            &[
                key.h_xy.into(),
                key.h_yz.into(),
                key.h_zm.into(),
                maybe_jsonb(meta.as_ref()),
            ],
            |row| row.get::<i32>(1),
        )?;
        versions.first().copied().ok_or_else(|| missing(key))
    })())
}

/// Switches row-level security of the store's atoms on or off, and says which it is. The owner of the tables still sees
/// everything.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn secure_atoms(enable: default!(bool, true)) -> bool {
    or_raise((|| {
        let store = Store::current()?;
        let action = if enable { "ENABLE" } else { "DISABLE" };
        for table in SECURED {
            store.execute(
                &format!("ALTER TABLE @store@.{table} {action} ROW LEVEL SECURITY"),
                &[],
            )?;
        }
        Ok::<bool, crate::error::Failure>(enable)
    })())
}

/// Brings `atom_spatial_summary` up to date; readers see the old one meanwhile.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn refresh_spatial_summary() {
    let refresh = || -> Result<()> {
        Store::current()?.execute(
            "REFRESH MATERIALIZED VIEW CONCURRENTLY @store@.atom_spatial_summary",
            &[],
        )?;
        Ok(())
    };
    or_raise(refresh())
}
