//! What is checked stands in `checks`, where the tests of the crates find it as well.

#![no_main]

#[path = "../checks/tensor_wire.rs"]
mod tensor_wire;

libfuzzer_sys::fuzz_target!(|input: &[u8]| tensor_wire::check(input));
