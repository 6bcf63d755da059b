//! Runs the check of this name in `checks`, which the crates' tests run on the corpus.

#![no_main]

#[path = "../checks/chunk_decode.rs"]
mod chunk_decode;

libfuzzer_sys::fuzz_target!(|input: &[u8]| chunk_decode::check(input));
