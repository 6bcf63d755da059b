//! Stores bytes as tensors.
//!
//! Two passes over the sources. The first hashes every piece and computes its zone map, on threads. The second encodes
//! and inserts new chunks, in the order of hashes, and checks existing ones. All chunks are inserted first, then all
//! tensors, each in order: so two transactions that add overlapping models cannot deadlock on each other's uncommitted
//! rows.

mod bases;
mod chunks;
mod copy;
mod copy_chunks;
mod copy_task;
mod file_hashes;
mod inserting;
mod pieces;
mod scan;
pub mod streaming;
mod task;
mod tensors;

pub use chunks::Inserted;
pub use copy::copy_tensors;
pub use file_hashes::FileHashes;
pub use scan::Scanned;

use std::collections::{BTreeMap, HashMap};

use modelstore_tensor::{DType, Shape};
use uuid::Uuid;

use crate::port::{Identity, Session, Source, TensorStore};
use crate::{Buffers, ChunkHash, Error};
use chunks::write_chunks;
use inserting::is_good;
use pieces::{new_pieces, pieces_of_stored};
use scan::{Scan, scan};
use tensors::{insert_tensors, lock_tensors};

/// A file that contains tensors.
pub struct InFile<'a, E> {
    /// Its bytes.
    pub source: &'a mut dyn Source<E>,
    /// Its hashes, which have been fed the bytes before the tensors.
    pub hashes: FileHashes,
}

/// A tensor in a file.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    /// Index of its file.
    pub file: usize,
    /// Its name in messages.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: &'a Shape,
    /// Offset of its elements in the file.
    pub offset: u64,
    /// A stored tensor against which it may be stored as a delta, if dtype and shape are the same.
    pub base: Option<Uuid>,
}

/// A tensor that has been stored.
#[derive(Clone, Debug)]
pub struct WrittenTensor {
    /// Its key.
    pub id: Uuid,
    /// BLAKE3-256 of its raw bytes.
    pub content_hash: ChunkHash,
    /// Its chunks in order, as stored.
    pub chunks: Vec<ChunkHash>,
    /// Whether all its elements are equal; also true if it has none, or no numeric ones.
    pub is_constant: bool,
}

/// The result of a write.
pub struct Written {
    /// The stored tensor of each incoming one, in the same order.
    pub tensors: Vec<WrittenTensor>,
    /// Number of chunks that are new in the store.
    pub new_chunks: u64,
    /// Their encoded bytes.
    pub new_bytes: u64,
    /// Raw bytes that the store already had, or that occurred twice.
    pub reused_bytes: u64,
    /// The hashes of the files, fed with the tensors' bytes.
    pub files: Vec<FileHashes>,
}

/// A distinct tensor: its source, and the result of the first pass.
type Row<'a> = (&'a Incoming<'a>, &'a Scanned);
/// Distinct tensors in the order of insertion.
type Rows<'a> = BTreeMap<&'a Identity, Row<'a>>;

/// Tensors per call of the store.
const BATCH_TENSORS: usize = 1000;

/// Returns the raw bytes of tensors. [`Session::advance`] counts each twice, once per pass.
pub fn raw_bytes(tensors: &[Incoming<'_>]) -> Result<u64, Error> {
    let sizes = tensors.iter().map(|t| t.shape.byte_len(t.dtype));
    Ok(sizes.sum::<Result<u64, modelstore_tensor::Error>>()?)
}

/// Stores the tensors of each file in its order, split into chunks of about `chunk_bytes`. Files of one transaction
/// must be passed together, so that their chunks are inserted in one order. O(chunks · log chunks); memory: a record
/// per chunk, a few chunks per thread, and the small chunks kept by the first pass.
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
    // These were not read with the bytes: a damaged chunk of them would be found by whoever reads the tensor.
    let buffers = Buffers::for_chunks();
    for (identity, chunks) in &recut {
        let known = rows.get(identity).map(|(_, scan)| &scan.pieces);
        let own = |hash| known.is_some_and(|pieces| pieces.iter().any(|piece| piece.hash == hash));
        let is_own = chunks.first().is_some_and(|first| own(*first));
        for chunk in chunks.iter().filter(|_| !is_own) {
            session.check()?;
            if !is_good(store, &buffers, chunk)? {
                return Err(Error::DamagedChunk(format!("chunk {chunk} is corrupted")).into());
            }
        }
    }
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
    // Another session has added these meanwhile, perhaps split differently.
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
