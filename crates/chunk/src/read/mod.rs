//! Reads stored tensors through the port: whole, in ranges, or scattered elements.

mod chain;
mod coverage;
mod gather;
mod raw_bytes;
mod stream;

pub use chain::{Chain, ChainReader};
pub use coverage::Coverage;
pub use gather::{Gather, Run};
pub use raw_bytes::RawBytes;
pub use stream::{ChunkStream, Outcome, Wanted};

use crate::{ChunkHash, Error};

/// Why a chunk could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError<E> {
    /// The store failed.
    Store(E),
    /// The chunk, or a base of it, does not exist.
    Missing(ChunkHash),
    /// The chunk, or a base of it, does not decode to its hash.
    Corrupt(ChunkHash, Error),
}

impl<E> ReadError<E> {
    /// Returns the message for a tensor whose chunk is unreadable; the store's own error otherwise.
    pub fn about(self, label: &str) -> Result<String, E> {
        match self {
            ReadError::Store(e) => Err(e),
            ReadError::Missing(hash) => {
                Ok(format!("chunk {hash} of tensor \"{label}\" is missing"))
            }
            ReadError::Corrupt(hash, error) => Ok(format!(
                "chunk {hash} of tensor \"{label}\" is corrupted: {error}"
            )),
        }
    }
}

impl<E: From<Error>> ReadError<E> {
    /// Returns the error to report for a chunk of a tensor.
    pub fn of(self, label: &str) -> E {
        match self.about(label) {
            Ok(message) => Error::DamagedChunk(message).into(),
            Err(e) => e,
        }
    }
}
