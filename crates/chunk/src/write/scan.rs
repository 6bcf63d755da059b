//! The first pass over incoming tensors: computes everything that does not require writing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use modelstore_tensor::{DType, stats};

use crate::port::{Session, Source};
use crate::write::{FileHashes, Incoming};
use crate::{Buffers, ChunkHash, ContentHasher, Error, Grid, InOrder, Piece, PieceInfo, grid};

/// The result of the first pass for a tensor.
pub struct Scanned {
    /// Hash of all its bytes.
    pub content_hash: ChunkHash,
    /// Its pieces, in order.
    pub pieces: Vec<PieceInfo>,
}

/// The result of the first pass.
pub struct Scan {
    /// For each tensor, in order.
    pub tensors: Vec<Scanned>,
    /// For each file.
    pub files: Vec<FileHashes>,
    /// Small pieces, up to a limit, so that the second pass does not read each from the source.
    pub small: HashMap<ChunkHash, Box<[u8]>>,
}

/// Short consecutive pieces are read and hashed together, up to this size.
const RUN_BYTES: u64 = 256 << 10;
/// Largest piece that is kept for the second pass, and the total size of those.
const SMALL_BYTES: usize = 16 << 10;
const KEPT_BYTES: usize = 16 << 20;

/// Consecutive pieces in a file.
struct Run {
    file: usize,
    offset: u64,
    len: u64,
    /// Each with its tensor and element type.
    pieces: Vec<(usize, DType, Piece)>,
}

/// A thread's result for a piece, and the piece itself if it is small.
type Found = (usize, PieceInfo, Option<Box<[u8]>>);

/// Computes the hash and the zone map of every piece, the hash of every tensor, and those of the files.
pub fn scan<C: Session>(
    session: &C,
    sources: &mut [&mut dyn Source<C::Error>],
    tensors: &[Incoming<'_>],
    chunk_bytes: u64,
    buffers: &Buffers,
    files: Vec<FileHashes>,
) -> Result<Scan, C::Error> {
    type Job = (usize, Run, Vec<u8>);
    /// Runs that may wait for the hashes of the file: bounds memory if reading is faster than SHA-256.
    const BACKLOG: usize = 8;

    let grids = tensors
        .iter()
        .map(|t| grid(t.dtype, t.shape, chunk_bytes))
        .collect::<Result<Vec<_>, Error>>()?;
    let hashes = Arc::new(Mutex::new(WholeHashes {
        files,
        tensors: HashMap::new(),
    }));
    let several: Vec<bool> = grids.iter().map(|grid| grid.len() > 1).collect();
    let (into, free) = (Arc::clone(&hashes), buffers.clone());
    let in_order = Arc::new(InOrder::new(move |(run, raw): (Arc<Run>, Arc<Vec<u8>>)| {
        let mut hashes = into.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.files[run.file].update(&raw);
        // A tensor of one piece has the hash of that piece.
        for (&(tensor, ..), piece) in run.slices(&raw) {
            if several[tensor] {
                hashes.tensors.entry(tensor).or_default().update(piece);
            }
        }
        Arc::into_inner(raw)
            .into_iter()
            .for_each(|raw| free.give(raw));
    }));
    let (ordered, free) = (Arc::clone(&in_order), buffers.clone());
    let mut pipeline = session.pipeline(
        || (),
        move |(): &mut (), (number, run, raw): Job| {
            let (run, raw) = (Arc::new(run), Arc::new(raw));
            ordered.give(number, (Arc::clone(&run), Arc::clone(&raw)));
            let found: Vec<Found> = run
                .slices(&raw)
                .map(|(&(tensor, dtype, piece), raw)| {
                    let info = PieceInfo {
                        piece,
                        hash: ChunkHash::of(raw),
                        stats: stats::scan(dtype, raw),
                    };
                    (tensor, info, (raw.len() <= SMALL_BYTES).then(|| raw.into()))
                })
                .collect();
            Arc::into_inner(raw)
                .into_iter()
                .for_each(|raw| free.give(raw));
            found
        },
    )?;
    // Of their final size: most tensors have one piece, and a vector that grows begins with room for four.
    let mut pieces: Vec<Vec<PieceInfo>> = (grids.iter())
        .map(|grid| Vec::with_capacity(grid.len() as usize))
        .collect();
    let (mut small, mut kept) = (HashMap::new(), 0);
    let mut take = |session: &C, found: Vec<Found>| {
        for (tensor, info, raw) in found {
            session.advance(u64::from(info.piece.byte_len));
            if let Some(raw) = raw.filter(|raw| kept + raw.len() <= KEPT_BYTES) {
                small.entry(info.hash).or_insert_with(|| {
                    kept += raw.len();
                    raw
                });
            }
            pieces[tensor].push(info);
        }
    };
    let mut submitted = 0;
    for run in runs(tensors, &grids) {
        while pipeline.is_full() {
            if let Some(found) = session.next(&mut pipeline)? {
                take(session, found);
            }
        }
        session.wait_until(|| submitted < in_order.done() + BACKLOG)?;
        let mut raw = buffers.take();
        sources[run.file].read_at(run.offset, run.len as usize, &mut raw)?;
        // There is room, as ensured above.
        drop(pipeline.submit((submitted, run, raw)));
        submitted += 1;
    }
    while let Some(found) = session.next(&mut pipeline)? {
        take(session, found);
    }
    session.wait_until(|| in_order.done() == submitted)?;
    drop((pipeline, in_order));
    let hashes = Arc::into_inner(hashes)
        .and_then(|hashes| hashes.into_inner().ok())
        .ok_or_else(|| Error::WorkerPanic("hashes of the files are still in use".into()))?;
    let tensors = pieces
        .into_iter()
        .enumerate()
        .map(|(tensor, pieces)| {
            let content_hash = match (hashes.tensors.get(&tensor), pieces.as_slice()) {
                (Some(hasher), _) => hasher.finish(),
                (None, [only]) => only.hash,
                (None, _) => ContentHasher::new().finish(),
            };
            Scanned {
                content_hash,
                pieces,
            }
        })
        .collect();
    Ok(Scan {
        tensors,
        files: hashes.files,
        small,
    })
}

/// Returns all pieces in order, short consecutive ones together.
fn runs<'a>(tensors: &'a [Incoming<'_>], grids: &'a [Grid]) -> impl Iterator<Item = Run> + 'a {
    let mut pieces = tensors
        .iter()
        .zip(grids)
        .enumerate()
        .flat_map(|(number, (tensor, grid))| {
            grid.iter().map(move |piece| {
                let offset = tensor.offset + piece.byte_offset;
                (tensor.file, offset, (number, tensor.dtype, piece))
            })
        })
        .peekable();
    std::iter::from_fn(move || {
        let (file, offset, piece) = pieces.next()?;
        let mut run = Run {
            file,
            offset,
            len: u64::from(piece.2.byte_len),
            pieces: vec![piece],
        };
        while let Some((.., piece)) = pieces.next_if(|(file, offset, (.., piece))| {
            let len = u64::from(piece.byte_len);
            *file == run.file && *offset == run.offset + run.len && run.len + len <= RUN_BYTES
        }) {
            run.len += u64::from(piece.2.byte_len);
            run.pieces.push(piece);
        }
        Some(run)
    })
}

impl Run {
    /// Returns each piece with its bytes, given the bytes of the run.
    fn slices<'a>(
        &'a self,
        mut raw: &'a [u8],
    ) -> impl Iterator<Item = (&'a (usize, DType, Piece), &'a [u8])> {
        self.pieces.iter().map(move |piece| {
            let (bytes, rest) = raw.split_at(raw.len().min(piece.2.byte_len as usize));
            raw = rest;
            (piece, bytes)
        })
    }
}

/// Hashes that need all bytes in order.
struct WholeHashes {
    files: Vec<FileHashes>,
    /// For tensors of several pieces.
    tensors: HashMap<usize, ContentHasher>,
}
