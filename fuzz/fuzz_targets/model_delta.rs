//! What is checked stands in `checks`, where the tests of the crates find it as well.

#![no_main]

#[path = "../checks/model_delta.rs"]
mod model_delta;

libfuzzer_sys::fuzz_target!(|input: &[u8]| model_delta::check(input));
