//! Model file formats, read and written without PostgreSQL and without loading a model into memory.
//!
//! [`safetensors`] reads and writes headers and shard indexes; the caller streams the tensors' bytes. [`model_delta`]
//! is the file that contains a model as a difference to another. [`architecture`] derives the role of each tensor from
//! names, shapes and a configuration; [`config_json`] reads that, [`model_card`] the README, whose front matter is [`yaml`].

pub mod architecture;
pub mod config_json;
pub mod error;
pub mod file_name;
mod json;
pub mod model_card;
pub mod model_delta;
pub mod other_format;
pub mod safetensors;
pub mod weight_files;
pub mod yaml;

pub use error::{Document, Error, ErrorKind, Result};
