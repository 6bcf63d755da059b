//! The ports: what the algorithms of this crate need from a store, a source of bytes, and their session.
//!
//! A database implements them with statements; [`MemoryStore`] and [`Memory`] implement them in memory, for tests.

mod memory;
mod source;
mod tensor;

pub use memory::{Call, MemoryStore};
pub use source::{Memory, Source};
pub use tensor::{Identity, NewTensor, StoredPiece, StoredTensor, TensorStore};

use std::collections::{BTreeMap, HashMap};

use crate::{ChunkHash, Error, Pipeline, Workers};

/// The longest chain of deltas on a chunk without a base.
pub const MAX_DELTA_DEPTH: usize = 4;

/// Encoded chunks up to this size are read and inserted in batches.
pub const SMALL_CHUNK: usize = 32 << 10;

/// A store of encoded chunks, each named by the hash of its raw bytes.
///
/// A writer locks the chunks that it reuses, then adds the others in the order of their hashes. The same order for all
/// writers prevents deadlocks.
pub trait ChunkStore {
    /// Errors of the store.
    type Error: From<Error>;

    /// Returns the records of those chunks that exist, and protects them from gc until the transaction ends. `hashes`
    /// is sorted, without duplicates.
    fn lock(&mut self, hashes: &[ChunkHash]) -> Result<BTreeMap<ChunkHash, Recorded>, Self::Error>;

    /// Returns the encoded bytes of the deltas on each of these chunks: their sum, or that of many of them. Chunks without
    /// deltas may be left out. `hashes` is sorted, without duplicates.
    fn bytes_of_deltas(
        &mut self,
        hashes: &[ChunkHash],
    ) -> Result<HashMap<ChunkHash, i64>, Self::Error>;

    /// Inserts chunks that do not exist, and protects all of them from gc until the transaction ends. Returns for each
    /// whether it was inserted. Chunks are passed in the order of hashes, also across calls.
    fn add(&mut self, chunks: &[NewChunk]) -> Result<Vec<bool>, Self::Error>;

    /// Replaces a chunk that exists but does not decode to its hash by one without a base, and tells the user. Deltas
    /// on it stay valid: the raw bytes of their base do not change.
    fn replace(
        &mut self,
        hash: &ChunkHash,
        encoded: &[u8],
        raw_bytes: u32,
    ) -> Result<(), Self::Error>;

    /// Replaces the content of `out` by an encoded chunk. Returns false if it does not exist.
    fn read(&mut self, hash: &ChunkHash, out: &mut Vec<u8>) -> Result<bool, Self::Error>;

    /// Returns the encoded bytes of those chunks that exist, in one call: for chunks of at most [`SMALL_CHUNK`].
    fn read_small(
        &mut self,
        hashes: &[ChunkHash],
    ) -> Result<HashMap<ChunkHash, Vec<u8>>, Self::Error>;

    /// Calls `visit` with a chunk where it is stored. Returns false if it does not exist.
    fn visit(
        &mut self,
        hash: &ChunkHash,
        visit: &mut dyn FnMut(&dyn EncodedChunk),
    ) -> Result<bool, Self::Error>;
}

impl<S: ChunkStore> ChunkStore for &mut S {
    type Error = S::Error;

    fn lock(&mut self, hashes: &[ChunkHash]) -> Result<BTreeMap<ChunkHash, Recorded>, S::Error> {
        (**self).lock(hashes)
    }

    fn bytes_of_deltas(
        &mut self,
        hashes: &[ChunkHash],
    ) -> Result<HashMap<ChunkHash, i64>, S::Error> {
        (**self).bytes_of_deltas(hashes)
    }

    fn add(&mut self, chunks: &[NewChunk]) -> Result<Vec<bool>, S::Error> {
        (**self).add(chunks)
    }

    fn replace(
        &mut self,
        hash: &ChunkHash,
        encoded: &[u8],
        raw_bytes: u32,
    ) -> Result<(), S::Error> {
        (**self).replace(hash, encoded, raw_bytes)
    }

    fn read(&mut self, hash: &ChunkHash, out: &mut Vec<u8>) -> Result<bool, S::Error> {
        (**self).read(hash, out)
    }

    fn read_small(
        &mut self,
        hashes: &[ChunkHash],
    ) -> Result<HashMap<ChunkHash, Vec<u8>>, S::Error> {
        (**self).read_small(hashes)
    }

    fn visit(
        &mut self,
        hash: &ChunkHash,
        visit: &mut dyn FnMut(&dyn EncodedChunk),
    ) -> Result<bool, S::Error> {
        (**self).visit(hash, visit)
    }
}

/// An encoded chunk in the store, of which parts can be read.
pub trait EncodedChunk {
    /// Calls `read` with `len` bytes from `offset`, clamped to the end of the chunk.
    fn slice(&self, offset: usize, len: usize, read: &mut dyn FnMut(&[u8]));
}

impl EncodedChunk for Vec<u8> {
    fn slice(&self, offset: usize, len: usize, read: &mut dyn FnMut(&[u8])) {
        let start = offset.min(self.len());
        read(&self[start..offset.saturating_add(len).min(self.len())]);
    }
}

/// The columns of a chunk. They may have been changed by hand, and then contradict the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Raw bytes.
    pub raw_bytes: i32,
    /// Encoded bytes.
    pub stored_bytes: i32,
    /// The base of a delta.
    pub base: Option<ChunkHash>,
    /// Upper bound of the number of deltas below it.
    pub delta_depth: i16,
    /// Actual number of encoded bytes, whatever is recorded.
    pub actual_bytes: i32,
}

/// A chunk to insert.
#[derive(Clone, Debug)]
pub struct NewChunk {
    /// Its key.
    pub hash: ChunkHash,
    /// Its encoded bytes.
    pub encoded: Vec<u8>,
    /// Its raw length.
    pub raw_bytes: u32,
    /// The number of deltas below it: one more than that of its base.
    pub delta_depth: i16,
}

/// The environment of an algorithm: its threads, cancellation, progress.
pub trait Session {
    /// Errors of the session.
    type Error: From<Error>;

    /// Creates a pipeline whose jobs share states such as encoders.
    fn pipeline<S, J, R>(
        &self,
        make: impl Fn() -> S + Send + Sync + 'static,
        run: impl Fn(&mut S, J) -> R + Send + Sync + 'static,
    ) -> Result<Pipeline<'static, J, R>, Self::Error>
    where
        S: Send + 'static,
        J: Send + 'static,
        R: Send + 'static;

    /// Returns an error if the work should stop. Called at least every 20 ms.
    fn check(&self) -> Result<(), Self::Error>;

    /// Counts processed raw bytes.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Waits for the next result of a pipeline.
    fn next<J, R>(&self, pipeline: &mut Pipeline<'static, J, R>) -> Result<Option<R>, Self::Error>
    where
        J: Send + 'static,
        R: Send + 'static,
    {
        pipeline.next(&mut || self.check())
    }

    /// Waits for a condition that other threads fulfil.
    fn wait_until(&self, mut condition: impl FnMut() -> bool) -> Result<(), Self::Error> {
        while !condition() {
            self.check()?;
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        Ok(())
    }
}

impl<C: Session> Session for &C {
    type Error = C::Error;

    fn pipeline<S, J, R>(
        &self,
        make: impl Fn() -> S + Send + Sync + 'static,
        run: impl Fn(&mut S, J) -> R + Send + Sync + 'static,
    ) -> Result<Pipeline<'static, J, R>, C::Error>
    where
        S: Send + 'static,
        J: Send + 'static,
        R: Send + 'static,
    {
        (**self).pipeline(make, run)
    }

    fn check(&self) -> Result<(), C::Error> {
        (**self).check()
    }

    fn advance(&self, bytes: u64) {
        (**self).advance(bytes);
    }
}

/// Worker threads as a session that is never cancelled.
impl Session for &'static Workers {
    type Error = Error;

    fn pipeline<S, J, R>(
        &self,
        make: impl Fn() -> S + Send + Sync + 'static,
        run: impl Fn(&mut S, J) -> R + Send + Sync + 'static,
    ) -> Result<Pipeline<'static, J, R>, Error>
    where
        S: Send + 'static,
        J: Send + 'static,
        R: Send + 'static,
    {
        Ok(Pipeline::with_state(self, make, run))
    }

    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
