//! The summary of where atoms lie.

use crate::atom::current_store;
use crate::error::{Result, or_raise};
use pgrx::prelude::*;

/// Brings `atom_spatial_summary` up to date; readers see the old one meanwhile.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn refresh_spatial_summary() {
    let refresh = || -> Result<()> {
        current_store()?.execute(
            "REFRESH MATERIALIZED VIEW CONCURRENTLY @store@.atom_spatial_summary",
            &[],
        )?;
        Ok(())
    };
    or_raise(refresh())
}
