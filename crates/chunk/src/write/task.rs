//! The work on chunks that threads do in the second pass: encode and check.

use modelstore_tensor::DType;

use crate::port::NewChunk;
use crate::read::Chain;
use crate::{Buffers, ChunkHash, Decoder, Encoder, Error, SMALL_CHUNK};

/// A base: its hash, how many deltas are below it, and its encoded bytes with those of the chunks it stands on.
pub type Base = (ChunkHash, i16, Chain);

/// Work on a chunk, done by a thread.
pub enum Task {
    Encode {
        dtype: DType,
        raw: Vec<u8>,
        base: Option<Base>,
    },
    /// Decode, from the outermost chunk inwards; `None` when what is stored cannot be read.
    Check(Option<Chain>),
}

/// The outcome of a task.
pub enum Done {
    Encoded(NewChunk),
    /// The bytes are not those that were hashed.
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
    raw: Vec<u8>,
    base: Option<Base>,
    free: &Buffers,
) -> Result<Done, Error> {
    if ChunkHash::of(&raw) != hash {
        return Ok(Done::Changed);
    }
    // A base that does not decode to its hash would make a difference to bytes that nobody has once it is mended.
    let base = base.and_then(|(base, depth, chain)| {
        let decoded = chain.decode(decoder, free, free).ok()?;
        Some((decoded, base, depth))
    });
    let mut encoded = free.take();
    let against = base.as_ref().map(|(raw, hash, _)| (raw.as_slice(), hash));
    encoder.encode_with_base(dtype, &raw, against, &mut encoded)?;
    let raw_bytes = raw.len() as u32;
    free.give(raw);
    let delta_depth = base.as_ref().map_or(0, |(.., depth)| depth + 1);
    if let Some((raw, ..)) = base {
        free.give(raw);
    }
    if encoded.len() <= SMALL_CHUNK {
        // Many of these wait together: none of them keeps the room of a large one.
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
