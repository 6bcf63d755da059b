//! Bytes that arrive in parts become stored chunks, in one pass.
//!
//! Threads hash each piece and make its zone map as soon as it is complete. Those that the store does not have are encoded
//! from the same buffer, so what was hashed is what is stored; those that it has are checked. All the while the owner takes
//! in further bytes and inserts what is ready.
//!
//! Chunks are inserted in the order of the hashes within a few mebibytes, and not over the whole: a transaction that streams
//! much can deadlock with another that streams the same chunks in another order.

mod hashes;
mod insert;
mod layout;
mod look_up;

pub use hashes::StreamHashes;
pub use layout::{Expected, Layout};

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use modelstore_tensor::{DType, stats};

use crate::port::{NewChunk, Session, TensorStore};
use crate::write::chunks::Inserted;
use crate::write::inserting::Inserting;
use crate::write::task::{Done, Job, Results, Shared, work};
use crate::{
    Buffers, ChunkHash, ContentHasher, Decoder, Encoder, Error, InOrder, PieceInfo, Pipeline,
};
use layout::{Position, Run};

/// Raw bytes that are looked up in the store together, and encoded bytes that are inserted together.
const BATCH_BYTES: usize = 2 << 20;
/// The same for small pieces.
const BATCH_PIECES: usize = 1024;
/// Raw bytes that wait for what is encoded of them to be inserted.
const MAX_PINNED_BYTES: usize = 8 << 20;
/// Runs that may wait for the hashes of the file: bounds memory where they are slower than the rest.
const BACKLOG: usize = 8;

/// A piece that is stored now.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// The number of its tensor.
    pub tensor: usize,
    /// What it is.
    pub info: PieceInfo,
    /// BLAKE3-256 of the tensor's raw bytes, if it has several pieces and this is the last.
    pub content_hash: Option<ChunkHash>,
}

/// What has been made of the bytes.
pub struct Outcome {
    /// The pieces, in order.
    pub pieces: Vec<Streamed>,
    /// What was inserted.
    pub inserted: Inserted,
    /// The hashes of what is before `rest`.
    pub hashes: StreamHashes,
    /// Bytes of a piece that is not complete.
    pub rest: Vec<u8>,
    /// One past the end of that piece, in the bytes of all tensors; `None` if everything has been stored.
    pub next_end: Option<u64>,
}

/// A run and its bytes.
type Collected = (Arc<Run>, Arc<Vec<u8>>);

/// Work for the threads.
enum Work {
    /// Hash the pieces of a run; its number counts runs.
    Hash(usize, Arc<Run>, Arc<Vec<u8>>),
    Chunks(Job),
}

/// What they did.
enum Worked {
    Hashed(Vec<(usize, PieceInfo, Shared)>),
    Chunks(Results),
}

/// A piece whose chunk is being checked, encoded or inserted.
struct Arrived {
    tensor: usize,
    info: PieceInfo,
    raw: Shared,
}

/// Stores tensors of which the bytes arrive in parts.
pub struct StreamWriter {
    layout: Arc<Layout>,
    /// Where it began.
    start: u64,
    /// Of the first piece after `run`.
    next: Position,
    /// The pieces whose bytes are being collected.
    run: Run,
    collected: Vec<u8>,
    runs: usize,
    pipeline: Pipeline<'static, Work, Worked>,
    /// Chunks to be encoded and checked, which do not fit into the pipeline.
    queue: VecDeque<Job>,
    hashes: Arc<Mutex<StreamHashes>>,
    in_order: Arc<InOrder<Collected>>,
    /// Pieces that have not been looked up, and their bytes.
    hashed: Vec<Arrived>,
    hashed_bytes: usize,
    /// By their hash: those looked up.
    working: BTreeMap<ChunkHash, Arrived>,
    /// Chunks that have been dealt with.
    settled: HashSet<ChunkHash>,
    encoded: Vec<NewChunk>,
    encoded_bytes: usize,
    /// The buffers with the raw bytes of those, and how much they hold: what is encoded small keeps as much as any.
    pinned: HashSet<usize>,
    pinned_bytes: usize,
    inserting: Inserting,
    /// The chunks of the stored tensors that these may be differences to, by their first element and their size.
    bases: HashMap<usize, HashMap<(u64, u64), ChunkHash>>,
    pieces: Vec<Streamed>,
    buffers: Buffers,
}

impl StreamWriter {
    /// Goes on where `hashes` have seen everything before: at byte `at` of the tensors, where a piece begins.
    pub fn new<C: Session>(
        session: &C,
        layout: Arc<Layout>,
        at: u64,
        hashes: StreamHashes,
    ) -> Result<StreamWriter, C::Error> {
        let next = layout.position(at).ok_or(Error::StreamPosition(at))?;
        let buffers = Buffers::for_chunks();
        let hashes = Arc::new(Mutex::new(hashes));
        let (into, free, tensors) = (Arc::clone(&hashes), buffers.clone(), Arc::clone(&layout));
        let in_order = Arc::new(InOrder::new(move |(run, raw): Collected| {
            let mut hashes = into.lock().unwrap_or_else(PoisonError::into_inner);
            hashes.update(&tensors, &run, &raw);
            give(&free, raw);
        }));
        let (ordered, free, tensors) =
            (Arc::clone(&in_order), buffers.clone(), Arc::clone(&layout));
        let pipeline = session.pipeline(
            || (Encoder::new(), Decoder::new()),
            move |(encoder, decoder): &mut (Encoder, Decoder), job| match job {
                Work::Hash(number, run, raw) => {
                    ordered.give(number, (Arc::clone(&run), Arc::clone(&raw)));
                    Worked::Hashed(hash(&tensors, &run, &raw))
                }
                Work::Chunks(job) => Worked::Chunks(work(encoder, decoder, job, &free)),
            },
        )?;
        Ok(StreamWriter {
            layout,
            start: at,
            next,
            run: Run::default(),
            collected: Vec::new(),
            runs: 0,
            pipeline,
            queue: VecDeque::new(),
            hashes,
            in_order,
            hashed: Vec::new(),
            hashed_bytes: 0,
            working: BTreeMap::new(),
            settled: HashSet::new(),
            encoded: Vec::new(),
            encoded_bytes: 0,
            pinned: HashSet::new(),
            pinned_bytes: 0,
            inserting: Inserting::default(),
            bases: HashMap::new(),
            pieces: Vec::new(),
            buffers,
        })
    }

    /// Takes the next bytes. Returns before all of them are stored.
    pub fn feed<S: TensorStore, C: Session<Error = S::Error>>(
        &mut self,
        store: &mut S,
        session: &C,
        mut bytes: &[u8],
    ) -> Result<(), S::Error> {
        while !bytes.is_empty() {
            if self.run.pieces.is_empty() {
                let run = self.layout.next_run(&mut self.next);
                self.run = run.ok_or(Error::TooManyBytes(bytes.len() as u64))?;
                self.collected = self.buffers.take();
                self.collected.clear();
                self.collected.reserve(self.run.bytes);
            }
            let missing = self.run.bytes - self.collected.len();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.collected.extend_from_slice(now);
            bytes = later;
            if self.collected.len() == self.run.bytes {
                let run = std::mem::take(&mut self.run);
                let raw = std::mem::take(&mut self.collected);
                self.hash(store, session, run, raw)?;
            }
        }
        session.check()?;
        while let Some(worked) = self.pipeline.try_next() {
            self.take(store, session, worked?)?;
            self.submit_queued();
        }
        Ok(())
    }

    /// Stores what is complete.
    pub fn finish<S: TensorStore, C: Session<Error = S::Error>>(
        mut self,
        store: &mut S,
        session: &C,
    ) -> Result<Outcome, S::Error> {
        let mut run = std::mem::take(&mut self.run);
        let mut raw = std::mem::take(&mut self.collected);
        run.cut(raw.len());
        let rest = raw.split_off(run.bytes);
        if !run.pieces.is_empty() {
            self.hash(store, session, run, raw)?;
        }
        loop {
            self.submit_queued();
            match session.next(&mut self.pipeline)? {
                Some(worked) => self.take(store, session, worked)?,
                None if !self.hashed.is_empty() => self.look_up(store)?,
                None if self.queue.is_empty() => break,
                None => {}
            }
        }
        self.insert(store)?;
        session.wait_until(|| self.in_order.done() == self.runs)?;
        let StreamWriter {
            pipeline,
            in_order,
            hashes,
            mut pieces,
            inserting,
            layout,
            start,
            ..
        } = self;
        drop((pipeline, in_order));
        let mut hashes = Arc::into_inner(hashes)
            .and_then(|hashes| hashes.into_inner().ok())
            .ok_or_else(|| Error::WorkerPanic("hashes of the stream are still in use".into()))?;
        let whole: HashMap<usize, ChunkHash> = hashes.take_finished().into_iter().collect();
        for piece in &mut pieces {
            if layout.is_last(piece.tensor, &piece.info.piece) {
                piece.content_hash = whole.get(&piece.tensor).copied();
            }
        }
        let stored = pieces.iter().map(|p| u64::from(p.info.piece.byte_len));
        let next = layout.position(start + stored.sum::<u64>());
        Ok(Outcome {
            next_end: next.and_then(|next| layout.piece_end(next)),
            pieces,
            inserted: inserting.inserted,
            hashes,
            rest,
        })
    }

    /// Has the threads hash a run.
    fn hash<S: TensorStore, C: Session<Error = S::Error>>(
        &mut self,
        store: &mut S,
        session: &C,
        run: Run,
        raw: Vec<u8>,
    ) -> Result<(), S::Error> {
        loop {
            self.submit_queued();
            if self.queue.is_empty() && !self.pipeline.is_full() {
                break;
            }
            if let Some(worked) = session.next(&mut self.pipeline)? {
                self.take(store, session, worked)?;
            }
        }
        session.wait_until(|| self.runs < self.in_order.done() + BACKLOG)?;
        // Room was made above, so the job is taken.
        let job = Work::Hash(self.runs, Arc::new(run), Arc::new(raw));
        drop(self.pipeline.submit(job));
        self.runs += 1;
        Ok(())
    }

    fn submit_queued(&mut self) {
        while !self.pipeline.is_full() {
            let Some(job) = self.queue.pop_front() else {
                break;
            };
            // Room was seen above, so the job is taken.
            drop(self.pipeline.submit(Work::Chunks(job)));
        }
    }

    fn take<S: TensorStore, C: Session<Error = S::Error>>(
        &mut self,
        store: &mut S,
        session: &C,
        worked: Worked,
    ) -> Result<(), S::Error> {
        match worked {
            Worked::Hashed(found) => {
                for (tensor, info, raw) in found {
                    self.hashed_bytes += info.piece.byte_len as usize;
                    self.pieces.push(Streamed {
                        tensor,
                        info: info.clone(),
                        content_hash: None,
                    });
                    self.hashed.push(Arrived { tensor, info, raw });
                }
                if self.hashed_bytes >= BATCH_BYTES || self.hashed.len() >= BATCH_PIECES {
                    self.look_up(store)?;
                }
            }
            Worked::Chunks(done) => {
                for (hash, done) in done? {
                    match done {
                        Done::Encoded(new) => {
                            session.advance(new.raw_bytes.into());
                            self.encoded_bytes += new.encoded.len();
                            self.pin(&new.hash);
                            self.encoded.push(new);
                        }
                        Done::Good(raw_bytes) => {
                            session.advance(raw_bytes);
                            self.settle(&hash);
                        }
                        Done::Damaged => {
                            self.mend(store, &hash)?;
                            self.settle(&hash);
                        }
                        // Only of bytes that were read twice.
                        Done::Changed => {
                            return Err(Error::SourceChanged(format!("chunk {hash}")).into());
                        }
                    }
                }
                if self.encoded_bytes >= BATCH_BYTES
                    || self.pinned_bytes >= MAX_PINNED_BYTES
                    || self.encoded.len() >= BATCH_PIECES
                {
                    self.insert(store)?;
                }
            }
        }
        Ok(())
    }

    fn dtype(&self, tensor: usize) -> DType {
        let placed = self.layout.tensors().get(tensor);
        placed.map_or(DType::U8, |placed| placed.tensor.dtype)
    }
}

fn give(free: &Buffers, raw: Arc<Vec<u8>>) {
    if let Some(raw) = Arc::into_inner(raw) {
        free.give(raw);
    }
}

/// The hash and the zone map of each piece of a run.
fn hash(layout: &Layout, run: &Run, raw: &Arc<Vec<u8>>) -> Vec<(usize, PieceInfo, Shared)> {
    let mut start = 0;
    run.pieces
        .iter()
        .filter_map(|&(tensor, piece)| {
            let range = start..start + piece.byte_len as usize;
            start = range.end;
            let bytes = raw.get(range.clone())?;
            let info = PieceInfo {
                piece,
                hash: ChunkHash::of(bytes),
                stats: stats::scan(layout.tensors().get(tensor)?.tensor.dtype, bytes),
            };
            let shared = Shared {
                buffer: Arc::clone(raw),
                range,
            };
            Some((tensor, info, shared))
        })
        .collect()
}

/// The hash of a tensor from its pieces' hashes, where one piece or none says it.
pub fn content_hash(pieces: &[PieceInfo]) -> Option<ChunkHash> {
    match pieces {
        [] => Some(ContentHasher::new().finish()),
        [only] => Some(only.hash),
        _ => None,
    }
}
