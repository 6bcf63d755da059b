//! Bytes become stored tensors.
//!
//! Two passes over the sources. The first hashes every piece and makes its zone map, on threads; the second encodes and
//! inserts what the store does not have, in the order of the hashes, and checks what it has. That order is what keeps two
//! transactions that add overlapping models from deadlocking on each other's uncommitted chunks: all chunks first,
//! ordered, then all tensors, ordered.

mod bases;
mod chunks;
mod file_hashes;
mod inserting;
mod pieces;
mod scan;
pub mod streaming;
mod task;
mod tensors;

pub use chunks::Inserted;
pub use file_hashes::FileHashes;
pub use scan::Scanned;

use std::collections::{BTreeMap, HashMap};

use modelstore_tensor::{DType, Shape};
use uuid::Uuid;

use crate::port::{Identity, Session, Source, TensorStore};
use crate::{Buffers, ChunkHash, Error};
use chunks::write_chunks;
use pieces::{new_pieces, pieces_of_stored};
use scan::{Scan, scan};
use tensors::{insert_tensors, lock_tensors};

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

    let identities = identities(tensors, &scanned);
    let mut rows = rows(&identities, tensors, &scanned);
    let mut stored = HashMap::new();
    lock_tensors(store, rows.keys().copied(), &mut stored)?;

    let mut origins = new_pieces(store, &rows, &stored)?;
    let recut = pieces_of_stored(store, &rows, &stored, &mut origins)?;
    let inserted = write_chunks(store, session, &mut sources, &origins, &small, &buffers)?;
    drop((origins, small));
    for source in &mut sources {
        source.check_len()?;
    }
    rows.retain(|identity, _| !stored.contains_key(*identity));
    let tensors = add_rows(
        store,
        session,
        rows,
        stored,
        recut,
        &identities,
        tensors,
        &scanned,
    )?;
    Ok(Written {
        tensors,
        new_chunks: inserted.chunks,
        new_bytes: inserted.stored_bytes,
        reused_bytes: total - inserted.raw_bytes,
        files,
    })
}

/// Adds tensors of which the chunks are in the store, kept from the collector by something that refers to them.
pub fn record_tensors<S: TensorStore, C: Session<Error = S::Error>>(
    store: &mut S,
    session: &C,
    tensors: &[Incoming<'_>],
    scanned: &[Scanned],
) -> Result<Vec<WrittenTensor>, S::Error> {
    let identities = identities(tensors, scanned);
    let mut rows = rows(&identities, tensors, scanned);
    let mut stored = HashMap::new();
    lock_tensors(store, rows.keys().copied(), &mut stored)?;
    let recut = pieces_of_stored(store, &rows, &stored, &mut BTreeMap::new())?;
    rows.retain(|identity, _| !stored.contains_key(*identity));
    add_rows(
        store,
        session,
        rows,
        stored,
        recut,
        &identities,
        tensors,
        scanned,
    )
}

fn identities(tensors: &[Incoming<'_>], scanned: &[Scanned]) -> Vec<Identity> {
    let both = tensors.iter().zip(scanned);
    both.map(|(t, s)| Identity {
        content_hash: s.content_hash,
        dtype: t.dtype,
        dims: t.shape.dims().to_vec(),
    })
    .collect()
}

fn rows<'a>(
    identities: &'a [Identity],
    tensors: &'a [Incoming<'a>],
    scanned: &'a [Scanned],
) -> Rows<'a> {
    let mut rows: Rows<'a> = BTreeMap::new();
    for (identity, row) in identities.iter().zip(tensors.iter().zip(scanned)) {
        rows.entry(identity).or_insert(row);
    }
    rows
}

/// Adds the rows of tensors whose chunks are there. `recut` has the chunks of those that the store had.
#[allow(clippy::too_many_arguments)]
fn add_rows<S: TensorStore, C: Session<Error = S::Error>>(
    store: &mut S,
    session: &C,
    rows: Rows<'_>,
    mut stored: HashMap<Identity, Uuid>,
    mut recut: HashMap<Identity, Vec<ChunkHash>>,
    identities: &[Identity],
    tensors: &[Incoming<'_>],
    scanned: &[Scanned],
) -> Result<Vec<WrittenTensor>, S::Error> {
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
    let rows = identities.iter().zip(tensors.iter().zip(scanned));
    rows.map(|(identity, (tensor, scan))| {
        let id = stored.get(identity).copied();
        let chunks = match recut.get(identity) {
            Some(chunks) => chunks.clone(),
            None => scan.pieces.iter().map(|piece| piece.hash).collect(),
        };
        Ok(WrittenTensor {
            id: id.ok_or_else(|| store.not_stored(tensor.name))?,
            content_hash: identity.content_hash,
            chunks,
            is_constant: is_constant(scan),
        })
    })
    .collect()
}

fn is_constant(scan: &Scanned) -> bool {
    let stats = || scan.pieces.iter().filter_map(|piece| piece.stats.as_ref());
    let min = stats().filter_map(|s| s.min()).reduce(f64::min);
    let max = stats().filter_map(|s| s.max()).reduce(f64::max);
    min == max && stats().all(|s| s.nans == 0)
}
