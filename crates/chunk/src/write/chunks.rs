//! The second pass over incoming tensors: new chunks are encoded and inserted; existing ones are decoded, and replaced
//! if they do not match their hash.
//!
//! All in the order of hashes. Bytes are hashed again on the thread that encodes them: a source that changes between
//! the passes is an error, and its bytes are never stored under another hash.

use std::collections::{BTreeMap, HashMap};

use modelstore_tensor::DType;

use crate::port::{ChunkStore, NewChunk, Recorded, SMALL_CHUNK, Session, Source};
use crate::read::Chain;
use crate::write::bases::{Usable, bases};
use crate::write::inserting::{Inserting, base_with_chain, chain, is_good, mend};
use crate::write::task::{Base, Done, Job, Raw, Results, Task, work};
use crate::{Buffers, ChunkHash, ChunkHead, Decoder, Encoder, Error, Pipeline};

/// Where the bytes of a chunk are, and its possible base.
pub struct Origin<'a> {
    /// Which of the sources.
    pub file: usize,
    /// The tensor's name.
    pub name: &'a str,
    /// Offset of the first byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u32,
    /// Type of the elements.
    pub dtype: DType,
    /// A possible base of a delta.
    pub base: Option<ChunkHash>,
    /// Whether the hash is recorded for a stored tensor, not computed from these bytes.
    pub recorded: bool,
}

/// Counts of what was inserted.
#[derive(Clone, Copy, Default)]
pub struct Inserted {
    /// Chunks.
    pub chunks: u64,
    /// Their encoded bytes.
    pub stored_bytes: u64,
    /// Their raw bytes.
    pub raw_bytes: u64,
}

impl std::ops::AddAssign for Inserted {
    fn add_assign(&mut self, other: Inserted) {
        self.chunks += other.chunks;
        self.stored_bytes += other.stored_bytes;
        self.raw_bytes += other.raw_bytes;
    }
}

/// Raw bytes and chunks of a job of small ones.
pub const JOB_BYTES: usize = 256 << 10;
pub const JOB_CHUNKS: usize = 256;
/// Inserts what is not there and mends what is damaged. `small` has the raw bytes of small chunks.
pub fn write_chunks<S: ChunkStore, C: Session<Error = S::Error>>(
    store: &mut S,
    session: &C,
    sources: &mut [&mut dyn Source<S::Error>],
    origins: &BTreeMap<ChunkHash, Origin<'_>>,
    small: &HashMap<ChunkHash, Box<[u8]>>,
    buffers: &Buffers,
) -> Result<Inserted, S::Error> {
    let hashes: Vec<ChunkHash> = origins.keys().copied().collect();
    let present = store.lock(&hashes)?;
    let bases = bases(store, origins.values().filter_map(|o| o.base))?;
    let free = buffers.clone();
    let mut pipeline = session.pipeline(
        || (Encoder::new(), Decoder::new()),
        move |(encoder, decoder): &mut (Encoder, Decoder), job: Job| {
            work(encoder, decoder, job, &free)
        },
    )?;
    let mut pass = SecondPass {
        store,
        session,
        sources,
        origins,
        small,
        buffers,
        inserting: Inserting::default(),
    };
    let mut rest = hashes.as_slice();
    while !rest.is_empty() {
        let (job, later) = rest.split_at(pass.job_len(rest));
        rest = later;
        while pipeline.is_full() {
            pass.take_next(&mut pipeline)?;
        }
        let job = pass.read(job, &present, &bases)?;
        // There is room, as ensured above.
        drop(pipeline.submit(job));
    }
    while !pipeline.is_empty() {
        pass.take_next(&mut pipeline)?;
    }
    pass.flush()?;
    Ok(pass.inserting.inserted)
}

struct SecondPass<'p, 's, 'a, S: ChunkStore, C> {
    store: &'p mut S,
    session: &'p C,
    sources: &'p mut [&'s mut dyn Source<S::Error>],
    origins: &'p BTreeMap<ChunkHash, Origin<'a>>,
    small: &'p HashMap<ChunkHash, Box<[u8]>>,
    buffers: &'p Buffers,
    inserting: Inserting,
}

impl<S: ChunkStore, C: Session<Error = S::Error>> SecondPass<'_, '_, '_, S, C> {
    /// Returns how many of the chunks form the next job.
    fn job_len(&self, hashes: &[ChunkHash]) -> usize {
        let mut bytes = 0;
        let fits = hashes.iter().take(JOB_CHUNKS).take_while(|hash| {
            bytes += self.origins.get(hash).map_or(0, |o| o.len as usize);
            bytes <= JOB_BYTES
        });
        fits.count().max(1)
    }

    fn read(
        &mut self,
        hashes: &[ChunkHash],
        present: &BTreeMap<ChunkHash, Recorded>,
        bases: &HashMap<ChunkHash, Usable>,
    ) -> Result<Job, S::Error> {
        let few: Vec<ChunkHash> = hashes
            .iter()
            .filter(|hash| {
                present
                    .get(hash)
                    .is_some_and(|r| r.base.is_none() && r.actual_bytes as usize <= SMALL_CHUNK)
            })
            .copied()
            .collect();
        let mut few = match few.as_slice() {
            [] => HashMap::new(),
            few => self.store.read_small(few)?,
        };
        let mut job = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let Some(origin) = self.origins.get(hash) else {
                continue;
            };
            let task = match present.get(hash) {
                Some(recorded) => {
                    let chain = match few.remove(hash) {
                        Some(encoded) => Some(Chain::single(*hash, encoded)),
                        None => chain(self.store, self.buffers, hash)?,
                    };
                    Task::Check(
                        chain.filter(|chain| is_recorded_right(chain, origin.len, recorded)),
                    )
                }
                None => Task::Encode {
                    dtype: origin.dtype,
                    raw: Raw::Unchecked(self.raw(hash, origin)?),
                    base: self.base(origin, bases)?,
                },
            };
            job.push((*hash, task));
        }
        Ok(job)
    }

    fn raw(&mut self, hash: &ChunkHash, origin: &Origin<'_>) -> Result<Vec<u8>, S::Error> {
        if let Some(small) = self.small.get(hash) {
            return Ok(small.to_vec());
        }
        let mut raw = self.buffers.take();
        self.sources[origin.file].read_at(origin.offset, origin.len as usize, &mut raw)?;
        Ok(raw)
    }

    /// A base that cannot be read is none.
    fn base(
        &mut self,
        origin: &Origin<'_>,
        bases: &HashMap<ChunkHash, Usable>,
    ) -> Result<Option<Base>, S::Error> {
        match origin.base.and_then(|base| bases.get(&base)) {
            Some(base) => base_with_chain(self.store, self.buffers, base),
            None => Ok(None),
        }
    }

    fn take_next(
        &mut self,
        pipeline: &mut Pipeline<'static, Job, Results>,
    ) -> Result<(), S::Error> {
        let done = self.session.next(pipeline)?.transpose()?;
        for (hash, done) in done.unwrap_or_default() {
            match done {
                Done::Encoded(new) => {
                    self.session.advance(new.raw_bytes.into());
                    self.insert(new)?;
                }
                Done::Good(raw_bytes) => self.session.advance(raw_bytes),
                Done::Damaged => {
                    // Keeps the order of hashes.
                    self.flush()?;
                    self.mend(&hash)?;
                }
                Done::Changed => return Err(self.changed(&hash).into()),
            }
        }
        Ok(())
    }

    fn insert(&mut self, new: NewChunk) -> Result<(), S::Error> {
        let others = self.inserting.insert(self.store, self.buffers, new)?;
        self.check_others(others)
    }

    fn flush(&mut self) -> Result<(), S::Error> {
        let others = self.inserting.flush(self.store, self.buffers)?;
        self.check_others(others)
    }

    /// Of another transaction, which committed them meanwhile.
    fn check_others(&mut self, others: Vec<ChunkHash>) -> Result<(), S::Error> {
        for hash in others {
            if !is_good(self.store, self.buffers, &hash)? {
                self.mend(&hash)?;
            }
        }
        Ok(())
    }

    /// Puts the right bytes in place of a damaged chunk.
    fn mend(&mut self, hash: &ChunkHash) -> Result<(), S::Error> {
        let Some(origin) = self.origins.get(hash) else {
            return Ok(());
        };
        let raw = self.raw(hash, origin)?;
        if ChunkHash::of(&raw) != *hash {
            return Err(self.changed(hash).into());
        }
        mend(self.store, hash, origin.dtype, &raw)?;
        self.session.advance(origin.len.into());
        Ok(())
    }

    fn changed(&self, hash: &ChunkHash) -> Error {
        match self.origins.get(hash) {
            Some(origin) if origin.recorded => Error::DamagedTensor(origin.name.to_owned()),
            Some(origin) => Error::SourceChanged(format!("tensor \"{}\"", origin.name)),
            None => Error::SourceChanged(format!("chunk {hash}")),
        }
    }
}

/// Whether the columns beside a chunk say of it what it says itself.
pub fn is_recorded_right(chain: &Chain, raw_len: u32, recorded: &Recorded) -> bool {
    let encoded = chain.outermost();
    ChunkHead::parse(encoded).is_ok_and(|head| {
        head.base == recorded.base
            && head.raw_len == raw_len
            && i64::from(recorded.raw_bytes) == i64::from(raw_len)
            && usize::try_from(recorded.stored_bytes) == Ok(encoded.len())
    })
}
