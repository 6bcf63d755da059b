//! Streams chunks in order, decoded on threads and checked against their hashes.

use std::collections::VecDeque;

use modelstore_tensor::DType;
use modelstore_tensor::stats::{self, Stats};

use crate::port::{ChunkStore, Session};
use crate::read::Chain;
use crate::{Buffers, ChunkHash, Decoder, Error, Pipeline, ReadError};

/// A chunk to read.
#[derive(Clone, Debug)]
pub struct Wanted<T> {
    /// Its hash.
    pub hash: ChunkHash,
    /// What it is read for; any value of the caller.
    pub of: T,
    /// Type of the elements, if their statistics are wanted.
    pub figures_of: Option<DType>,
}

/// The result of reading a chunk.
pub struct Outcome<T, E> {
    /// Its hash.
    pub hash: ChunkHash,
    /// What it was read for.
    pub of: T,
    /// Its raw bytes, with the statistics of their elements if wanted; or the error.
    pub raw: Result<(Vec<u8>, Option<Stats>), ReadError<E>>,
}

type Job = (Chain, Option<DType>);
type Done = Result<(Vec<u8>, Option<Stats>), Error>;
/// A job on the threads: a chunk, what it is for, and the error of fetching it, which is returned in order.
type Submitted<T, E> = (ChunkHash, T, Option<ReadError<E>>);

/// A stream of raw bytes. Memory: a few chunks per thread, whatever the tensor's size.
pub struct ChunkStream<S: ChunkStore, C, T> {
    store: S,
    session: C,
    wanted: VecDeque<Wanted<T>>,
    submitted: VecDeque<Submitted<T, S::Error>>,
    pipeline: Pipeline<'static, Job, Done>,
    /// Encoded and raw bytes differ in length: with separate lists, a reused buffer needs no zeroing at its end.
    encoded: Buffers,
    raw: Buffers,
}

impl<S: ChunkStore, C: Session<Error = S::Error>, T> ChunkStream<S, C, T> {
    /// Streams chunks in the given order.
    pub fn new(
        store: S,
        session: C,
        wanted: impl IntoIterator<Item = Wanted<T>>,
    ) -> Result<ChunkStream<S, C, T>, S::Error> {
        let (encoded, raw) = (Buffers::for_chunks(), Buffers::for_chunks());
        let (free_encoded, free_raw) = (encoded.clone(), raw.clone());
        let pipeline = session.pipeline(
            Decoder::new,
            move |decoder: &mut Decoder, (chain, figures_of): Job| {
                let raw = chain.decode(decoder, &free_encoded, &free_raw)?;
                let figures = figures_of.and_then(|dtype| stats::scan(dtype, &raw));
                Ok((raw, figures))
            },
        )?;
        Ok(ChunkStream {
            store,
            session,
            wanted: wanted.into_iter().collect(),
            submitted: VecDeque::new(),
            pipeline,
            encoded,
            raw,
        })
    }

    /// Returns the next chunk; `None` at the end. A bad chunk does not end the stream, an error of the store does.
    pub fn next_chunk(&mut self) -> Result<Option<Outcome<T, S::Error>>, S::Error> {
        self.fill();
        let Some((hash, of, failure)) = self.submitted.pop_front() else {
            return Ok(None);
        };
        let raw = match failure {
            Some(failure) => Err(failure),
            None => match self.session.next(&mut self.pipeline)? {
                Some(done) => done.map_err(|e| ReadError::Corrupt(hash, e)),
                None => Err(ReadError::Missing(hash)),
            },
        };
        // Read ahead while the caller processes this chunk.
        self.fill();
        Ok(Some(Outcome { hash, of, raw }))
    }

    /// Reuses the memory of a chunk for a later one.
    pub fn recycle(&self, raw: Vec<u8>) {
        self.raw.give(raw);
    }

    fn fill(&mut self) {
        while !self.pipeline.is_full()
            && let Some(Wanted {
                hash,
                of,
                figures_of,
            }) = self.wanted.pop_front()
        {
            let failure = match Chain::fetch(&mut self.store, &hash, &self.encoded) {
                // There is room, as checked above.
                Ok(chain) => self
                    .pipeline
                    .submit((chain, figures_of))
                    .err()
                    .map(|_| ReadError::Missing(hash)),
                Err(failure) => Some(failure),
            };
            self.submitted.push_back((hash, of, failure));
        }
    }
}
