//! What is checked stands in `checks`, where the tests of the crates find it as well.

#![no_main]

#[path = "../checks/chunk_decode.rs"]
mod chunk_decode;

libfuzzer_sys::fuzz_target!(|input: &[u8]| chunk_decode::check(input));
