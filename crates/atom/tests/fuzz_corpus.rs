//! Runs the fuzz targets' functions on the seed corpus and on past findings, so that a change that breaks one fails
//! here.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../fuzz/checks/atom_cut.rs"]
mod atom_cut;
#[path = "../../../fuzz/checks/corpus.rs"]
mod corpus;

#[test]
fn every_input_of_atom_cut() {
    corpus::replay("atom_cut", env!("CARGO_TARGET_TMPDIR"), atom_cut::check);
}
