//! Module 7, atoms: any data, taken apart into pieces that are named by their content and ordered along Hilbert curves.
//!
//! [`collect`] takes a source apart into [`pending`] atoms, [`write`] makes rows of them, [`ingest`] is a run of both with
//! its row of the log; [`reconstruct`] puts an atom together again, [`references`] lets go of it; [`spatial`] searches
//! what [`places`] reads.

mod argument;
mod chunk_leaves;
mod collect;
mod contents;
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
mod reconstruct;
mod reference_counts;
mod references;
pub mod security;
mod spatial;
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
        reconstruct::reconstruct,
        reconstruct::reconstruct_parts,
        references::release,
        references::atoms_gc,
        nearest::nearest_to_atom,
        nearest::nearest_to_points,
        nearest::within_box,
        nearest::within_radius,
        path::find_path,
        key::atom_key,
        key::atom_point,
        hilbert::hilbert_decode_cell,
        hilbert::hilbert_decode_cells,
        summary::refresh_spatial_summary,
        verify::verify_atoms
    ]
);
