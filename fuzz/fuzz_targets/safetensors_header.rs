//! What is checked stands in `checks`, where the tests of the crates find it as well.

#![no_main]

#[path = "../checks/safetensors_header.rs"]
mod safetensors_header;

libfuzzer_sys::fuzz_target!(|input: &[u8]| safetensors_header::check(input));
