//! The summary of where atoms are.

use crate::atom::current_store;
use crate::error::{Result, or_raise};
use pgrx::prelude::*;

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
