//! Runs the check of this name in `checks`, which the crates' tests run on the corpus.

#![no_main]

#[path = "../checks/tensor_text.rs"]
mod tensor_text;

libfuzzer_sys::fuzz_target!(|input: &str| tensor_text::check(input));
