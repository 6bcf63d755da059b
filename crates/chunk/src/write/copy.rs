//! Copies tensors from one store to another: what the other lacks, as it is encoded.
//!
//! Everything is decoded and compared with its hashes first, so that a store whose tables were changed by hand cannot give
//! another tensors under hashes that are not theirs. Chunks are inserted in the order of hashes; deltas on chunks that
//! are themselves new follow them, in rounds.

use std::collections::{BTreeMap, HashMap};

use crate::port::{Identity, Session, StoredTensor, TensorStore};
use crate::read::{ChunkStream, Wanted};
use crate::verify::wrong_order;
use crate::write::copy_chunks::{CopiedChunk, copy_chunks};
use crate::write::{BATCH_TENSORS, Incoming, Rows, Written, WrittenTensor, add_rows, lock_tensors};
use crate::write::{Scanned, pieces_of_stored};
use crate::{ChunkHash, ContentHasher, Error, Piece, PieceInfo};

/// Copies tensors. Returns the tensor of the other store for each, in the same order; no hashes of files. Memory: a record
/// per chunk, and a few chunks per thread.
pub fn copy_tensors<F, S, C>(
    from: &mut F,
    to: &mut S,
    session: &C,
    tensors: &[StoredTensor],
) -> Result<Written, S::Error>
where
    F: TensorStore<Error = S::Error>,
    S: TensorStore,
    C: Session<Error = S::Error>,
{
    let identities: Vec<Identity> = tensors.iter().map(identity).collect();
    let incoming: Vec<Incoming<'_>> = tensors.iter().map(incoming).collect();
    let mut distinct: BTreeMap<&Identity, usize> = BTreeMap::new();
    for (at, identity) in identities.iter().enumerate() {
        distinct.entry(identity).or_insert(at);
    }
    let mut stored = HashMap::new();
    lock_tensors(to, distinct.keys().copied(), &mut stored)?;
    let mut scanned: Vec<Scanned> = tensors.iter().map(unread).collect();
    let new: Vec<usize> = distinct
        .iter()
        .filter(|(identity, _)| !stored.contains_key(**identity))
        .map(|(_, at)| *at)
        .collect();
    for batch in new.chunks(BATCH_TENSORS) {
        read(from, session, tensors, batch, &mut scanned)?;
    }
    let (mut rows, mut known): (Rows<'_>, Rows<'_>) = (BTreeMap::new(), BTreeMap::new());
    for (identity, &at) in &distinct {
        match stored.contains_key(*identity) {
            true => known.insert(*identity, (&incoming[at], &scanned[at])),
            false => rows.insert(*identity, (&incoming[at], &scanned[at])),
        };
    }
    let mut chunks: BTreeMap<ChunkHash, CopiedChunk> = BTreeMap::new();
    for (tensor, scan) in rows.values() {
        for piece in &scan.pieces {
            let chunk = (tensor.dtype, piece.piece.byte_len);
            chunks.entry(piece.hash).or_insert(chunk);
        }
    }
    // The chunks of tensors that the store has are checked too, as an import does.
    let mut recorded = BTreeMap::new();
    let recut = pieces_of_stored(to, &known, &stored, &mut recorded)?;
    for (hash, origin) in recorded {
        chunks.entry(hash).or_insert((origin.dtype, origin.len));
    }
    let inserted = copy_chunks(from, to, session, chunks)?;
    let total: u64 = tensors.iter().map(|tensor| tensor.raw_bytes).sum();
    let tensors: Vec<WrittenTensor> = add_rows(
        to,
        session,
        rows,
        stored,
        recut,
        &identities,
        &incoming,
        &scanned,
    )?;
    Ok(Written {
        tensors,
        new_chunks: inserted.chunks,
        new_bytes: inserted.stored_bytes,
        reused_bytes: total.saturating_sub(inserted.raw_bytes),
        files: Vec::new(),
    })
}

fn identity(tensor: &StoredTensor) -> Identity {
    Identity {
        content_hash: tensor.content_hash,
        dtype: tensor.dtype,
        dims: tensor.shape.dims().to_vec(),
    }
}

fn incoming(tensor: &StoredTensor) -> Incoming<'_> {
    Incoming {
        file: 0,
        name: &tensor.label,
        dtype: tensor.dtype,
        shape: &tensor.shape,
        offset: 0,
        base: None,
    }
}

fn unread(tensor: &StoredTensor) -> Scanned {
    Scanned {
        content_hash: tensor.content_hash,
        pieces: Vec::new(),
    }
}

/// Decodes tensors, given by their places in the list, and compares them with their hashes.
fn read<F: TensorStore, C: Session<Error = F::Error>>(
    from: &mut F,
    session: &C,
    tensors: &[StoredTensor],
    places: &[usize],
    scanned: &mut [Scanned],
) -> Result<(), F::Error> {
    let ids: Vec<_> = places.iter().map(|&at| tensors[at].id).collect();
    let pieces = from.recorded_pieces(&ids)?;
    for (number, &at) in places.iter().enumerate() {
        // They come tensor after tensor.
        let start = pieces.partition_point(|piece| piece.tensor < number);
        let end = pieces.partition_point(|piece| piece.tensor <= number);
        if wrong_order(&tensors[at], pieces[start..end].iter()).is_some() {
            return Err(damaged(&tensors[at]).into());
        }
    }
    let wanted = pieces.iter().enumerate().map(|(nth, piece)| Wanted {
        hash: piece.hash,
        of: nth,
        figures_of: places.get(piece.tensor).map(|&at| tensors[at].dtype),
    });
    let mut stream = ChunkStream::new(&mut *from, session, wanted.collect::<Vec<_>>())?;
    let mut hashers: HashMap<usize, ContentHasher> = HashMap::new();
    while let Some(chunk) = stream.next_chunk()? {
        let Some((piece, &at)) = pieces
            .get(chunk.of)
            .and_then(|piece| Some((piece, places.get(piece.tensor)?)))
        else {
            continue;
        };
        let tensor = &tensors[at];
        let (raw, stats) = chunk.raw.map_err(|e| e.of(&tensor.label))?;
        let info = piece_info(tensor, piece.first_element, piece.element_count, &raw)
            .ok_or_else(|| damaged(tensor))?;
        hashers.entry(at).or_default().update(&raw);
        session.advance(raw.len() as u64);
        stream.recycle(raw);
        let index = scanned[at].pieces.len() as u32;
        scanned[at].pieces.push(PieceInfo {
            piece: Piece { index, ..info },
            hash: chunk.hash,
            stats,
        });
    }
    for &at in places {
        let content = hashers.remove(&at).unwrap_or_default().finish();
        if content != tensors[at].content_hash {
            return Err(damaged(&tensors[at]).into());
        }
    }
    Ok(())
}

/// Returns where a piece is; none if its bytes are not those of so many elements.
fn piece_info(tensor: &StoredTensor, first: i64, count: i64, raw: &[u8]) -> Option<Piece> {
    let (first_element, element_count) = (u64::try_from(first).ok()?, u64::try_from(count).ok()?);
    let bytes = tensor.dtype.byte_len(element_count)?;
    (bytes == raw.len() as u64).then_some(())?;
    Some(Piece {
        index: 0,
        first_element,
        element_count,
        byte_offset: tensor.dtype.byte_len(first_element)?,
        byte_len: u32::try_from(raw.len()).ok()?,
    })
}

fn damaged(tensor: &StoredTensor) -> Error {
    Error::DamagedTensor(tensor.label.clone())
}
