//! Chunks of the store in order, decoded on threads and checked against their hashes.

use crate::background;
use crate::error::{Failure, Result};
use crate::store::Store;
use crate::store::chunks::fetch_encoded;
use crate::store::corruption::{corrupt_chunk, missing_chunk};
use crate::tensor_storage::locate::{StoredPiece, StoredTensor};
use modelstore_chunk::{Buffers, ChunkHash, Decoder, Pipeline};
use std::collections::VecDeque;
use std::rc::Rc;

/// What goes to a thread: the chunk and, for a delta, the chunks it stands on, outermost first.
struct Job {
    chain: Vec<Vec<u8>>,
    hash: ChunkHash,
}

type Decoded = std::result::Result<Vec<u8>, modelstore_chunk::Error>;

/// A chunk's hash, the tensor it is read for, and its raw bytes or what is wrong with it.
pub type Outcome = (ChunkHash, Rc<str>, Result<Vec<u8>>);

/// A stream of raw bytes. Memory is a few chunks, whatever the tensor's size.
pub struct ChunkStream {
    store: Store,
    wanted: VecDeque<(ChunkHash, Rc<str>)>,
    /// What is on the threads, in order; an error of fetching waits here for its turn.
    submitted: VecDeque<(ChunkHash, Rc<str>, Option<Failure>)>,
    pipeline: Pipeline<'static, Job, Decoded>,
    /// Encoded and raw bytes differ in length: apart, a buffer that comes back needs no zeroes at its end.
    encoded: Buffers,
    raw: Buffers,
}

impl ChunkStream {
    /// Chunks in the order given, each with the name of the tensor it is read for.
    pub fn new(store: &Store, wanted: Vec<(ChunkHash, Rc<str>)>) -> Result<ChunkStream> {
        let (encoded, raw) = (Buffers::new(32, 8 << 20), Buffers::new(32, 8 << 20));
        let (free_encoded, free_raw) = (encoded.clone(), raw.clone());
        let pipeline = background::pipeline(Decoder::new, move |decoder, job| {
            decode(decoder, job, &free_encoded, &free_raw)
        })?;
        Ok(ChunkStream {
            store: store.clone(),
            wanted: wanted.into(),
            submitted: VecDeque::new(),
            pipeline,
            encoded,
            raw,
        })
    }

    /// The pieces of one tensor.
    pub fn of_tensor(
        store: &Store,
        tensor: &StoredTensor,
        pieces: Vec<StoredPiece>,
    ) -> Result<ChunkStream> {
        let label: Rc<str> = tensor.label.as_str().into();
        ChunkStream::new(
            store,
            pieces
                .into_iter()
                .map(|p| (p.hash, Rc::clone(&label)))
                .collect(),
        )
    }

    /// The raw bytes of the next chunk; an error when it is missing or not what its hash says.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match self.next_outcome()? {
            Some((_, _, outcome)) => outcome.map(Some),
            None => Ok(None),
        }
    }

    /// The same for a reader that goes on after a bad chunk.
    pub fn next_outcome(&mut self) -> Result<Option<Outcome>> {
        self.fill()?;
        let Some((hash, label, failure)) = self.submitted.pop_front() else {
            return Ok(None);
        };
        if let Some(failure) = failure {
            return Ok(Some((hash, label, Err(failure))));
        }
        let outcome = match background::next(&mut self.pipeline)? {
            Some(Ok(raw)) => Ok(raw),
            Some(Err(e)) => Err(corrupt_chunk(&hash, &label, e)),
            None => Err(missing_chunk(&hash, &label)),
        };
        // The next read overlaps with whatever the caller does with this chunk.
        self.fill()?;
        Ok(Some((hash, label, outcome)))
    }

    /// Gives the memory of a chunk back for the next one.
    pub fn recycle(&self, raw: Vec<u8>) {
        self.raw.give(raw);
    }

    fn fill(&mut self) -> Result<()> {
        while !self.pipeline.is_full()
            && let Some((hash, label)) = self.wanted.pop_front()
        {
            let failure = match fetch_encoded(&self.store, &hash, &label, &self.encoded) {
                Ok(chain) => self
                    .pipeline
                    .submit(Job { chain, hash })
                    .err()
                    .map(|_| missing_chunk(&hash, &label)),
                Err(failure) => Some(failure),
            };
            self.submitted.push_back((hash, label, failure));
        }
        Ok(())
    }
}

/// From the chunk that stands by itself outwards; each level is XORed onto the one below.
fn decode(decoder: &mut Decoder, job: Job, free_encoded: &Buffers, free_raw: &Buffers) -> Decoded {
    let raw = decode_chain(decoder, &job.chain, free_raw)?;
    let Job { chain, hash } = job;
    chain
        .into_iter()
        .for_each(|encoded| free_encoded.give(encoded));
    let actual = ChunkHash::of(&raw);
    if actual == hash {
        Ok(raw)
    } else {
        Err(modelstore_chunk::Error::HashMismatch {
            expected: hash,
            actual,
        })
    }
}

/// Decodes a chunk given with the chunks it stands on, outermost first.
pub fn decode_chain(decoder: &mut Decoder, chain: &[Vec<u8>], free: &Buffers) -> Decoded {
    let mut base: Option<Vec<u8>> = None;
    for encoded in chain.iter().rev() {
        let mut raw = free.take();
        decoder.decode(encoded, base.as_deref(), &mut raw)?;
        if let Some(done) = base.replace(raw) {
            free.give(done);
        }
    }
    Ok(base.unwrap_or_default())
}
