//! Locates the bytes of the chunks of tensors.

use std::collections::{BTreeMap, HashMap};

use modelstore_tensor::{DType, Shape};
use uuid::Uuid;

use crate::port::{Identity, StoredPiece, TensorStore};
use crate::write::chunks::Origin;
use crate::write::{BATCH_TENSORS, Row, Rows};
use crate::{ChunkHash, Error, MAX_CHUNK_BYTES};

/// Returns the pieces of tensors that the store does not have, by hash.
pub fn new_pieces<'a, S: TensorStore>(
    store: &mut S,
    rows: &Rows<'a>,
    stored: &HashMap<Identity, Uuid>,
) -> Result<BTreeMap<ChunkHash, Origin<'a>>, S::Error> {
    let new: Vec<Row<'a>> = rows
        .iter()
        .filter(|(identity, _)| !stored.contains_key(**identity))
        .map(|(_, row)| *row)
        .collect();
    let mut origins = BTreeMap::new();
    for batch in new.chunks(BATCH_TENSORS) {
        let with_base: Vec<(usize, (Uuid, DType, &Shape))> = batch
            .iter()
            .enumerate()
            .filter_map(|(at, (t, _))| Some((at, (t.base?, t.dtype, t.shape))))
            .collect();
        let wanted: Vec<_> = with_base.iter().map(|(_, base)| *base).collect();
        let mut bases = HashMap::new();
        if !wanted.is_empty() {
            for (place, piece) in store.pieces(&wanted)? {
                let at = with_base.get(place).map(|(at, _)| *at);
                bases.insert((at, piece.first_element, piece.element_count), piece.hash);
            }
        }
        for (at, (tensor, scan)) in batch.iter().enumerate() {
            for info in &scan.pieces {
                let place = (Some(at), info.piece.first_element, info.piece.element_count);
                origins.entry(info.hash).or_insert(Origin {
                    file: tensor.file,
                    name: tensor.name,
                    offset: tensor.offset + info.piece.byte_offset,
                    len: info.piece.byte_len,
                    dtype: tensor.dtype,
                    base: bases.get(&place).copied().filter(|base| *base != info.hash),
                    recorded: false,
                });
            }
        }
    }
    Ok(origins)
}

/// Adds the pieces of stored tensors, as recorded: they may have been split with another chunk size. Their chunks are
/// checked, too, because they may have been damaged since. Returns the chunks of each tensor.
pub fn pieces_of_stored<'a, S: TensorStore>(
    store: &mut S,
    rows: &Rows<'a>,
    stored: &HashMap<Identity, Uuid>,
    origins: &mut BTreeMap<ChunkHash, Origin<'a>>,
) -> Result<HashMap<Identity, Vec<ChunkHash>>, S::Error> {
    let found: Vec<(&Identity, Uuid, Row<'a>)> = rows
        .iter()
        .filter_map(|(identity, row)| Some((*identity, *stored.get(*identity)?, *row)))
        .collect();
    let mut chunks = HashMap::new();
    for batch in found.chunks(BATCH_TENSORS) {
        let wanted: Vec<_> = batch
            .iter()
            .map(|(_, id, (t, _))| (*id, t.dtype, t.shape))
            .collect();
        let mut covered = vec![0; batch.len()];
        let mut hashes: Vec<Vec<ChunkHash>> = vec![Vec::new(); batch.len()];
        for (place, piece) in store.pieces(&wanted)? {
            let Some((_, _, row)) = batch.get(place) else {
                continue;
            };
            let origin = stored_piece(row, &piece, covered[place])?;
            covered[place] = piece.end();
            hashes[place].push(piece.hash);
            origins.entry(piece.hash).or_insert(origin);
        }
        for (((identity, _, (tensor, _)), covered), hashes) in batch.iter().zip(covered).zip(hashes)
        {
            if covered != tensor.shape.elements() {
                return Err(Error::DamagedTensor(tensor.name.to_owned()).into());
            }
            chunks.insert((*identity).clone(), hashes);
        }
    }
    Ok(chunks)
}

/// Returns where the bytes of a recorded piece are; the pieces before it have `covered` elements.
fn stored_piece<'a>(
    (tensor, scan): &Row<'a>,
    piece: &StoredPiece,
    covered: u64,
) -> Result<Origin<'a>, Error> {
    let damaged = || Error::DamagedTensor(tensor.name.to_owned());
    if piece.first_element != covered || piece.end() > tensor.shape.elements() {
        return Err(damaged());
    }
    // Split the same way, it must have the same chunk.
    if let Ok(at) = scan
        .pieces
        .binary_search_by_key(&piece.first_element, |i| i.piece.first_element)
        && scan.pieces[at].piece.element_count == piece.element_count
        && scan.pieces[at].hash != piece.hash
    {
        return Err(damaged());
    }
    let start = tensor.dtype.byte_len(piece.first_element);
    let len = tensor.dtype.byte_len(piece.element_count);
    let (start, len) = start.zip(len).ok_or_else(damaged)?;
    if len > MAX_CHUNK_BYTES {
        return Err(damaged());
    }
    Ok(Origin {
        file: tensor.file,
        name: tensor.name,
        offset: tensor.offset + start,
        len: u32::try_from(len).map_err(|_| damaged())?,
        dtype: tensor.dtype,
        base: None,
        recorded: true,
    })
}
