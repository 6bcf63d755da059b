//! Module 2, tensor storage: tensors to chunks and back.

pub mod diff;
pub mod embedding;
pub mod file_hashes;
pub mod find;
pub mod get;
pub mod locate;
pub mod partial;
pub mod progress;
pub mod stream;
pub mod write;
pub mod zone;
