//! Runs the check of this name in `checks`, which the crates' tests run on the corpus.

#![no_main]

#[path = "../checks/atom_cut.rs"]
mod atom_cut;

libfuzzer_sys::fuzz_target!(|input: &[u8]| atom_cut::check(input));
