//! The tensor value: element types, shapes, borrowed views, and their text and wire forms.
//!
//! Nothing here knows PostgreSQL. A tensor is a [`DType`], a [`Shape`] and little-endian, row-major bytes;
//! [`TensorView`] borrows all three and is the argument of every other module.

// In a test a failed expectation is the message.
#![cfg_attr(test, allow(clippy::expect_used, clippy::unwrap_used))]

pub mod convert;
mod decimal;
pub mod difference;
pub mod dtype;
mod element;
pub mod error;
pub mod float8;
pub mod ggml;
pub mod layout;
pub mod moments;
pub mod order;
pub mod reduce;
pub mod selection;
pub mod shape;
mod simd;
pub mod slice;
mod small_float;
pub mod stats;
pub mod tensor;
pub mod text;
pub mod typmod;
pub mod view;
pub mod zero_rows;

pub use dtype::DType;
pub use error::{Error, Result};
pub use moments::Moments;
pub use selection::Selection;
pub use shape::Shape;
pub use slice::Slice;
pub use stats::Stats;
pub use tensor::Tensor;
pub use view::TensorView;
pub use zero_rows::ZeroRows;
