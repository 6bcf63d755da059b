//! The bytes of the stored and wire layout, fixed in `golden/*.bin` and quoted in docs/formats.md.

#![allow(clippy::expect_used)]

use modelstore_tensor::{layout, text};
use std::fs;
use std::path::Path;

#[test]
fn golden_values_read_and_are_written_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = [
        ("f32_scalar", "f32:3.5"),
        ("f32_2x3", "f32:[[0,1,2],[3,4,5]]"),
        ("f32_0x3_empty", "f32(0,3):[]"),
        ("bf16_3", "bf16:[1,-0,Infinity]"),
        ("i64_2", "i64:[-1,9223372036854775807]"),
        ("bool_2x1", "bool:[[true],[false]]"),
        ("f4_2x4", "f4(2,4):\\x01234567"),
    ];
    assert_eq!(
        fs::read_dir(&folder).expect("the folder").count(),
        cases.len()
    );
    for (name, expected) in cases {
        let bytes = fs::read(folder.join(format!("{name}.bin"))).expect("the file");
        let view = layout::read(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut printed = String::new();
        text::format(&view, &mut printed).expect("a string takes all");
        assert_eq!(printed, expected, "{name}");
        let parsed = text::parse(expected).expect("a tensor");
        assert_eq!(layout::write(&parsed.view()), bytes, "{name}");
    }
}
