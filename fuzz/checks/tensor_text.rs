//! Any text is a tensor or an error; a tensor's text reads back to the same bits.

use modelstore_tensor::text;

/// Panics where a promise does not hold.
pub fn check(input: &str) {
    if let Ok(tensor) = text::parse(input) {
        let mut printed = String::new();
        text::format(&tensor.view(), &mut printed).expect("a string takes all");
        assert_eq!(text::parse(&printed).as_ref(), Ok(&tensor), "{printed}");
    }
}
