//! The work that threads do on chunks that are copied.

use modelstore_tensor::DType;

use crate::port::{NewChunk, SMALL_CHUNK};
use crate::read::Chain;
use crate::{Buffers, ChunkHash, ChunkHead, Decoder, Encoder, Error};

/// Work on a chunk, done by a thread.
pub enum Task {
    /// Decode a chunk that the store has; `None` if it cannot be read.
    Check(Option<Chain>),
    /// Decode a chunk of the other store, and keep its encoding if that stands alone or on a base that can stay its base:
    /// the number of deltas down to there, and that base unless it has been checked.
    Copy(DType, Chain, Option<(i16, Option<Chain>)>),
}

/// The outcome of a task.
pub enum Done {
    Copied(NewChunk),
    Good,
    Damaged,
}

pub type Job = Vec<(ChunkHash, Task)>;
pub type Results = Result<Vec<(ChunkHash, Done)>, Error>;

/// Does the tasks of a job.
pub fn work(encoder: &mut Encoder, decoder: &mut Decoder, job: Job, free: &Buffers) -> Results {
    job.into_iter()
        .map(|(hash, task)| {
            let done = match task {
                Task::Check(chain) => {
                    let raw = chain.and_then(|chain| chain.decode(decoder, free, free).ok());
                    match raw {
                        Some(raw) => {
                            free.give(raw);
                            Done::Good
                        }
                        None => Done::Damaged,
                    }
                }
                Task::Copy(dtype, chain, kept) => {
                    Done::Copied(copied(encoder, decoder, hash, dtype, chain, kept, free)?)
                }
            };
            Ok((hash, done))
        })
        .collect()
}

/// A chunk as the store gets it, once its bytes are known to be those of its hash.
fn copied(
    encoder: &mut Encoder,
    decoder: &mut Decoder,
    hash: ChunkHash,
    dtype: DType,
    chain: Chain,
    kept: Option<(i16, Option<Chain>)>,
    free: &Buffers,
) -> Result<NewChunk, Error> {
    let mut encoded = free.take();
    encoded.clear();
    encoded.extend_from_slice(chain.outermost());
    let is_delta = ChunkHead::parse(&encoded)?.base.is_some();
    let raw = chain.decode(decoder, free, free)?;
    let kept = match kept {
        // A delta on a base that does not decode to its hash would be unreadable once the base is repaired.
        Some((depth, Some(base))) => base.decode(decoder, free, free).ok().map(|base| {
            free.give(base);
            depth
        }),
        Some((depth, None)) => Some(depth),
        None => None,
    };
    let delta_depth = match (is_delta, kept) {
        (false, _) => 0,
        (true, Some(depth)) => depth,
        (true, None) => {
            encoder.encode(dtype, &raw, &mut encoded)?;
            0
        }
    };
    let raw_bytes = raw.len() as u32;
    free.give(raw);
    if encoded.len() <= SMALL_CHUNK {
        // Many of these wait together: do not keep the capacity of a large buffer for each.
        let small = encoded.as_slice().to_vec();
        free.give(std::mem::replace(&mut encoded, small));
    }
    Ok(NewChunk {
        hash,
        encoded,
        raw_bytes,
        delta_depth,
    })
}
