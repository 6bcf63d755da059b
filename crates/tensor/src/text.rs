//! The text form of a tensor: `bf16:[[1,2],[3,4]]`, `f32:3.5`, `f32(0,3):[]`, `f4(2,4):\x01234567`.
//!
//! In front of the colon stands the dtype and, where the brackets cannot say it, the shape; without a colon the dtype
//! is f32. What is printed reads back bit for bit: integers exactly, floats as the shortest decimal that gives the
//! same number in their dtype, NaNs other than the plain one with their bits (`nan(0x7fc00001)`). Dtypes without text
//! of their own, and bools of other bytes than 0 and 1, are hexadecimal digits after a shape.

mod cursor;
mod parse;
mod print;

pub use parse::{parse, parse_checked};
pub use print::{format, format_json};

#[cfg(test)]
mod tests;
