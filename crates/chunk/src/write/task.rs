//! The work that threads do on chunks in the second pass: encode and check.

use std::ops::Range;
use std::sync::Arc;

use modelstore_tensor::DType;

use crate::port::NewChunk;
use crate::read::Chain;
use crate::write::bases::Usable;
use crate::{Against, Buffers, ChunkHash, Decoder, Encoder, Error, SMALL_CHUNK};

/// A base and its encoded chain.
pub type Base = (Usable, Chain);

/// The bytes of a chunk.
pub enum Raw {
    /// Read again after they were hashed: not surely the same.
    Unchecked(Vec<u8>),
    /// Those that were hashed, in a buffer that several share.
    Hashed(Shared),
}

/// A part of a buffer that several share.
#[derive(Clone)]
pub struct Shared {
    pub buffer: Arc<Vec<u8>>,
    pub range: Range<usize>,
}

impl Shared {
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }

    /// Gives the buffer back if nobody else has it.
    pub fn give(self, free: &Buffers) {
        if let Some(buffer) = Arc::into_inner(self.buffer) {
            free.give(buffer);
        }
    }
}

impl Raw {
    fn bytes(&self) -> &[u8] {
        match self {
            Raw::Unchecked(bytes) => bytes,
            Raw::Hashed(shared) => shared.bytes(),
        }
    }

    fn give(self, free: &Buffers) {
        match self {
            Raw::Unchecked(bytes) => free.give(bytes),
            Raw::Hashed(shared) => shared.give(free),
        }
    }
}

/// Work on a chunk, done by a thread.
pub enum Task {
    Encode {
        dtype: DType,
        raw: Raw,
        base: Option<Base>,
    },
    /// Decode, from the outermost chunk inwards; `None` if the stored chunk cannot be read.
    Check(Option<Chain>),
}

/// The outcome of a task.
pub enum Done {
    Encoded(NewChunk),
    /// The bytes differ from those hashed before.
    Changed,
    Good(u64),
    Damaged,
}

pub type Job = Vec<(ChunkHash, Task)>;
pub type Results = Result<Vec<(ChunkHash, Done)>, Error>;

/// Does the tasks of a job.
pub fn work(encoder: &mut Encoder, decoder: &mut Decoder, job: Job, free: &Buffers) -> Results {
    job.into_iter()
        .map(|(hash, task)| {
            let done = match task {
                Task::Check(None) => Done::Damaged,
                Task::Check(Some(chain)) => match chain.decode(decoder, free, free) {
                    Ok(raw) => {
                        let len = raw.len() as u64;
                        free.give(raw);
                        Done::Good(len)
                    }
                    Err(_) => Done::Damaged,
                },
                Task::Encode { dtype, raw, base } => {
                    encode(encoder, decoder, hash, dtype, raw, base, free)?
                }
            };
            Ok((hash, done))
        })
        .collect()
}

fn encode(
    encoder: &mut Encoder,
    decoder: &mut Decoder,
    hash: ChunkHash,
    dtype: DType,
    raw: Raw,
    base: Option<Base>,
    free: &Buffers,
) -> Result<Done, Error> {
    if matches!(&raw, Raw::Unchecked(bytes) if ChunkHash::of(bytes) != hash) {
        return Ok(Done::Changed);
    }
    // A delta on a base that does not decode to its hash would be unreadable once the base is repaired.
    let base = base.and_then(|(base, chain)| {
        let decoded = chain.decode(decoder, free, free).ok()?;
        Some((decoded, base))
    });
    let mut encoded = free.take();
    let against = base.as_ref().map(|(raw, base)| Against {
        raw,
        hash: &base.hash,
        share: base.share,
    });
    encoder.encode_with_base(dtype, raw.bytes(), against, &mut encoded)?;
    let raw_bytes = raw.bytes().len() as u32;
    raw.give(free);
    let delta_depth = base.as_ref().map_or(0, |(_, base)| base.depth + 1);
    if let Some((raw, _)) = base {
        free.give(raw);
    }
    if encoded.len() <= SMALL_CHUNK {
        // Many of these wait together: do not keep the capacity of a large buffer for each.
        let small = encoded.as_slice().to_vec();
        free.give(std::mem::replace(&mut encoded, small));
    }
    Ok(Done::Encoded(NewChunk {
        hash,
        encoded,
        raw_bytes,
        delta_depth,
    }))
}
