//! Copies encoded chunks from one store to another.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use modelstore_tensor::DType;

use crate::port::{ChunkStore, MAX_DELTA_DEPTH, Recorded, SMALL_CHUNK, Session};
use crate::read::Chain;
use crate::write::chunks::{Inserted, JOB_BYTES, JOB_CHUNKS, is_recorded_right};
use crate::write::copy_task::{Done, Job, Results, Task, work};
use crate::write::inserting::{Inserting, chain, is_good, mend};
use crate::{
    Buffers, ChunkHash, ChunkHead, Decoder, Encoder, Error, PREFIX_BYTES, Pipeline, ReadError,
};

/// Type of the elements of a chunk, and its raw bytes.
pub type CopiedChunk = (DType, u32);

/// Inserts the chunks that the store does not have, and checks the others. A delta stays one if its base is in the store,
/// or among the chunks: these are inserted first.
pub fn copy_chunks<F, S, C>(
    from: &mut F,
    to: &mut S,
    session: &C,
    chunks: BTreeMap<ChunkHash, CopiedChunk>,
) -> Result<Inserted, S::Error>
where
    F: ChunkStore<Error = S::Error>,
    S: ChunkStore,
    C: Session<Error = S::Error>,
{
    let hashes: Vec<ChunkHash> = chunks.keys().copied().collect();
    let present = to.lock(&hashes)?;
    let missing = hashes.iter().filter(|hash| !present.contains_key(hash));
    let bases = bases_of(from, session, missing)?;
    let rounds = rounds(&hashes, &bases);
    let buffers = Buffers::for_chunks();
    let free = buffers.clone();
    let mut pipeline = session.pipeline(
        || (Encoder::new(), Decoder::new()),
        move |(encoder, decoder): &mut (Encoder, Decoder), job: Job| {
            work(encoder, decoder, job, &free)
        },
    )?;
    let mut copy = Copy {
        from,
        to,
        session,
        buffers,
        chunks,
        present,
        bases,
        inserting: Inserting::default(),
    };
    for round in rounds {
        let depths = copy.depths(&round)?;
        let mut rest = round.as_slice();
        while !rest.is_empty() {
            let (job, later) = rest.split_at(copy.job_len(rest));
            rest = later;
            while pipeline.is_full() {
                copy.take_next(&mut pipeline)?;
            }
            let job = copy.read(job, &depths)?;
            // There is room, as ensured above.
            drop(pipeline.submit(job));
        }
        while !pipeline.is_empty() {
            copy.take_next(&mut pipeline)?;
        }
        copy.flush()?;
    }
    Ok(copy.inserting.inserted)
}

/// Returns the bases of those chunks that are deltas.
fn bases_of<'a, F: ChunkStore, C: Session<Error = F::Error>>(
    from: &mut F,
    session: &C,
    hashes: impl Iterator<Item = &'a ChunkHash>,
) -> Result<HashMap<ChunkHash, ChunkHash>, F::Error> {
    let mut bases = HashMap::new();
    for hash in hashes {
        session.check()?;
        from.visit(hash, &mut |encoded| {
            encoded.slice(0, PREFIX_BYTES, &mut |prefix| {
                let head = ChunkHead::parse(prefix).ok();
                bases.extend(head.and_then(|head| head.base).map(|base| (*hash, base)));
            });
        })?;
    }
    Ok(bases)
}

/// Splits hashes, which are in order, so that each comes after its base if that is among them. A chain that does not end
/// is left to the reader, who refuses it.
fn rounds(
    hashes: &[ChunkHash],
    bases: &HashMap<ChunkHash, ChunkHash>,
) -> [Vec<ChunkHash>; MAX_DELTA_DEPTH + 1] {
    let wanted: BTreeSet<&ChunkHash> = hashes.iter().collect();
    let mut rounds: [Vec<ChunkHash>; MAX_DELTA_DEPTH + 1] = Default::default();
    for hash in hashes {
        let mut at = hash;
        let mut round = 0;
        while let Some(base) = bases.get(at).filter(|base| wanted.contains(base)) {
            if round == MAX_DELTA_DEPTH {
                break;
            }
            (at, round) = (base, round + 1);
        }
        rounds[round].push(*hash);
    }
    rounds
}

/// A copy in progress.
struct Copy<'p, F, S, C> {
    from: &'p mut F,
    to: &'p mut S,
    session: &'p C,
    buffers: Buffers,
    chunks: BTreeMap<ChunkHash, CopiedChunk>,
    /// Those that the store had.
    present: BTreeMap<ChunkHash, Recorded>,
    /// The bases of the others, where they come from.
    bases: HashMap<ChunkHash, ChunkHash>,
    inserting: Inserting,
}

impl<F, S, C> Copy<'_, F, S, C>
where
    F: ChunkStore<Error = S::Error>,
    S: ChunkStore,
    C: Session<Error = S::Error>,
{
    /// Returns the number of deltas below the bases that the store has by now, and protects these from gc. Another session
    /// may have added one in another encoding than ours.
    fn depths(&mut self, round: &[ChunkHash]) -> Result<HashMap<ChunkHash, i16>, S::Error> {
        let bases: BTreeSet<ChunkHash> = round
            .iter()
            .filter_map(|hash| self.bases.get(hash).copied())
            .collect();
        let found = self.to.lock(&bases.into_iter().collect::<Vec<_>>())?;
        Ok(found
            .into_iter()
            .map(|(base, recorded)| (base, recorded.delta_depth))
            .collect())
    }

    /// Returns how many of the chunks form the next job.
    fn job_len(&self, hashes: &[ChunkHash]) -> usize {
        let mut bytes = 0;
        let fits = hashes.iter().take(JOB_CHUNKS).take_while(|hash| {
            bytes += self.len(hash);
            bytes <= JOB_BYTES
        });
        fits.count().max(1)
    }

    fn len(&self, hash: &ChunkHash) -> usize {
        self.chunks.get(hash).map_or(0, |(_, len)| *len as usize)
    }

    fn read(
        &mut self,
        hashes: &[ChunkHash],
        depths: &HashMap<ChunkHash, i16>,
    ) -> Result<Job, S::Error> {
        // Raw, a chunk takes a few bytes more than its elements at most.
        let few: Vec<ChunkHash> = hashes
            .iter()
            .filter(|hash| {
                self.len(hash) < SMALL_CHUNK - 64
                    && !self.present.contains_key(hash)
                    && !self.bases.contains_key(hash)
            })
            .copied()
            .collect();
        let mut few = match few.as_slice() {
            [] => HashMap::new(),
            few => self.from.read_small(few)?,
        };
        let mut job = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let Some(&(dtype, len)) = self.chunks.get(hash) else {
                continue;
            };
            let task = match self.present.get(hash) {
                Some(recorded) => {
                    let chain = chain(self.to, &self.buffers, hash)?;
                    Task::Check(chain.filter(|chain| is_recorded_right(chain, len, recorded)))
                }
                None => {
                    let chain = match few.remove(hash) {
                        Some(encoded) => Chain::single(*hash, encoded),
                        None => {
                            let fetched = Chain::fetch(self.from, hash, &self.buffers);
                            fetched.map_err(|e| match e {
                                ReadError::Store(e) => e,
                                _ => damaged(hash).into(),
                            })?
                        }
                    };
                    Task::Copy(dtype, chain, self.kept_base(hash, depths)?)
                }
            };
            job.push((*hash, task));
        }
        Ok(job)
    }

    /// Returns the base that a delta can keep.
    fn kept_base(
        &mut self,
        hash: &ChunkHash,
        depths: &HashMap<ChunkHash, i16>,
    ) -> Result<Option<(i16, Option<Chain>)>, S::Error> {
        let Some(base) = self.bases.get(hash).copied() else {
            return Ok(None);
        };
        let Some(depth) = depths
            .get(&base)
            .filter(|d| (0..MAX_DELTA_DEPTH as i16).contains(*d))
        else {
            return Ok(None);
        };
        // Those of the chunks themselves have been inserted or checked in an earlier round.
        if self.chunks.contains_key(&base) {
            return Ok(Some((depth + 1, None)));
        }
        let chain = chain(self.to, &self.buffers, &base)?;
        Ok(chain.map(|chain| (depth + 1, Some(chain))))
    }

    fn take_next(
        &mut self,
        pipeline: &mut Pipeline<'static, Job, Results>,
    ) -> Result<(), S::Error> {
        let done = self.session.next(pipeline)?.transpose()?;
        for (hash, done) in done.unwrap_or_default() {
            self.session.advance(self.len(&hash) as u64);
            match done {
                Done::Copied(new) => {
                    let others = self.inserting.insert(self.to, &self.buffers, new)?;
                    self.check_others(others)?;
                }
                Done::Good => {}
                Done::Damaged => {
                    // Keeps the order of hashes.
                    self.flush()?;
                    self.mend(&hash)?;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), S::Error> {
        let others = self.inserting.flush(self.to, &self.buffers)?;
        self.check_others(others)
    }

    /// Of another transaction, which committed them meanwhile.
    fn check_others(&mut self, others: Vec<ChunkHash>) -> Result<(), S::Error> {
        for hash in others {
            if !is_good(self.to, &self.buffers, &hash)? {
                self.mend(&hash)?;
            }
        }
        Ok(())
    }

    /// Puts the right bytes in place of a damaged chunk, if the other store has them.
    fn mend(&mut self, hash: &ChunkHash) -> Result<(), S::Error> {
        let Some(&(dtype, _)) = self.chunks.get(hash) else {
            return Err(damaged(hash).into());
        };
        let chain = chain(self.from, &self.buffers, hash)?.ok_or_else(|| damaged(hash))?;
        let raw = chain
            .decode(&mut Decoder::new(), &self.buffers, &self.buffers)
            .map_err(|_| damaged(hash))?;
        mend(self.to, hash, dtype, &raw)
    }
}

fn damaged(hash: &ChunkHash) -> Error {
    Error::DamagedChunk(format!("chunk {hash} is corrupted"))
}
