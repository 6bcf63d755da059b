//! What is checked stands in `checks`, where the tests of the crates find it as well.

#![no_main]

#[path = "../checks/atom_cut.rs"]
mod atom_cut;

libfuzzer_sys::fuzz_target!(|input: &[u8]| atom_cut::check(input));
