//! Where chunks are kept: the port, an implementation in memory, and reading through chains of deltas.

use std::collections::BTreeMap;
use std::convert::Infallible;

use crate::{ChunkHash, ChunkHead, Decoder, Error};

/// The most deltas between a chunk and bytes that need no base.
pub const MAX_DELTA_DEPTH: usize = 4;

/// A store of encoded chunks, each named by the hash of its raw bytes.
///
/// A writer calls [`ChunkStore::lock_existing`] with every hash it is about to reference, then inserts in the same
/// order those that do not exist; one order for all writers keeps them from waiting for each other in a circle.
pub trait ChunkStore {
    /// What the store itself fails with.
    type Error;

    /// Tells of each hash whether its chunk exists, and keeps those that do until the caller's transaction ends.
    /// `hashes` is sorted and has no duplicates.
    fn lock_existing(&mut self, hashes: &[ChunkHash]) -> Result<Vec<bool>, Self::Error>;

    /// Adds a chunk; one that exists by now is left as it is.
    fn insert(
        &mut self,
        hash: &ChunkHash,
        encoded: &[u8],
        raw_bytes: u32,
    ) -> Result<(), Self::Error>;

    /// The encoded bytes of a chunk; `None` when it does not exist.
    fn read(&mut self, hash: &ChunkHash) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    chunks: BTreeMap<ChunkHash, Vec<u8>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Encoded bytes of all chunks.
    pub fn stored_bytes(&self) -> u64 {
        self.chunks.values().map(|c| c.len() as u64).sum()
    }

    /// Takes a chunk away, as a collector does.
    pub fn remove(&mut self, hash: &ChunkHash) -> Option<Vec<u8>> {
        self.chunks.remove(hash)
    }
}

impl ChunkStore for MemoryStore {
    type Error = Infallible;

    fn lock_existing(&mut self, hashes: &[ChunkHash]) -> Result<Vec<bool>, Infallible> {
        debug_assert!(
            hashes.is_sorted_by(|a, b| a < b),
            "hashes must be sorted and distinct"
        );
        Ok(hashes.iter().map(|h| self.chunks.contains_key(h)).collect())
    }

    fn insert(&mut self, hash: &ChunkHash, encoded: &[u8], _: u32) -> Result<(), Infallible> {
        self.chunks.entry(*hash).or_insert_with(|| encoded.to_vec());
        Ok(())
    }

    fn read(&mut self, hash: &ChunkHash) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.chunks.get(hash).cloned())
    }
}

/// Why a chunk could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The store failed.
    #[error("{0}")]
    Store(E),
    /// The chunk, or a base of it, is missing or damaged.
    #[error(transparent)]
    Chunk(#[from] Error),
}

/// The raw bytes of a chunk, its bases resolved and its hash checked.
pub fn read_chunk<S: ChunkStore>(
    store: &mut S,
    hash: &ChunkHash,
    decoder: &mut Decoder,
) -> Result<Vec<u8>, ReadError<S::Error>> {
    read_chunk_with_depth(store, hash, decoder).map(|(raw, _)| raw)
}

/// The same, and how many deltas lie between the chunk and bytes that need no base: a chunk may serve as the base
/// of a new delta while that is below [`MAX_DELTA_DEPTH`].
pub fn read_chunk_with_depth<S: ChunkStore>(
    store: &mut S,
    hash: &ChunkHash,
    decoder: &mut Decoder,
) -> Result<(Vec<u8>, usize), ReadError<S::Error>> {
    // Follow the bases down; the bound ends cycles too, which are told apart only for the message.
    let mut chain: Vec<(ChunkHash, Vec<u8>)> = Vec::new();
    let mut next = Some(*hash);
    while let Some(hash) = next {
        if chain.iter().any(|(seen, _)| *seen == hash) {
            return Err(Error::DeltaCycle(hash).into());
        }
        if chain.len() > MAX_DELTA_DEPTH {
            return Err(Error::DeltaTooDeep(chain[0].0).into());
        }
        let chunk = store
            .read(&hash)
            .map_err(ReadError::Store)?
            .ok_or(Error::Missing(hash))?;
        next = ChunkHead::parse(&chunk)?.base;
        chain.push((hash, chunk));
    }
    let depth = chain.len() - 1;
    let (mut raw, mut base) = (Vec::new(), Vec::new());
    for (step, (hash, chunk)) in chain.iter().rev().enumerate() {
        std::mem::swap(&mut raw, &mut base);
        decoder.decode(chunk, (step > 0).then_some(&base[..]), &mut raw)?;
        let actual = ChunkHash::of(&raw);
        if actual != *hash {
            return Err(Error::HashMismatch {
                expected: *hash,
                actual,
            }
            .into());
        }
    }
    Ok((raw, depth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoder;
    use modelstore_tensor::DType;

    /// A store with a chain of `deltas` deltas; returns the raw bytes of the chunk at its end.
    fn chain(deltas: usize) -> (MemoryStore, Vec<u8>) {
        let (mut store, mut encoder, mut out) = (MemoryStore::new(), Encoder::new(), Vec::new());
        let mut raw: Vec<u8> = (0..40_000u32)
            .map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8)
            .collect();
        encoder.encode(DType::F32, &raw, &mut out).expect("encodes");
        store
            .insert(&ChunkHash::of(&raw), &out, 40_000)
            .expect("in memory");
        for i in 0..deltas {
            let base = raw.clone();
            raw[i * 400] ^= 1;
            let hash = ChunkHash::of(&base);
            assert_eq!(
                encoder.encode_delta(DType::F32, &raw, &base, &hash, 20_000, &mut out),
                Ok(true)
            );
            store
                .insert(&ChunkHash::of(&raw), &out, 40_000)
                .expect("in memory");
        }
        (store, raw)
    }

    #[test]
    fn chains_of_four_deltas_read_and_of_five_do_not() {
        for deltas in 0..=4 {
            let (mut store, raw) = chain(deltas);
            let got = read_chunk_with_depth(&mut store, &ChunkHash::of(&raw), &mut Decoder::new());
            assert_eq!(got.expect("reads"), (raw, deltas));
        }
        let (mut store, raw) = chain(5);
        let hash = ChunkHash::of(&raw);
        let got = read_chunk(&mut store, &hash, &mut Decoder::new());
        assert!(matches!(got, Err(ReadError::Chunk(Error::DeltaTooDeep(h))) if h == hash));
    }

    #[test]
    fn damage_is_named() {
        let (mut store, raw) = chain(1);
        let hash = ChunkHash::of(&raw);
        let chunk = store.remove(&hash).expect("is there");
        let base = ChunkHead::parse(&chunk)
            .ok()
            .and_then(|h| h.base)
            .expect("a delta");
        assert!(matches!(
            read_chunk(&mut store, &hash, &mut Decoder::new()),
            Err(ReadError::Chunk(Error::Missing(h))) if h == hash
        ));
        // Under the hash of its base the delta is its own base.
        store.remove(&base);
        store.insert(&base, &chunk, 40_000).expect("in memory");
        assert!(matches!(
            read_chunk(&mut store, &base, &mut Decoder::new()),
            Err(ReadError::Chunk(Error::DeltaCycle(h))) if h == base
        ));
        store.remove(&base);
        let mut out = Vec::new();
        Encoder::new()
            .encode(DType::U8, &raw, &mut out)
            .expect("encodes");
        store.insert(&base, &out, 40_000).expect("in memory");
        assert!(matches!(
            read_chunk(&mut store, &base, &mut Decoder::new()),
            Err(ReadError::Chunk(Error::HashMismatch { expected, actual }))
                if expected == base && actual == hash
        ));
    }

    #[test]
    fn what_exists_is_kept_as_it_is() {
        let mut store = MemoryStore::new();
        let hash = ChunkHash::of(b"a");
        assert_eq!(store.lock_existing(&[hash]), Ok(vec![false]));
        store.insert(&hash, b"one", 1).expect("in memory");
        store.insert(&hash, b"two", 1).expect("in memory");
        assert_eq!(store.lock_existing(&[hash]), Ok(vec![true]));
        assert_eq!((store.len(), store.stored_bytes()), (1, 3));
        assert_eq!(store.read(&hash), Ok(Some(b"one".to_vec())));
    }
}
