//! Runs the fuzz targets' functions on the seed corpus and on past findings, so that a change that breaks one fails
//! here.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../fuzz/checks/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/checks/model_card.rs"]
mod model_card;
#[path = "../../../fuzz/checks/model_delta.rs"]
mod model_delta;
#[path = "../../../fuzz/checks/safetensors_header.rs"]
mod safetensors_header;

#[test]
fn every_input_of_model_card() {
    corpus::replay("model_card", env!("CARGO_TARGET_TMPDIR"), model_card::check);
}

#[test]
fn every_input_of_model_delta() {
    corpus::replay(
        "model_delta",
        env!("CARGO_TARGET_TMPDIR"),
        model_delta::check,
    );
}

#[test]
fn every_input_of_safetensors_header() {
    corpus::replay(
        "safetensors_header",
        env!("CARGO_TARGET_TMPDIR"),
        safetensors_header::check,
    );
}
