//! Module 2, tensor storage: tensors to chunks and back.

pub mod diff;
pub mod embedding;
pub mod find;
pub mod get;
pub mod insert_chunks;
pub mod locate;
pub mod partial;
pub mod raw_bytes;
pub mod scan;
pub mod stream;
pub mod write;
pub mod zone;
