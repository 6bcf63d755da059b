//! Follows a chunk through its chain of bases.

use std::ops::Range;

use crate::codec::xor_in_place;
use crate::port::{ChunkStore, EncodedChunk, MAX_DELTA_DEPTH};
use crate::read::ReadError;
use crate::{Buffers, ChunkHash, ChunkHead, Decoder, Error, block_index_len, plan_range};

/// Calls `visit` for a chunk, then for its base, and so on to a chunk without a base. `visit` returns the base. The
/// only place that bounds a chain, including a cycle: at most [`MAX_DELTA_DEPTH`] + 1 chunks.
fn walk<E>(
    start: &ChunkHash,
    mut visit: impl FnMut(&ChunkHash) -> Result<Option<ChunkHash>, ReadError<E>>,
) -> Result<(), ReadError<E>> {
    let mut next = Some(*start);
    for _ in 0..=MAX_DELTA_DEPTH {
        let Some(hash) = next else { return Ok(()) };
        next = visit(&hash)?;
        if next == Some(hash) {
            return Err(ReadError::Corrupt(hash, Error::DeltaCycle(hash)));
        }
    }
    match next {
        None => Ok(()),
        Some(_) => Err(ReadError::Corrupt(*start, Error::DeltaTooDeep(*start))),
    }
}

/// A stored chunk with the chunks of its chain, outermost first.
pub struct Chain {
    hash: ChunkHash,
    encoded: Vec<Vec<u8>>,
}

impl Chain {
    /// Wraps a chunk without a base that has already been read.
    pub fn single(hash: ChunkHash, encoded: Vec<u8>) -> Chain {
        Chain {
            hash,
            encoded: vec![encoded],
        }
    }

    /// Reads the chunk and its chain. Buffers come from `buffers`.
    pub fn fetch<S: ChunkStore>(
        store: &mut S,
        hash: &ChunkHash,
        buffers: &Buffers,
    ) -> Result<Chain, ReadError<S::Error>> {
        let mut encoded = Vec::new();
        walk(hash, |hash| {
            let mut chunk = buffers.take();
            if !store.read(hash, &mut chunk).map_err(ReadError::Store)? {
                return Err(ReadError::Missing(*hash));
            }
            let head = ChunkHead::parse(&chunk).map_err(|e| ReadError::Corrupt(*hash, e))?;
            encoded.push(chunk);
            Ok(head.base)
        })?;
        Ok(Chain {
            hash: *hash,
            encoded,
        })
    }

    /// Returns the number of deltas: one less than there are chunks.
    pub fn deltas(&self) -> usize {
        self.encoded.len().saturating_sub(1)
    }

    /// Returns the chunk itself, encoded.
    pub fn outermost(&self) -> &[u8] {
        self.encoded.first().map_or(&[], Vec::as_slice)
    }

    /// Decodes from the chunk without a base outwards, and checks the result against the hash. Buffers come from `raw`;
    /// those of the chain are returned to `encoded`.
    pub fn decode(
        self,
        decoder: &mut Decoder,
        encoded: &Buffers,
        raw: &Buffers,
    ) -> Result<Vec<u8>, Error> {
        let mut base: Option<Vec<u8>> = None;
        for chunk in self.encoded.iter().rev() {
            let mut out = raw.take();
            decoder.decode(chunk, base.as_deref(), &mut out)?;
            if let Some(done) = base.replace(out) {
                raw.give(done);
            }
        }
        self.encoded.into_iter().for_each(|c| encoded.give(c));
        let decoded = base.unwrap_or_default();
        match ChunkHash::of(&decoded) {
            actual if actual == self.hash => Ok(decoded),
            actual => {
                raw.give(decoded);
                Err(Error::HashMismatch {
                    expected: self.hash,
                    actual,
                })
            }
        }
    }
}

/// Reads ranges of chunks, decoding only the blocks that contain the range. Cannot check hashes.
#[derive(Default)]
pub struct ChainReader {
    decoder: Decoder,
}

impl ChainReader {
    /// Creates a reader.
    pub fn new() -> ChainReader {
        ChainReader::default()
    }

    /// Returns bytes `range` of the raw bytes of a chunk.
    pub fn read<S: ChunkStore>(
        &mut self,
        store: &mut S,
        hash: &ChunkHash,
        range: Range<u32>,
    ) -> Result<Vec<u8>, ReadError<S::Error>> {
        let mut sum = None;
        walk(hash, |hash| self.stored(store, hash, &range, &mut sum))?;
        Ok(sum.unwrap_or_default())
    }

    /// Reads a range of a chunk that the caller has; only its bases are read from the store.
    pub fn read_at_hand<S: ChunkStore>(
        &mut self,
        store: &mut S,
        hash: &ChunkHash,
        chunk: &dyn EncodedChunk,
        range: Range<u32>,
    ) -> Result<Vec<u8>, ReadError<S::Error>> {
        let (mut sum, mut at_hand) = (None, Some(chunk));
        walk(hash, |hash| match at_hand.take() {
            Some(chunk) => self
                .add(chunk, &range, &mut sum)
                .map_err(|e| ReadError::Corrupt(*hash, e)),
            None => self.stored(store, hash, &range, &mut sum),
        })?;
        Ok(sum.unwrap_or_default())
    }

    fn stored<S: ChunkStore>(
        &mut self,
        store: &mut S,
        hash: &ChunkHash,
        range: &Range<u32>,
        sum: &mut Option<Vec<u8>>,
    ) -> Result<Option<ChunkHash>, ReadError<S::Error>> {
        let mut base = None;
        let found = store
            .visit(hash, &mut |chunk| base = Some(self.add(chunk, range, sum)))
            .map_err(ReadError::Store)?;
        match base {
            Some(base) if found => base.map_err(|e| ReadError::Corrupt(*hash, e)),
            _ => Err(ReadError::Missing(*hash)),
        }
    }

    /// Decodes a range and XORs it onto that of the chunks above. Returns the base.
    fn add(
        &mut self,
        chunk: &dyn EncodedChunk,
        range: &Range<u32>,
        sum: &mut Option<Vec<u8>>,
    ) -> Result<Option<ChunkHash>, Error> {
        /// One TOAST piece of PostgreSQL. It contains header and index of a chunk of the usual size.
        const FIRST_READ: usize = 1900;
        let plan = slice(chunk, 0, FIRST_READ, |prefix| {
            let head = ChunkHead::parse(prefix)?;
            match block_index_len(&head) {
                needed if needed > prefix.len() => Ok(Err(needed)),
                _ => Ok(Ok(plan_range(prefix, range.clone())?)),
            }
        })?;
        let plan = match plan {
            Ok(plan) => plan,
            Err(needed) => slice(chunk, 0, needed, |prefix| plan_range(prefix, range.clone()))?,
        };
        let fetch = plan.fetch();
        let out = slice(chunk, fetch.start, fetch.len(), |bytes| {
            let mut out = Vec::new();
            self.decoder.decode_range(&plan, bytes, &mut out)?;
            Ok(out)
        })?;
        match sum {
            Some(sum) => xor_in_place(sum, &out),
            None => *sum = Some(out),
        }
        Ok(plan.head().base)
    }
}

/// Returns what `read` makes of a part of a chunk.
fn slice<T>(
    chunk: &dyn EncodedChunk,
    offset: usize,
    len: usize,
    read: impl FnOnce(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    let (mut read, mut done) = (Some(read), None);
    chunk.slice(offset, len, &mut |bytes| {
        done = read.take().map(|read| read(bytes));
    });
    done.unwrap_or(Err(Error::Truncated {
        needed: offset + len,
        actual: 0,
    }))
}
