//! Runs the check of this name in `checks`, which the crates' tests run on the corpus.

#![no_main]

#[path = "../checks/model_card.rs"]
mod model_card;

libfuzzer_sys::fuzz_target!(|input: &[u8]| model_card::check(input));
