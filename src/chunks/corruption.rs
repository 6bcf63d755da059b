//! Errors for damaged data: XX001, with a HINT that runs the check that finds all damage.

use crate::error::{Code, Failure};
use modelstore_chunk::ChunkHash;

/// A problem that a single read met.
pub fn corrupted(message: String) -> Failure {
    Failure::new(Code::ERRCODE_DATA_CORRUPTED, message)
        .hint("SELECT * FROM modelstore.verify_store();")
}

/// A chunk that does not decode to what its hash says.
pub fn corrupt_chunk(hash: &ChunkHash, label: &str, error: modelstore_chunk::Error) -> Failure {
    corrupted(format!(
        "chunk {hash} of tensor \"{label}\" is corrupted: {error}"
    ))
}

/// A chunk that is not there.
pub fn missing_chunk(hash: &ChunkHash, label: &str) -> Failure {
    corrupted(format!("chunk {hash} of tensor \"{label}\" is missing"))
}
