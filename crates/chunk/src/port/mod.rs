//! The ports: what the algorithms of this crate need of a store, of a source of bytes, and of the session they run in.
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

/// The most deltas between a chunk and bytes that need no base.
pub const MAX_DELTA_DEPTH: usize = 4;

/// Encoded chunks up to this size are read and inserted many at a time.
pub const SMALL_CHUNK: usize = 32 << 10;

/// A store of encoded chunks, each named by the hash of its raw bytes.
///
/// A writer locks what it is about to refer to, then adds the rest in the order of the hashes. One order for all writers
/// keeps them from waiting for each other in a circle.
pub trait ChunkStore {
    /// What the store itself fails with.
    type Error: From<Error>;

    /// What is recorded of those of the chunks that exist. They are kept from the collector until the transaction ends.
    /// `hashes` is sorted and has no duplicates.
    fn lock(&mut self, hashes: &[ChunkHash]) -> Result<BTreeMap<ChunkHash, Recorded>, Self::Error>;

    /// Inserts chunks unless they exist, and keeps all of them from the collector until the transaction ends. Returns for
    /// each whether it was inserted. Chunks are given in the order of the hashes, from one call to the next as well.
    fn add(&mut self, chunks: &[NewChunk]) -> Result<Vec<bool>, Self::Error>;

    /// Replaces the bytes of a chunk that exists but does not decode to its hash by a chunk without a base, and tells the
    /// user. Deltas on it stay as they are: the raw bytes of their base have not changed.
    fn replace(
        &mut self,
        hash: &ChunkHash,
        encoded: &[u8],
        raw_bytes: u32,
    ) -> Result<(), Self::Error>;

    /// Replaces the content of `out` by an encoded chunk. Returns false when it does not exist.
    fn read(&mut self, hash: &ChunkHash, out: &mut Vec<u8>) -> Result<bool, Self::Error>;

    /// The encoded bytes of those of the chunks that exist, in one go: for chunks of at most [`SMALL_CHUNK`].
    fn read_small(
        &mut self,
        hashes: &[ChunkHash],
    ) -> Result<HashMap<ChunkHash, Vec<u8>>, Self::Error>;

    /// Hands over a chunk where it is stored. Returns false when it does not exist.
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

/// An encoded chunk where it is stored, of which parts can be read without the rest.
pub trait EncodedChunk {
    /// Hands over `len` bytes from `offset`, cut at the end of the chunk.
    fn slice(&self, offset: usize, len: usize, read: &mut dyn FnMut(&[u8]));
}

impl EncodedChunk for Vec<u8> {
    fn slice(&self, offset: usize, len: usize, read: &mut dyn FnMut(&[u8])) {
        let start = offset.min(self.len());
        read(&self[start..offset.saturating_add(len).min(self.len())]);
    }
}

/// The columns beside a chunk. They may have been changed by hand, and then disagree with the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Raw bytes.
    pub raw_bytes: i32,
    /// Encoded bytes.
    pub stored_bytes: i32,
    /// The chunk it is a difference to.
    pub base: Option<ChunkHash>,
    /// Deltas below it, at most.
    pub delta_depth: i16,
    /// Encoded bytes there are, whatever is recorded.
    pub actual_bytes: i32,
}

/// A chunk to be inserted.
#[derive(Clone, Debug)]
pub struct NewChunk {
    /// Its key.
    pub hash: ChunkHash,
    /// As it is stored.
    pub encoded: Vec<u8>,
    /// Bytes it decodes to.
    pub raw_bytes: u32,
    /// Deltas below it: one more than its base has.
    pub delta_depth: i16,
}

/// What an algorithm runs in: its threads, its cancel, its progress.
pub trait Session {
    /// What it fails with.
    type Error: From<Error>;

    /// A pipeline whose jobs share states such as encoders.
    fn pipeline<S, J, R>(
        &self,
        make: impl Fn() -> S + Send + Sync + 'static,
        run: impl Fn(&mut S, J) -> R + Send + Sync + 'static,
    ) -> Result<Pipeline<'static, J, R>, Self::Error>
    where
        S: Send + 'static,
        J: Send + 'static,
        R: Send + 'static;

    /// An error when the work shall stop. Called at least every 20 ms.
    fn check(&self) -> Result<(), Self::Error>;

    /// Counts raw bytes that are done.
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

    /// Waits until something that threads bring about is so.
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

/// Worker threads as a session that nobody cancels.
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
