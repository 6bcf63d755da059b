//! The first pass over incoming tensors: everything that can be known without writing.

use crate::background;
use crate::error::{Code, Failure, Result};
use crate::settings;
use crate::source::Source;
use crate::tensor_storage::file_hashes::FileHashes;
use crate::tensor_storage::progress::Progress;
use crate::tensor_storage::write::Incoming;
use modelstore_chunk::{Buffers, ChunkHash, ContentHasher, InOrder, Piece, PieceInfo, grid};
use modelstore_tensor::{DType, stats};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the first pass finds out about a tensor.
pub struct Scanned {
    /// Of all its bytes.
    pub content_hash: ChunkHash,
    /// Its pieces, in order.
    pub pieces: Vec<PieceInfo>,
}

/// The hash and the zone map of every piece, the hash of every tensor, and those of the files.
pub fn scan(
    sources: &mut [&mut dyn Source],
    tensors: &[Incoming<'_>],
    buffers: &Buffers,
    files: Vec<FileHashes>,
    progress: &mut Progress,
) -> Result<(Vec<Scanned>, Vec<FileHashes>)> {
    type Job = (usize, usize, Piece, DType, Vec<u8>);
    /// Pieces that may wait for the hashes of the file: bounds memory where reading is faster than SHA-256.
    const BACKLOG: usize = 8;

    let grids = tensors
        .iter()
        .map(|t| grid(t.dtype, t.shape, settings::chunk_bytes()))
        .collect::<Result<Vec<_>, modelstore_chunk::Error>>()?;
    let hashes = Arc::new(Mutex::new(WholeHashes {
        files,
        tensors: HashMap::new(),
    }));
    let several: Vec<(usize, bool)> = tensors
        .iter()
        .zip(&grids)
        .map(|(t, grid)| (t.file, grid.len() > 1))
        .collect();
    let (into, free) = (Arc::clone(&hashes), buffers.clone());
    let in_order = Arc::new(InOrder::new(move |(tensor, raw): (usize, Arc<Vec<u8>>)| {
        let mut hashes = into.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, several) = several[tensor];
        hashes.files[file].update(&raw);
        // A tensor of one piece has the hash of that piece.
        if several {
            hashes.tensors.entry(tensor).or_default().update(&raw);
        }
        Arc::into_inner(raw)
            .into_iter()
            .for_each(|raw| free.give(raw));
    }));
    let (ordered, free) = (Arc::clone(&in_order), buffers.clone());
    let mut pipeline = background::pipeline(
        || (),
        move |(), (number, tensor, piece, dtype, raw): Job| {
            let raw = Arc::new(raw);
            ordered.give(number, (tensor, Arc::clone(&raw)));
            let info = PieceInfo {
                piece,
                hash: ChunkHash::of(&raw),
                stats: stats::scan(dtype, &raw),
            };
            Arc::into_inner(raw)
                .into_iter()
                .for_each(|raw| free.give(raw));
            (tensor, info)
        },
    )?;
    let mut pieces: Vec<Vec<PieceInfo>> = tensors.iter().map(|_| Vec::new()).collect();
    let mut take = |(tensor, info): (usize, PieceInfo)| {
        progress.advance(u64::from(info.piece.byte_len));
        pieces[tensor].push(info);
    };
    let mut submitted = 0;
    for (tensor, incoming) in tensors.iter().enumerate() {
        for piece in grids[tensor].iter() {
            while pipeline.is_full() {
                background::next(&mut pipeline)?
                    .into_iter()
                    .for_each(&mut take);
            }
            background::wait_until(|| submitted < in_order.done() + BACKLOG)?;
            let mut raw = buffers.take();
            sources[incoming.file].read_at(
                incoming.offset + piece.byte_offset,
                piece.byte_len as usize,
                &mut raw,
            )?;
            // Room was made above, so the job is taken.
            drop(pipeline.submit((submitted, tensor, piece, incoming.dtype, raw)));
            submitted += 1;
        }
    }
    while let Some(result) = background::next(&mut pipeline)? {
        take(result);
    }
    background::wait_until(|| in_order.done() == submitted)?;
    drop((pipeline, in_order));
    let hashes = Arc::into_inner(hashes)
        .and_then(|hashes| hashes.into_inner().ok())
        .ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "hashes of the files are still in use",
            )
        })?;
    let scanned = pieces
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
    Ok((scanned, hashes.files))
}

/// Hashes that need all bytes in order.
struct WholeHashes {
    files: Vec<FileHashes>,
    /// Of tensors of several pieces.
    tensors: HashMap<usize, ContentHasher>,
}
