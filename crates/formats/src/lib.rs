//! Model file formats, read and written without PostgreSQL and without holding a model in memory.
//!
//! [`safetensors`] reads and writes headers and shard indexes; the tensor bytes themselves are streamed by the
//! caller. [`model_delta`] is the file in which a model travels as a difference to another. [`architecture`] tells from
//! names, shapes and a configuration what each tensor is for.

pub mod architecture;
pub mod error;
mod json;
pub mod model_delta;
pub mod other_format;
pub mod safetensors;

pub use error::{Document, Error, ErrorKind, Result};
