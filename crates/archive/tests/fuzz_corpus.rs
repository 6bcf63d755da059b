//! Runs the fuzz target's function on the seed corpus and on past findings.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../fuzz/checks/archive.rs"]
mod archive;
#[path = "../../../fuzz/checks/corpus.rs"]
mod corpus;

#[test]
fn every_input_of_archive() {
    corpus::replay("archive", env!("CARGO_TARGET_TMPDIR"), archive::check);
}
