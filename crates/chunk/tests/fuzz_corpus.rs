//! Runs the fuzz targets' functions on the seed corpus and on past findings, so that a change that breaks one fails
//! here.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../fuzz/checks/chunk_decode.rs"]
mod chunk_decode;
#[path = "../../../fuzz/checks/corpus.rs"]
mod corpus;

#[test]
fn every_input_of_chunk_decode() {
    corpus::replay(
        "chunk_decode",
        env!("CARGO_TARGET_TMPDIR"),
        chunk_decode::check,
    );
}
