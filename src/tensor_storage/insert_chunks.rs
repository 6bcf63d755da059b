//! The second pass over incoming tensors: chunks that the store does not have are encoded and inserted, those that it has
//! are decoded, and replaced where they are not what their hash says.
//!
//! All in the order of the hashes. What is encoded has been hashed again on the same thread: a source that changes
//! between the passes is an error, and never bytes under the hash of others.

use crate::chunks::corruption::corrupted;
use crate::chunks::spi_chunks::{NewChunk, Recorded, SMALL_CHUNK, SpiChunks, fetch_encoded};
use crate::error::{Code, Failure, Result, warning};
use crate::io::Source;
use crate::pg::background;
use crate::pg::progress::Progress;
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use crate::tensor_storage::stream::decode_chain;
use modelstore_chunk::{
    Buffers, ChunkHash, ChunkHead, Decoder, Encoder, MAX_DELTA_DEPTH, Pipeline,
};
use modelstore_tensor::DType;
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
type Base = (ChunkHash, i16, Vec<Vec<u8>>);

/// Work on a chunk, done by a thread.
enum Task {
    Encode {
        dtype: DType,
        raw: Vec<u8>,
        base: Option<Base>,
    },
    /// Decode, from the outermost chunk inwards; `None` when what is stored cannot be read.
    Check(Option<Vec<Vec<u8>>>),
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
type Results = std::result::Result<Vec<(ChunkHash, Done)>, modelstore_chunk::Error>;

/// Inserts what is not there and mends what is damaged. `small` has the raw bytes of small chunks.
pub fn insert_chunks(
    store: &Store,
    sources: &mut [&mut dyn Source],
    origins: &BTreeMap<ChunkHash, Origin<'_>>,
    small: &HashMap<ChunkHash, Box<[u8]>>,
    buffers: &Buffers,
    progress: &mut Progress,
) -> Result<Inserted> {
    let chunks = SpiChunks::new(store);
    let hashes: Vec<ChunkHash> = origins.keys().copied().collect();
    let present = chunks.lock(&hashes)?;
    // Bases are kept from the collector as well; one that is gone by now is not a base.
    let wanted: BTreeSet<ChunkHash> = origins.values().filter_map(|o| o.base).collect();
    let bases = chunks.lock(&wanted.into_iter().collect::<Vec<_>>())?;
    let free = buffers.clone();
    let mut pipeline = background::pipeline(
        || (Encoder::new(), Decoder::new()),
        move |(encoder, decoder), job: Job| work(encoder, decoder, job, &free),
    )?;
    let mut pass = SecondPass {
        store,
        sources,
        origins,
        small,
        buffers,
        chunks,
        batch: Vec::new(),
        waiting: 0,
        inserted: Inserted::default(),
        progress,
    };
    let mut rest = hashes.as_slice();
    while !rest.is_empty() {
        let (job, later) = rest.split_at(pass.job_len(rest));
        rest = later;
        while pipeline.is_full() {
            pass.take_next(&mut pipeline)?;
        }
        let job = in_scratch_memory(|| pass.read(job, &present, &bases))?;
        // Room was made above, so the job is taken.
        drop(pipeline.submit(job));
    }
    while !pipeline.is_empty() {
        pass.take_next(&mut pipeline)?;
    }
    pass.flush()?;
    Ok(pass.inserted)
}

struct SecondPass<'p, 's, 'a> {
    store: &'p Store,
    sources: &'p mut [&'s mut dyn Source],
    origins: &'p BTreeMap<ChunkHash, Origin<'a>>,
    small: &'p HashMap<ChunkHash, Box<[u8]>>,
    buffers: &'p Buffers,
    chunks: SpiChunks<'p>,
    /// Small ones that wait to be inserted together.
    batch: Vec<NewChunk>,
    /// Their encoded bytes.
    waiting: usize,
    inserted: Inserted,
    progress: &'p mut Progress,
}

impl SecondPass<'_, '_, '_> {
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
        bases: &BTreeMap<ChunkHash, Recorded>,
    ) -> Result<Job> {
        let few: Vec<ChunkHash> = hashes
            .iter()
            .filter(|hash| {
                present
                    .get(hash)
                    .is_some_and(|r| r.base.is_none() && r.actual_bytes as usize <= SMALL_CHUNK)
            })
            .copied()
            .collect();
        let mut few = self.chunks.small(&few)?;
        let mut job = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let Some(origin) = self.origins.get(hash) else {
                continue;
            };
            let task = match present.get(hash) {
                Some(recorded) => {
                    let chain = match few.remove(hash) {
                        Some(encoded) => Some(vec![encoded]),
                        None => fetch_encoded(self.store, hash, origin.name, self.buffers).ok(),
                    };
                    Task::Check(chain.filter(|chain| is_recorded_right(chain, origin, recorded)))
                }
                None => Task::Encode {
                    dtype: origin.dtype,
                    raw: self.raw(hash, origin)?,
                    base: self.base(origin, bases),
                },
            };
            job.push((*hash, task));
        }
        Ok(job)
    }

    fn raw(&mut self, hash: &ChunkHash, origin: &Origin<'_>) -> Result<Vec<u8>> {
        if let Some(small) = self.small.get(hash) {
            return Ok(small.to_vec());
        }
        let mut raw = self.buffers.take();
        self.sources[origin.file].read_at(origin.offset, origin.len as usize, &mut raw)?;
        Ok(raw)
    }

    /// A base that cannot be read is none.
    fn base(&self, origin: &Origin<'_>, bases: &BTreeMap<ChunkHash, Recorded>) -> Option<Base> {
        let base = origin.base?;
        let recorded = bases.get(&base)?;
        if usize::try_from(recorded.delta_depth).ok()? >= MAX_DELTA_DEPTH {
            return None;
        }
        let chain = fetch_encoded(self.store, &base, origin.name, self.buffers).ok()?;
        Some((base, recorded.delta_depth, chain))
    }

    fn take_next(&mut self, pipeline: &mut Pipeline<'static, Job, Results>) -> Result<()> {
        for (hash, done) in background::next(pipeline)?.transpose()?.unwrap_or_default() {
            match done {
                Done::Encoded(new) => {
                    self.progress.advance(new.raw_bytes.into());
                    self.insert(new)?;
                }
                Done::Good(raw_bytes) => self.progress.advance(raw_bytes),
                Done::Damaged => {
                    // In the order of the hashes, this as well.
                    self.flush()?;
                    self.mend(&hash)?;
                }
                Done::Changed => return Err(self.changed(&hash)),
            }
        }
        Ok(())
    }

    fn insert(&mut self, new: NewChunk) -> Result<()> {
        let small = new.encoded.len() <= SMALL_CHUNK;
        if !small || self.batch.len() >= BATCH_CHUNKS || self.waiting >= BATCH_BYTES {
            self.flush()?;
        }
        self.waiting += new.encoded.len();
        self.batch.push(new);
        if small { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.waiting = 0;
        let batch = std::mem::take(&mut self.batch);
        let new = self.chunks.add(&batch)?;
        for (chunk, new) in batch.into_iter().zip(new) {
            if new {
                self.inserted.chunks += 1;
                self.inserted.stored_bytes += chunk.encoded.len() as u64;
                self.inserted.raw_bytes += u64::from(chunk.raw_bytes);
            } else if !self.is_good(&chunk.hash) {
                // Of another transaction, which committed it meanwhile.
                self.mend(&chunk.hash)?;
            }
            if chunk.encoded.len() > SMALL_CHUNK {
                self.buffers.give(chunk.encoded);
            }
        }
        Ok(())
    }

    fn is_good(&self, hash: &ChunkHash) -> bool {
        fetch_encoded(self.store, hash, "", self.buffers)
            .ok()
            .and_then(|chain| decode_chain(&mut Decoder::new(), &chain, self.buffers).ok())
            .is_some_and(|raw| ChunkHash::of(&raw) == *hash)
    }

    /// Puts the right bytes in place of a damaged chunk.
    fn mend(&mut self, hash: &ChunkHash) -> Result<()> {
        let Some(origin) = self.origins.get(hash) else {
            return Ok(());
        };
        let raw = self.raw(hash, origin)?;
        if ChunkHash::of(&raw) != *hash {
            return Err(self.changed(hash));
        }
        replace(&mut self.chunks, hash, origin.dtype, &raw)?;
        self.progress.advance(origin.len.into());
        Ok(())
    }

    fn changed(&self, hash: &ChunkHash) -> Failure {
        match self.origins.get(hash) {
            Some(origin) if origin.recorded => damaged_tensor(origin.name),
            Some(origin) => source_changed(&format!("tensor \"{}\"", origin.name)),
            None => source_changed(&format!("chunk {hash}")),
        }
    }
}

/// Replaces a chunk that does not decode to its hash by one with these bytes, which have that hash.
pub fn replace(
    chunks: &mut SpiChunks<'_>,
    hash: &ChunkHash,
    dtype: DType,
    raw: &[u8],
) -> Result<()> {
    let mut encoded = Vec::new();
    Encoder::new().encode(dtype, raw, &mut encoded)?;
    chunks.replace(hash, &encoded, raw.len() as u32)?;
    warning(&format!(
        "chunk {hash} did not decode to its hash and was replaced"
    ));
    Ok(())
}

/// The error for bytes that differ from those that were hashed.
pub fn source_changed(what: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("source changed while it was read: {what}"),
    )
    .detail("Its bytes are not those that were hashed before. Nothing of it was stored.")
}

/// The error for a stored tensor whose chunks do not match its content hash.
pub fn damaged_tensor(name: &str) -> Failure {
    corrupted(format!(
        "stored tensor with the content of \"{name}\" is damaged"
    ))
    .detail("Its list of chunks does not agree with its content hash.")
}

/// Whether the columns beside a chunk say of it what it says itself.
fn is_recorded_right(chain: &[Vec<u8>], origin: &Origin<'_>, recorded: &Recorded) -> bool {
    let Some(encoded) = chain.first() else {
        return false;
    };
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
                Task::Check(Some(chain)) => check(decoder, &hash, chain, free),
                Task::Encode { dtype, raw, base } => {
                    encode(encoder, decoder, hash, dtype, raw, base, free)?
                }
            };
            Ok((hash, done))
        })
        .collect()
}

fn check(decoder: &mut Decoder, hash: &ChunkHash, chain: Vec<Vec<u8>>, free: &Buffers) -> Done {
    let decoded = decode_chain(decoder, &chain, free);
    chain.into_iter().for_each(|encoded| give(free, encoded));
    match decoded {
        Ok(raw) => {
            let (good, len) = (ChunkHash::of(&raw) == *hash, raw.len() as u64);
            give(free, raw);
            if good { Done::Good(len) } else { Done::Damaged }
        }
        Err(_) => Done::Damaged,
    }
}

fn encode(
    encoder: &mut Encoder,
    decoder: &mut Decoder,
    hash: ChunkHash,
    dtype: DType,
    raw: Vec<u8>,
    base: Option<Base>,
    free: &Buffers,
) -> std::result::Result<Done, modelstore_chunk::Error> {
    if ChunkHash::of(&raw) != hash {
        return Ok(Done::Changed);
    }
    // A base that does not decode to its hash would make a difference to bytes that nobody has once it is mended.
    let base = base.and_then(|(base, depth, chain)| {
        let decoded = decode_chain(decoder, &chain, free).ok()?;
        chain.into_iter().for_each(|encoded| give(free, encoded));
        (ChunkHash::of(&decoded) == base).then_some((decoded, base, depth))
    });
    let mut encoded = free.take();
    let against = base.as_ref().map(|(raw, hash, _)| (raw.as_slice(), hash));
    encoder.encode_with_base(dtype, &raw, against, &mut encoded)?;
    let raw_bytes = raw.len() as u32;
    give(free, raw);
    let delta_depth = base.as_ref().map_or(0, |(.., depth)| depth + 1);
    if let Some((raw, ..)) = base {
        give(free, raw);
    }
    if encoded.len() <= SMALL_CHUNK {
        // Many of these wait together: none of them keeps the room of a large one.
        let small = encoded.as_slice().to_vec();
        give(free, std::mem::replace(&mut encoded, small));
    }
    Ok(Done::Encoded(NewChunk {
        hash,
        encoded,
        raw_bytes,
        delta_depth,
    }))
}

/// Gives a buffer back, unless it is one that was made for a small chunk.
fn give(free: &Buffers, buffer: Vec<u8>) {
    if buffer.capacity() > SMALL_CHUNK {
        free.give(buffer);
    }
}
