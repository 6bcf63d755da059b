//! Runs the check of this name in `checks`, which the crates' tests run on the corpus.

#![no_main]

#[path = "../checks/safetensors_header.rs"]
mod safetensors_header;

libfuzzer_sys::fuzz_target!(|input: &[u8]| safetensors_header::check(input));
