//! What is checked stands in `checks`, where the tests of the crates find it as well.

#![no_main]

#[path = "../checks/tensor_text.rs"]
mod tensor_text;

libfuzzer_sys::fuzz_target!(|input: &str| tensor_text::check(input));
