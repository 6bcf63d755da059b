//! What fuzzing starts from, and what it found, through what is fuzzed: a change that breaks one of those inputs is told here.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../fuzz/checks/atom_cut.rs"]
mod atom_cut;
#[path = "../../../fuzz/checks/corpus.rs"]
mod corpus;

#[test]
fn every_input_of_atom_cut() {
    corpus::replay("atom_cut", env!("CARGO_TARGET_TMPDIR"), atom_cut::check);
}
