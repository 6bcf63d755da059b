//! Inserting encoded chunks, and mending damaged ones.

use modelstore_tensor::DType;

use crate::port::{ChunkStore, NewChunk, SMALL_CHUNK};
use crate::read::Chain;
use crate::write::bases::Usable;
use crate::write::chunks::Inserted;
use crate::write::task::Base;
use crate::{Buffers, ChunkHash, Decoder, Encoder, ReadError};

/// Encoded bytes and rows of a statement of small ones.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_CHUNKS: usize = 1024;

/// Chunks on their way into the store: small ones wait to be inserted together.
#[derive(Default)]
pub struct Inserting {
    batch: Vec<NewChunk>,
    /// Encoded bytes in it.
    waiting: usize,
    /// What has been inserted.
    pub inserted: Inserted,
}

impl Inserting {
    /// Takes a chunk. Returns the hashes of chunks that another transaction has committed first: nobody has looked at its bytes.
    pub fn insert<S: ChunkStore>(
        &mut self,
        store: &mut S,
        buffers: &Buffers,
        new: NewChunk,
    ) -> Result<Vec<ChunkHash>, S::Error> {
        let small = new.encoded.len() <= SMALL_CHUNK;
        let mut others = Vec::new();
        if !small || self.batch.len() >= BATCH_CHUNKS || self.waiting >= BATCH_BYTES {
            others.extend(self.flush(store, buffers)?);
        }
        self.waiting += new.encoded.len();
        self.batch.push(new);
        if !small {
            others.extend(self.flush(store, buffers)?);
        }
        Ok(others)
    }

    /// Inserts what waits. Returns as `insert` does.
    pub fn flush<S: ChunkStore>(
        &mut self,
        store: &mut S,
        buffers: &Buffers,
    ) -> Result<Vec<ChunkHash>, S::Error> {
        if self.batch.is_empty() {
            return Ok(Vec::new());
        }
        self.waiting = 0;
        let batch = std::mem::take(&mut self.batch);
        let new = store.add(&batch)?;
        let mut others = Vec::new();
        for (chunk, new) in batch.into_iter().zip(new) {
            if new {
                self.inserted.chunks += 1;
                self.inserted.stored_bytes += chunk.encoded.len() as u64;
                self.inserted.raw_bytes += u64::from(chunk.raw_bytes);
            } else {
                others.push(chunk.hash);
            }
            buffers.give(chunk.encoded);
        }
        Ok(others)
    }
}

/// A chunk as it is stored; `None` when it, or what it stands on, cannot be read.
pub fn chain<S: ChunkStore>(
    store: &mut S,
    buffers: &Buffers,
    hash: &ChunkHash,
) -> Result<Option<Chain>, S::Error> {
    match Chain::fetch(store, hash, buffers) {
        Ok(chain) => Ok(Some(chain)),
        Err(ReadError::Store(e)) => Err(e),
        Err(_) => Ok(None),
    }
}

/// A base as it is stored; `None` when it cannot be read, or has more deltas below it than its row says: one more on it could
/// not be read.
pub fn base_with_chain<S: ChunkStore>(
    store: &mut S,
    buffers: &Buffers,
    base: &Usable,
) -> Result<Option<Base>, S::Error> {
    let chain = chain(store, buffers, &base.hash)?;
    Ok(chain
        .filter(|chain| chain.deltas() <= base.depth as usize)
        .map(|chain| (*base, chain)))
}

/// Whether a chunk decodes to its hash.
pub fn is_good<S: ChunkStore>(
    store: &mut S,
    buffers: &Buffers,
    hash: &ChunkHash,
) -> Result<bool, S::Error> {
    let chain = chain(store, buffers, hash)?;
    let raw = chain.map(|c| c.decode(&mut Decoder::new(), buffers, buffers));
    Ok(raw.is_some_and(|raw| raw.is_ok()))
}

/// Puts the right bytes, of which `hash` is the hash, in place of a damaged chunk.
pub fn mend<S: ChunkStore>(
    store: &mut S,
    hash: &ChunkHash,
    dtype: DType,
    raw: &[u8],
) -> Result<(), S::Error> {
    let mut encoded = Vec::new();
    Encoder::new().encode(dtype, raw, &mut encoded)?;
    store.replace(hash, &encoded, raw.len() as u32)
}
