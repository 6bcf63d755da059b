//! The second pass over incoming tensors: chunks that the store does not have are encoded and inserted, those that it has
//! are decoded, and replaced where they are not what their hash says.
//!
//! All in the order of the hashes. What is encoded has been hashed again on the same thread: a source that changes
//! between the passes is an error, and never bytes under the hash of others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use modelstore_tensor::DType;

use crate::port::{ChunkStore, MAX_DELTA_DEPTH, NewChunk, Recorded, SMALL_CHUNK, Session, Source};
use crate::read::Chain;
use crate::{Buffers, ChunkHash, ChunkHead, Decoder, Encoder, Error, Pipeline, ReadError};

/// Where the bytes of a chunk are, and what it may be a difference to.
pub struct Origin<'a> {
    /// Which of the sources.
    pub file: usize,
    /// The tensor's name.
    pub name: &'a str,
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub len: u32,
    /// Type of the elements.
    pub dtype: DType,
    /// A chunk it may be a difference to.
    pub base: Option<ChunkHash>,
    /// Whether the hash is recorded of a tensor of the store, and not that of these bytes.
    pub recorded: bool,
}

/// Counts of what was inserted.
#[derive(Default)]
pub struct Inserted {
    /// Chunks.
    pub chunks: u64,
    /// Their encoded bytes.
    pub stored_bytes: u64,
    /// Their raw bytes.
    pub raw_bytes: u64,
}

/// Raw bytes and chunks of a job of small ones.
const JOB_BYTES: usize = 256 << 10;
const JOB_CHUNKS: usize = 256;
/// Encoded bytes and rows of a statement of small ones.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_CHUNKS: usize = 1024;

/// A base: its hash, how many deltas are below it, and its encoded bytes with those of the chunks it stands on.
type Base = (ChunkHash, i16, Chain);

/// Work on a chunk, done by a thread.
enum Task {
    Encode {
        dtype: DType,
        raw: Vec<u8>,
        base: Option<Base>,
    },
    /// Decode, from the outermost chunk inwards; `None` when what is stored cannot be read.
    Check(Option<Chain>),
}

/// The outcome of a task.
enum Done {
    Encoded(NewChunk),
    /// The bytes are not those that were hashed.
    Changed,
    Good(u64),
    Damaged,
}

type Job = Vec<(ChunkHash, Task)>;
type Results = Result<Vec<(ChunkHash, Done)>, Error>;

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
    let bases = bases(store, origins)?;
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
        batch: Vec::new(),
        waiting: 0,
        inserted: Inserted::default(),
    };
    let mut rest = hashes.as_slice();
    while !rest.is_empty() {
        let (job, later) = rest.split_at(pass.job_len(rest));
        rest = later;
        while pipeline.is_full() {
            pass.take_next(&mut pipeline)?;
        }
        let job = pass.read(job, &present, &bases)?;
        // Room was made above, so the job is taken.
        drop(pipeline.submit(job));
    }
    while !pipeline.is_empty() {
        pass.take_next(&mut pipeline)?;
    }
    pass.flush()?;
    Ok(pass.inserted)
}

/// For each chunk that something may be a difference to, the one that it shall be: itself or, when it carries no further
/// delta, the chunk at the root of its chain, from which the next chain begins; with the deltas below that. They are kept
/// from the collector as well; one that is gone by now is not a base.
fn bases<S: ChunkStore>(
    store: &mut S,
    origins: &BTreeMap<ChunkHash, Origin<'_>>,
) -> Result<HashMap<ChunkHash, (ChunkHash, i16)>, S::Error> {
    let wanted: BTreeSet<ChunkHash> = origins.values().filter_map(|o| o.base).collect();
    let mut found = HashMap::new();
    // Each with the chunk of its chain that has been reached.
    let mut rest: Vec<(ChunkHash, ChunkHash)> =
        wanted.into_iter().map(|base| (base, base)).collect();
    for step in 0..=MAX_DELTA_DEPTH {
        let reached: BTreeSet<ChunkHash> = rest.iter().map(|(_, at)| *at).collect();
        let recorded = store.lock(&reached.into_iter().collect::<Vec<_>>())?;
        rest.retain_mut(|(base, at)| {
            let Some(recorded) = recorded.get(at) else {
                return false;
            };
            let depth = recorded.delta_depth;
            let is_root = recorded.base.is_none();
            if is_root || step == 0 && (0..MAX_DELTA_DEPTH as i16).contains(&depth) {
                found.insert(*base, (*at, if is_root { 0 } else { depth }));
            }
            match recorded.base {
                Some(below) if !found.contains_key(base) => {
                    *at = below;
                    true
                }
                _ => false,
            }
        });
        if rest.is_empty() {
            break;
        }
    }
    Ok(found)
}

struct SecondPass<'p, 's, 'a, S: ChunkStore, C> {
    store: &'p mut S,
    session: &'p C,
    sources: &'p mut [&'s mut dyn Source<S::Error>],
    origins: &'p BTreeMap<ChunkHash, Origin<'a>>,
    small: &'p HashMap<ChunkHash, Box<[u8]>>,
    buffers: &'p Buffers,
    /// Small ones that wait to be inserted together.
    batch: Vec<NewChunk>,
    /// Their encoded bytes.
    waiting: usize,
    inserted: Inserted,
}

impl<S: ChunkStore, C: Session<Error = S::Error>> SecondPass<'_, '_, '_, S, C> {
    /// How many of the chunks make the next job.
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
        bases: &HashMap<ChunkHash, (ChunkHash, i16)>,
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
                        None => self.chain(hash)?,
                    };
                    Task::Check(chain.filter(|chain| is_recorded_right(chain, origin, recorded)))
                }
                None => Task::Encode {
                    dtype: origin.dtype,
                    raw: self.raw(hash, origin)?,
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

    /// A chunk as it is stored; `None` when it, or what it stands on, cannot be read.
    fn chain(&mut self, hash: &ChunkHash) -> Result<Option<Chain>, S::Error> {
        match Chain::fetch(self.store, hash, self.buffers) {
            Ok(chain) => Ok(Some(chain)),
            Err(ReadError::Store(e)) => Err(e),
            Err(_) => Ok(None),
        }
    }

    /// A base that cannot be read is none.
    fn base(
        &mut self,
        origin: &Origin<'_>,
        bases: &HashMap<ChunkHash, (ChunkHash, i16)>,
    ) -> Result<Option<Base>, S::Error> {
        let Some(&(base, depth)) = origin.base.and_then(|base| bases.get(&base)) else {
            return Ok(None);
        };
        let chain = self.chain(&base)?;
        Ok(chain.map(|chain| (base, depth, chain)))
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
                    // In the order of the hashes, this as well.
                    self.flush()?;
                    self.mend(&hash)?;
                }
                Done::Changed => return Err(self.changed(&hash).into()),
            }
        }
        Ok(())
    }

    fn insert(&mut self, new: NewChunk) -> Result<(), S::Error> {
        let small = new.encoded.len() <= SMALL_CHUNK;
        if !small || self.batch.len() >= BATCH_CHUNKS || self.waiting >= BATCH_BYTES {
            self.flush()?;
        }
        self.waiting += new.encoded.len();
        self.batch.push(new);
        if small { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), S::Error> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.waiting = 0;
        let batch = std::mem::take(&mut self.batch);
        let new = self.store.add(&batch)?;
        for (chunk, new) in batch.into_iter().zip(new) {
            if new {
                self.inserted.chunks += 1;
                self.inserted.stored_bytes += chunk.encoded.len() as u64;
                self.inserted.raw_bytes += u64::from(chunk.raw_bytes);
            } else if !self.is_good(&chunk.hash)? {
                // Of another transaction, which committed it meanwhile.
                self.mend(&chunk.hash)?;
            }
            self.buffers.give(chunk.encoded);
        }
        Ok(())
    }

    fn is_good(&mut self, hash: &ChunkHash) -> Result<bool, S::Error> {
        let chain = self.chain(hash)?;
        let raw = chain.map(|c| c.decode(&mut Decoder::new(), self.buffers, self.buffers));
        Ok(raw.is_some_and(|raw| raw.is_ok()))
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
        let mut encoded = Vec::new();
        Encoder::new().encode(origin.dtype, &raw, &mut encoded)?;
        self.store.replace(hash, &encoded, raw.len() as u32)?;
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
fn is_recorded_right(chain: &Chain, origin: &Origin<'_>, recorded: &Recorded) -> bool {
    let encoded = chain.outermost();
    ChunkHead::parse(encoded).is_ok_and(|head| {
        head.base == recorded.base
            && head.raw_len == origin.len
            && i64::from(recorded.raw_bytes) == i64::from(origin.len)
            && usize::try_from(recorded.stored_bytes) == Ok(encoded.len())
    })
}

fn work(encoder: &mut Encoder, decoder: &mut Decoder, job: Job, free: &Buffers) -> Results {
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
