//! The text form of a tensor: `bf16:[[1,2],[3,4]]`, `f32:3.5`, `f32(0,3):[]`, `f4(2,4):\x01234567`.
//!
//! Before the colon are the dtype and, if the brackets do not determine it, the shape; without a colon the dtype is
//! f32. Printed text parses to the same bits: integers exactly, floats as the shortest decimal that gives the same
//! number in their dtype, NaNs other than the default one with their bits (`nan(0x7fc00001)`). Dtypes without their own
//! text form, and bools of other bytes than 0 and 1, are hexadecimal digits after a shape.

mod columns;
mod cursor;
mod parse;
mod preview;
mod print;

pub use parse::{parse, parse_as, parse_checked};
pub use preview::{MAX_PREVIEW_ELEMENTS, preview};
pub use print::{format, format_json};

#[cfg(test)]
mod tests;
