//! Runs the fuzz targets' functions on the seed corpus and on past findings, so that a change that breaks one fails
//! here.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../fuzz/checks/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/checks/tensor_text.rs"]
mod tensor_text;
#[path = "../../../fuzz/checks/tensor_wire.rs"]
mod tensor_wire;

#[test]
fn every_input_of_tensor_text() {
    corpus::replay("tensor_text", env!("CARGO_TARGET_TMPDIR"), |input| {
        // As the fuzzer does with what is no text.
        if let Ok(text) = std::str::from_utf8(input) {
            tensor_text::check(text);
        }
    });
}

#[test]
fn every_input_of_tensor_wire() {
    corpus::replay(
        "tensor_wire",
        env!("CARGO_TARGET_TMPDIR"),
        tensor_wire::check,
    );
}
