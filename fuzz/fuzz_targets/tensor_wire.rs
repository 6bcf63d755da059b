//! Runs the check of this name in `checks`, which the crates' tests run on the corpus.

#![no_main]

#[path = "../checks/tensor_wire.rs"]
mod tensor_wire;

libfuzzer_sys::fuzz_target!(|input: &[u8]| tensor_wire::check(input));
