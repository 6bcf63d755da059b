//! Chunks of the store in order, decoded on threads and checked against their hashes.

use crate::chunks::corruption::{corrupt_chunk, missing_chunk};
use crate::chunks::spi_chunks::fetch_encoded;
use crate::error::{Failure, Result};
use crate::pg::background;
use crate::store::Store;
use crate::tensor_storage::locate::{StoredPiece, StoredTensor};
use modelstore_chunk::{Buffers, ChunkHash, Decoder, Pipeline};
use modelstore_tensor::DType;
use modelstore_tensor::stats::{self, Stats};
use std::collections::VecDeque;
use std::rc::Rc;

/// What goes to a thread: the chunk and, for a delta, the chunks it stands on, outermost first.
struct Job {
    chain: Vec<Vec<u8>>,
    hash: ChunkHash,
    /// Type of the elements whose figures are wanted as well.
    figures_of: Option<DType>,
}

type Decoded = std::result::Result<Vec<u8>, modelstore_chunk::Error>;

/// What a thread returns: the raw bytes, and the figures of their elements where these are wanted.
type Done = std::result::Result<(Vec<u8>, Option<Stats>), modelstore_chunk::Error>;

/// A chunk to read.
pub struct Wanted {
    /// Its hash.
    pub hash: ChunkHash,
    /// The tensor it is read for.
    pub label: Rc<str>,
    /// Type of the elements whose figures are wanted as well.
    pub figures_of: Option<DType>,
}

/// A chunk that was read.
pub struct Outcome {
    /// Its hash.
    pub hash: ChunkHash,
    /// The tensor it was read for.
    pub label: Rc<str>,
    /// Its raw bytes, with the figures of their elements where these were wanted; or what is wrong with it.
    pub raw: Result<(Vec<u8>, Option<Stats>)>,
}

/// A stream of raw bytes. Memory is a few chunks, whatever the tensor's size.
pub struct ChunkStream {
    store: Store,
    wanted: VecDeque<Wanted>,
    /// What is on the threads, in order; an error of fetching waits here for its turn.
    submitted: VecDeque<(ChunkHash, Rc<str>, Option<Failure>)>,
    pipeline: Pipeline<'static, Job, Done>,
    /// Encoded and raw bytes differ in length: apart, a buffer that comes back needs no zeroes at its end.
    encoded: Buffers,
    raw: Buffers,
}

impl ChunkStream {
    /// Chunks in the order given.
    pub fn new(store: &Store, wanted: impl IntoIterator<Item = Wanted>) -> Result<ChunkStream> {
        let (encoded, raw) = (Buffers::new(32, 8 << 20), Buffers::new(32, 8 << 20));
        let (free_encoded, free_raw) = (encoded.clone(), raw.clone());
        let pipeline = background::pipeline(Decoder::new, move |decoder, job| {
            decode(decoder, job, &free_encoded, &free_raw)
        })?;
        Ok(ChunkStream {
            store: store.clone(),
            wanted: wanted.into_iter().collect(),
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
        let wanted = pieces.into_iter().map(|piece| Wanted {
            hash: piece.hash,
            label: Rc::clone(&label),
            figures_of: None,
        });
        ChunkStream::new(store, wanted)
    }

    /// The raw bytes of the next chunk; an error when it is missing or not what its hash says.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match self.next_outcome()? {
            Some(outcome) => outcome.raw.map(|(raw, _)| Some(raw)),
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
            let raw = Err(failure);
            return Ok(Some(Outcome { hash, label, raw }));
        }
        let raw = match background::next(&mut self.pipeline)? {
            Some(Ok(done)) => Ok(done),
            Some(Err(e)) => Err(corrupt_chunk(&hash, &label, e)),
            None => Err(missing_chunk(&hash, &label)),
        };
        // The next read overlaps with whatever the caller does with this chunk.
        self.fill()?;
        Ok(Some(Outcome { hash, label, raw }))
    }

    /// Gives the memory of a chunk back for the next one.
    pub fn recycle(&self, raw: Vec<u8>) {
        self.raw.give(raw);
    }

    fn fill(&mut self) -> Result<()> {
        while !self.pipeline.is_full()
            && let Some(Wanted {
                hash,
                label,
                figures_of,
            }) = self.wanted.pop_front()
        {
            let failure = match fetch_encoded(&self.store, &hash, &label, &self.encoded) {
                Ok(chain) => self
                    .pipeline
                    .submit(Job {
                        chain,
                        hash,
                        figures_of,
                    })
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
fn decode(decoder: &mut Decoder, job: Job, free_encoded: &Buffers, free_raw: &Buffers) -> Done {
    let raw = decode_chain(decoder, &job.chain, free_raw)?;
    let Job {
        chain,
        hash,
        figures_of,
    } = job;
    chain
        .into_iter()
        .for_each(|encoded| free_encoded.give(encoded));
    let actual = ChunkHash::of(&raw);
    if actual == hash {
        let figures = figures_of.and_then(|dtype| stats::scan(dtype, &raw));
        Ok((raw, figures))
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
