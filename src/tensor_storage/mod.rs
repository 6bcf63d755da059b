//! Module 2, tensor storage: tensors to chunks and back.

pub mod content_hash;
pub mod diff;
pub mod embedding;
pub mod file_hashes;
pub mod find;
pub mod get;
pub mod insert_chunks;
pub mod locate;
pub mod partial;
pub mod progress;
pub mod raw_bytes;
pub mod scan;
pub mod state_dict;
pub mod stream;
pub mod write;
pub mod zone;
