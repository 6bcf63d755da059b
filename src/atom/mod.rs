//! The module of atoms: any data, split into content-addressed pieces that are ordered along Hilbert curves.
//!
//! [`collect`] splits a source into [`pending`] atoms, [`write`] writes their rows, [`ingest`] runs both and logs the
//! run; [`reconstruct`] reassembles an atom, [`references`] releases it; [`spatial`] searches what [`places`] reads.

mod argument;
mod chunk_leaves;
mod collect;
mod contents;
mod find;
mod hilbert;
mod ingest;
mod ingest_sql;
mod key;
mod many;
mod nearest;
mod part_rows;
mod path;
mod pending;
mod places;
mod postgis;
mod queue;
mod reconstruct;
mod reference_counts;
mod references;
pub mod security;
mod span;
mod statement;
mod summary;
mod verify;
mod write;

pgrx::extension_sql_file!(
    "../../sql/extension/40_atom_settings.sql",
    name = "atom_settings",
    requires = [
        "atom_type",
        ingest_sql::ingest_bytea,
        ingest_sql::ingest_text,
        ingest_sql::ingest_large_object,
        ingest_sql::ingest_many,
        queue::run_queued_ingests,
        reconstruct::reconstruct,
        reconstruct::reconstruct_parts,
        reconstruct::reconstruct_bytes,
        reconstruct::reconstruct_lines,
        find::find_atom,
        find::find_content,
        references::release,
        references::atoms_gc,
        nearest::nearest,
        nearest::nearest_points,
        nearest::within_box,
        nearest::within_radius,
        path::find_path,
        key::atom_key,
        key::atom_point,
        hilbert::hilbert_decode_cell,
        hilbert::hilbert_decode_many,
        summary::refresh_spatial_summary,
        verify::verify_atoms
    ]
);

use crate::error::Result;
use crate::pg::query;
use crate::store::Store;
use crate::store::module::{self, Module};
use modelstore_atom::Partitions;

/// Opt-in.
pub const MODULE: Module = Module {
    partitions: Some(module::Partitions {
        choices: Partitions::CHOICES,
        default: 256,
        ddl: partitions,
    }),
    optional_views: &["atom_geometries"],
    holds: &[("atoms", "atoms")],
    ..Module::new("atoms", include_str!("../../sql/store/07_atoms.sql"))
};

/// Returns the current store for a function that may write.
pub fn current_store() -> Result<Store> {
    planned(Store::current()?.with(&MODULE)?)
}

/// Returns the current store for a STABLE function.
pub fn store_for_reading() -> Result<Store> {
    planned(Store::for_reading()?.with(&MODULE)?)
}

/// The functions of atoms have their statements planned once a session; Citus cannot plan without the parameters. The end
/// of the function takes the setting back.
fn planned(store: Store) -> Result<Store> {
    if store.is_distributed() {
        query::rows(
            "SELECT set_config('plan_cache_mode', 'auto', true) WHERE current_setting('plan_cache_mode') = 'force_generic_plan'",
            &[],
            |_| Ok(()),
        )?;
    }
    Ok(store)
}

/// Returns the DDL of the partitions of `atoms`. Their fillfactor leaves room on each page, so that changing a count
/// does not touch the indexes.
fn partitions(count: i32) -> String {
    let partitions = Partitions::new(count).unwrap_or(Partitions::FINEST);
    let partition = |number| {
        let (first, end) = partitions.bounds(number);
        let modality = partitions.modality(number).map_or("", |m| m.name());
        format!(
            "CREATE TABLE @store@.atoms_{number:03}_{modality} PARTITION OF @store@.atoms
             FOR VALUES FROM ({first}) TO ({end}) WITH (fillfactor = 90);
             ALTER TABLE @store@.atoms_{number:03}_{modality} REPLICA IDENTITY USING INDEX atoms_{number:03}_{modality}_h_xy_h_yz_h_zm_idx;\n"
        )
    };
    partitions.of(None).map(partition).collect()
}
