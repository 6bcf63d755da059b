//! Bytes become stored tensors.
//!
//! Two passes over the sources. The first hashes every piece and makes its zone map, on threads; the second encodes and
//! inserts what the store does not have, in the order of the hashes, and checks what it has. That order is what keeps two
//! transactions that add overlapping models from deadlocking on each other's uncommitted chunks: all chunks first,
//! ordered, then all tensors, ordered.

mod chunks;
mod file_hashes;
mod scan;

pub use file_hashes::FileHashes;

use std::collections::{BTreeMap, HashMap};

use modelstore_tensor::{DType, Shape};
use uuid::Uuid;

use crate::port::{Identity, NewTensor, Session, Source, StoredPiece, TensorStore};
use crate::{Buffers, ChunkHash, Error, MAX_CHUNK_BYTES};
use chunks::{Origin, write_chunks};
use scan::{Scan, Scanned, scan};

/// A file that tensors come from.
pub struct InFile<'a, E> {
    /// Its bytes.
    pub source: &'a mut dyn Source<E>,
    /// Its hashes, which have seen the bytes before the tensors.
    pub hashes: FileHashes,
}

/// A tensor that lies somewhere in a file.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    /// Which of the files.
    pub file: usize,
    /// Its name in messages.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: &'a Shape,
    /// Where its elements begin in the file.
    pub offset: u64,
    /// A stored tensor that it may be stored as a difference to, if it has the same dtype and shape.
    pub base: Option<Uuid>,
}

/// A tensor that is stored now.
#[derive(Clone, Debug)]
pub struct WrittenTensor {
    /// Its key.
    pub id: Uuid,
    /// BLAKE3-256 of its raw bytes.
    pub content_hash: ChunkHash,
    /// Its chunks in order, as the store has them.
    pub chunks: Vec<ChunkHash>,
    /// Whether all its elements are equal; also when it has none, or none that are numbers.
    pub is_constant: bool,
}

/// What was stored.
pub struct Written {
    /// The stored tensor of each incoming one, in the same order.
    pub tensors: Vec<WrittenTensor>,
    /// Chunks the store did not have.
    pub new_chunks: u64,
    /// What those take, encoded.
    pub new_bytes: u64,
    /// Raw bytes that the store had already, or that came twice.
    pub reused_bytes: u64,
    /// The hashes of the files, which have seen the tensors' bytes.
    pub files: Vec<FileHashes>,
}

/// A distinct tensor: where it comes from, and what the first pass found out.
type Row<'a> = (&'a Incoming<'a>, &'a Scanned);
/// Distinct tensors in the order in which they are inserted.
type Rows<'a> = BTreeMap<&'a Identity, Row<'a>>;

/// Tensors of a call to the store.
const BATCH_TENSORS: usize = 1000;
/// How often an insert is tried again. Each time somebody else must have committed the row and the collector removed it
/// in between.
const TRIES: usize = 100;

/// Raw bytes of tensors. Each counts twice in [`Session::advance`], once for each pass.
pub fn raw_bytes(tensors: &[Incoming<'_>]) -> Result<u64, Error> {
    let sizes = tensors.iter().map(|t| t.shape.byte_len(t.dtype));
    Ok(sizes.sum::<Result<u64, modelstore_tensor::Error>>()?)
}

/// Stores tensors, those of each file in its order, cut into chunks of about `chunk_bytes`. Files that are stored in one
/// transaction are given together, so that their chunks are inserted in one order.
pub fn write_tensors<S: TensorStore, C: Session<Error = S::Error>>(
    store: &mut S,
    session: &C,
    chunk_bytes: u64,
    files: Vec<InFile<'_, S::Error>>,
    tensors: &[Incoming<'_>],
) -> Result<Written, S::Error> {
    let (mut sources, hashes): (Vec<&mut dyn Source<S::Error>>, Vec<FileHashes>) =
        files.into_iter().map(|f| (f.source, f.hashes)).unzip();
    let buffers = Buffers::for_chunks();
    let total = raw_bytes(tensors)?;
    let Scan {
        tensors: scanned,
        files,
        small,
    } = scan(
        session,
        &mut sources,
        tensors,
        chunk_bytes,
        &buffers,
        hashes,
    )?;

    let identities: Vec<Identity> = tensors
        .iter()
        .zip(&scanned)
        .map(|(t, s)| Identity {
            content_hash: s.content_hash,
            dtype: t.dtype,
            dims: t.shape.dims().to_vec(),
        })
        .collect();
    let mut rows: Rows<'_> = BTreeMap::new();
    for (identity, row) in identities.iter().zip(tensors.iter().zip(&scanned)) {
        rows.entry(identity).or_insert(row);
    }
    let mut stored = HashMap::new();
    lock_tensors(store, rows.keys().copied(), &mut stored)?;

    let mut origins = new_pieces(store, &rows, &stored)?;
    let mut recut = pieces_of_stored(store, &rows, &stored, &mut origins)?;
    let inserted = write_chunks(store, session, &mut sources, &origins, &small, &buffers)?;
    drop((origins, small));
    for source in &mut sources {
        source.check_len()?;
    }

    rows.retain(|identity, _| !stored.contains_key(*identity));
    let found_late = insert_tensors(store, session, &rows, &mut stored)?;
    // Somebody else has added these meanwhile, perhaps cut in another way.
    let late: Rows<'_> = rows
        .into_iter()
        .filter(|(identity, _)| found_late.contains(identity))
        .collect();
    recut.extend(pieces_of_stored(
        store,
        &late,
        &stored,
        &mut BTreeMap::new(),
    )?);

    let written = identities.iter().zip(&scanned).map(|(identity, scan)| {
        let id = stored.get(identity).copied();
        let chunks = match recut.get(identity) {
            Some(chunks) => chunks.clone(),
            None => scan.pieces.iter().map(|piece| piece.hash).collect(),
        };
        Ok(WrittenTensor {
            id: id.ok_or_else(|| store.not_stored(&identity.content_hash.to_string()))?,
            content_hash: identity.content_hash,
            chunks,
            is_constant: is_constant(scan),
        })
    });
    Ok(Written {
        tensors: written.collect::<Result<_, S::Error>>()?,
        new_chunks: inserted.chunks,
        new_bytes: inserted.stored_bytes,
        reused_bytes: total - inserted.raw_bytes,
        files,
    })
}

fn is_constant(scan: &Scanned) -> bool {
    let stats = || scan.pieces.iter().filter_map(|piece| piece.stats.as_ref());
    let min = stats().filter_map(|s| s.min()).reduce(f64::min);
    let max = stats().filter_map(|s| s.max()).reduce(f64::max);
    min == max && stats().all(|s| s.nans == 0)
}

/// Finds tensors that the store has, and keeps them from the collector until the transaction ends.
fn lock_tensors<'a, S: TensorStore>(
    store: &mut S,
    identities: impl Iterator<Item = &'a Identity>,
    stored: &mut HashMap<Identity, Uuid>,
) -> Result<(), S::Error> {
    let identities: Vec<&Identity> = identities.collect();
    for batch in identities.chunks(BATCH_TENSORS) {
        stored.extend(store.lock_tensors(batch)?);
    }
    Ok(())
}

/// The pieces of tensors that the store does not have, by their hashes.
fn new_pieces<'a, S: TensorStore>(
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

/// Adds the pieces of tensors that the store has, as it has them: it may have been another size of chunks that they were
/// cut with. Their chunks are checked as well, because what was stored once may be damaged by now. Returns the chunks of
/// each tensor.
fn pieces_of_stored<'a, S: TensorStore>(
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

/// Where the bytes of a recorded piece are, of which all before have `covered` elements.
fn stored_piece<'a>(
    (tensor, scan): &Row<'a>,
    piece: &StoredPiece,
    covered: u64,
) -> Result<Origin<'a>, Error> {
    let damaged = || Error::DamagedTensor(tensor.name.to_owned());
    if piece.first_element != covered || piece.end() > tensor.shape.elements() {
        return Err(damaged());
    }
    // Cut the same way it must have the same chunks.
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

/// Adds tensors and their pieces in the order of their identities, or finds those that somebody else has added meanwhile;
/// returns these.
fn insert_tensors<'a, S: TensorStore, C: Session<Error = S::Error>>(
    store: &mut S,
    session: &C,
    rows: &Rows<'a>,
    stored: &mut HashMap<Identity, Uuid>,
) -> Result<Vec<&'a Identity>, S::Error> {
    let mut rest: Vec<(&'a Identity, Row<'a>)> = rows.iter().map(|(i, row)| (*i, *row)).collect();
    let mut found = Vec::new();
    for _ in 0..TRIES {
        for batch in rest.chunks(BATCH_TENSORS) {
            let new: Vec<NewTensor<'_>> = batch
                .iter()
                .map(|(identity, (tensor, scan))| NewTensor {
                    identity,
                    shape: tensor.shape,
                    pieces: &scan.pieces,
                })
                .collect();
            for ((identity, _), id) in batch.iter().zip(store.add_tensors(&new)?) {
                stored.extend(id.map(|id| ((*identity).clone(), id)));
            }
            session.check()?;
        }
        rest.retain(|(identity, _)| !stored.contains_key(*identity));
        lock_tensors(store, rest.iter().map(|(identity, _)| *identity), stored)?;
        rest.retain(|(identity, _)| {
            let is_stored = stored.contains_key(*identity);
            if is_stored {
                found.push(*identity);
            }
            !is_stored
        });
        if rest.is_empty() {
            return Ok(found);
        }
    }
    let name = rest.first().map_or("", |(_, (tensor, _))| tensor.name);
    Err(store.not_stored(name))
}
