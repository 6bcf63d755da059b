//! Bytes become stored tensors.
//!
//! Two passes over the sources. The first hashes every piece and makes its zone map, on threads; the second encodes and
//! inserts what the store does not have, in the order of the hashes, and looks at what it has. That order is what keeps two transactions that
//! add overlapping models from deadlocking on each other's uncommitted chunks: all chunks first, ordered, then all
//! tensors, ordered.

use crate::chunks::spi_chunks::suppressed;
use crate::error::{Code, Failure, Result};
use crate::io::Source;
use crate::io::file_hashes::FileHashes;
use crate::io::memory::Memory;
use crate::pg::arguments::{bytes_array, from_sql_uuid, to_sql_uuid};
use crate::pg::progress::Progress;
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use crate::tensor_storage::insert_chunks::{Origin, damaged_tensor, insert_chunks};
use crate::tensor_storage::locate;
use crate::tensor_storage::scan::{Scan, Scanned, scan};
use modelstore_chunk::{Buffers, ChunkHash, MAX_CHUNK_BYTES, MAX_DELTA_DEPTH, PieceInfo};
use modelstore_tensor::stats;
use modelstore_tensor::{DType, Shape, TensorView};
use pgrx::datum::Uuid as SqlUuid;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// A file that tensors come from.
pub struct InFile<'a> {
    /// Its bytes.
    pub source: &'a mut dyn Source,
    /// Its hashes, which have seen what stands in front of the tensors.
    pub hashes: FileHashes,
}

/// A tensor that lies somewhere in a file.
pub struct Incoming<'a> {
    /// Which of the files.
    pub file: usize,
    /// What messages call it.
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

/// What was stored.
pub struct Written {
    /// The stored tensor of each incoming one, in the same order.
    pub tensor_ids: Vec<Uuid>,
    /// Chunks the store did not have.
    pub new_chunks: u64,
    /// What those take, encoded.
    pub new_bytes: u64,
    /// Raw bytes that were there already, or came twice.
    pub reused_bytes: u64,
    /// The hashes of the files, which have seen the tensors' bytes.
    pub files: Vec<FileHashes>,
}

/// The identity of a stored tensor; the order is that in which tensors are inserted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    content_hash: ChunkHash,
    dtype: DType,
    dims: Vec<u64>,
}

/// Distinct tensors in the order in which they are inserted, each with where it comes from.
type Rows<'a> = BTreeMap<&'a Identity, (&'a Incoming<'a>, &'a Scanned)>;

/// Tensors and pieces of a statement.
const BATCH_TENSORS: usize = 1000;
const BATCH_PIECES: usize = 8192;
/// How often an insert is tried again. Each time somebody else must have committed the row and the collector removed it
/// in between.
const TRIES: usize = 100;

/// Stores tensors, those of each file in its order. Files that are stored in one transaction are given together, so
/// that their chunks are inserted in one order.
pub fn write_tensors(
    store: &Store,
    files: Vec<InFile<'_>>,
    tensors: &[Incoming<'_>],
) -> Result<Written> {
    let (mut sources, hashes): (Vec<&mut dyn Source>, Vec<FileHashes>) =
        files.into_iter().map(|f| (f.source, f.hashes)).unzip();
    let buffers = Buffers::new(32, 8 << 20);
    let total = tensors
        .iter()
        .map(|t| t.shape.byte_len(t.dtype))
        .sum::<Result<u64, modelstore_tensor::Error>>()?;
    // Each byte counts once for each pass.
    let mut progress = Progress::begin(store.relation_oid("tensor_chunks"), 2 * total);
    let Scan {
        tensors: scanned,
        files,
        small,
    } = scan(&mut sources, tensors, &buffers, hashes, &mut progress)?;

    let identities: Vec<Identity> = tensors
        .iter()
        .zip(&scanned)
        .map(|(t, s)| Identity {
            content_hash: s.content_hash,
            dtype: t.dtype,
            dims: t.shape.dims().to_vec(),
        })
        .collect();
    let mut rows: BTreeMap<&Identity, (&Incoming<'_>, &Scanned)> = BTreeMap::new();
    for (identity, row) in identities.iter().zip(tensors.iter().zip(&scanned)) {
        rows.entry(identity).or_insert(row);
    }
    let mut stored = lock_tensors(store, rows.keys().copied())?;

    let mut origins = new_pieces(store, &rows, &stored)?;
    pieces_of_stored(store, &rows, &stored, &mut origins)?;
    let inserted = insert_chunks(
        store,
        &mut sources,
        &origins,
        &small,
        &buffers,
        &mut progress,
    )?;
    drop((origins, small));
    for source in &mut sources {
        source.check_len()?;
    }

    rows.retain(|identity, _| !stored.contains_key(identity));
    insert_tensors(store, &rows, &mut stored)?;
    let tensor_ids = identities
        .iter()
        .map(|identity| stored.get(identity).copied().ok_or_else(not_stored))
        .collect::<Result<Vec<Uuid>>>()?;
    Ok(Written {
        tensor_ids,
        new_chunks: inserted.chunks,
        new_bytes: inserted.stored_bytes,
        reused_bytes: total - inserted.raw_bytes,
        files,
    })
}

fn not_stored() -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, "tensor was not stored")
}

/// Stores one tensor that is a value.
pub fn write_value(
    store: &Store,
    name: &str,
    value: &TensorView<'_>,
    base: Option<Uuid>,
) -> Result<Uuid> {
    let mut source = Memory(value.data());
    let file = InFile {
        source: &mut source,
        hashes: FileHashes::new(),
    };
    let tensor = Incoming {
        file: 0,
        name,
        dtype: value.dtype(),
        shape: value.shape(),
        offset: 0,
        base,
    };
    let written = write_tensors(store, vec![file], &[tensor])?;
    written.tensor_ids.first().copied().ok_or_else(not_stored)
}

/// The pieces of tensors that are not there, by their hashes.
fn new_pieces<'a>(
    store: &Store,
    rows: &Rows<'a>,
    stored: &HashMap<Identity, Uuid>,
) -> Result<BTreeMap<ChunkHash, Origin<'a>>> {
    let new: Vec<_> = rows
        .iter()
        .filter(|(identity, _)| !stored.contains_key(identity))
        .map(|(_, row)| *row)
        .collect();
    let mut origins = BTreeMap::new();
    for batch in new.chunks(BATCH_TENSORS) {
        let bases = in_scratch_memory(|| base_pieces(store, batch))?;
        for (place, (tensor, scan)) in batch.iter().enumerate() {
            for info in &scan.pieces {
                let base = bases.get(&(place, info.piece.first_element, info.piece.element_count));
                origins.entry(info.hash).or_insert(Origin {
                    file: tensor.file,
                    name: tensor.name,
                    offset: tensor.offset + info.piece.byte_offset,
                    len: info.piece.byte_len,
                    dtype: tensor.dtype,
                    base: base.copied().filter(|base| *base != info.hash),
                    recorded: false,
                });
            }
        }
    }
    Ok(origins)
}

/// Adds the pieces of tensors that are there, as the store has them: it may have been another size of chunks that they
/// were cut with. Their chunks are looked at as well, because what was stored once may be damaged by now.
fn pieces_of_stored<'a>(
    store: &Store,
    rows: &Rows<'a>,
    stored: &HashMap<Identity, Uuid>,
    origins: &mut BTreeMap<ChunkHash, Origin<'a>>,
) -> Result<()> {
    let found: Vec<(Uuid, &Incoming<'a>, &Scanned)> = rows
        .iter()
        .filter_map(|(identity, (tensor, scan))| Some((*stored.get(identity)?, *tensor, *scan)))
        .collect();
    for batch in found.chunks(BATCH_TENSORS) {
        let ids: Vec<Uuid> = batch.iter().map(|(id, ..)| *id).collect();
        let mut covered = vec![0; batch.len()];
        for (place, piece) in in_scratch_memory(|| locate::pieces_of(store, &ids))? {
            let (_, tensor, scan) = batch[place];
            let damaged = || damaged_tensor(tensor.name);
            let end = piece.first_element.saturating_add(piece.element_count);
            if piece.first_element != covered[place] || end > tensor.shape.elements() {
                return Err(damaged());
            }
            covered[place] = end;
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
            let (Some(start), Some(len)) = (start, len.and_then(|len| u32::try_from(len).ok()))
            else {
                return Err(damaged());
            };
            if u64::from(len) > MAX_CHUNK_BYTES {
                return Err(damaged());
            }
            origins.entry(piece.hash).or_insert(Origin {
                file: tensor.file,
                name: tensor.name,
                offset: tensor.offset + start,
                len,
                dtype: tensor.dtype,
                base: None,
                recorded: true,
            });
        }
        for ((_, tensor, _), covered) in batch.iter().zip(covered) {
            if covered != tensor.shape.elements() {
                return Err(damaged_tensor(tensor.name));
            }
        }
    }
    Ok(())
}

/// What each piece may be a difference to, by the place of its tensor and the elements it holds: the base tensor's chunk
/// or, when that carries no further delta, the chunk at the root of its chain, from which the next chain begins.
fn base_pieces(
    store: &Store,
    tensors: &[(&Incoming<'_>, &Scanned)],
) -> Result<HashMap<(usize, u64, u64), ChunkHash>> {
    let with_base: Vec<(usize, &Incoming<'_>, Uuid)> = tensors
        .iter()
        .enumerate()
        .filter_map(|(place, (tensor, _))| Some((place, *tensor, tensor.base?)))
        .collect();
    let mut found = HashMap::new();
    if with_base.is_empty() {
        return Ok(found);
    }
    store.query(
        // The recursion ends after the deepest chain there may be: on what somebody has changed to a circle as well.
        "SELECT k.place, d.first_element, d.element_count, CASE WHEN c.delta_depth < $4 THEN c.chunk_hash ELSE (
             WITH RECURSIVE chain AS (
                 SELECT c.chunk_hash, c.base_hash, 0 AS depth
                 UNION ALL
                 SELECT b.chunk_hash, b.base_hash, chain.depth + 1
                 FROM chain JOIN @store@.tensor_chunks b ON b.chunk_hash = chain.base_hash WHERE chain.depth < $4
             )
             SELECT chain.chunk_hash FROM chain WHERE chain.base_hash IS NULL
         ) END
         FROM unnest($1, $2, $3) WITH ORDINALITY AS k(tensor_id, dtype, shape, place)
         CROSS JOIN LATERAL (SELECT t.tensor_id FROM @store@.tensor_metadata t
                             WHERE t.tensor_id = k.tensor_id AND t.dtype = k.dtype AND t.shape = k.shape::bigint[] OFFSET 0) t
         CROSS JOIN LATERAL (SELECT d.chunk_hash, d.first_element, d.element_count FROM @store@.tensor_data d
                             WHERE d.tensor_id = t.tensor_id OFFSET 0) d
         CROSS JOIN LATERAL (SELECT c.chunk_hash, c.base_hash, c.delta_depth FROM @store@.tensor_chunks c
                             WHERE c.chunk_hash = d.chunk_hash OFFSET 0) c",
        &[
            with_base.iter().map(|(.., base)| to_sql_uuid(*base)).collect::<Vec<_>>().into(),
            with_base.iter().map(|(_, t, _)| t.dtype.name()).collect::<Vec<_>>().into(),
            with_base.iter().map(|(_, t, _)| array_text(t.shape.dims())).collect::<Vec<_>>().into(),
            (MAX_DELTA_DEPTH as i32).into(),
        ],
        |row| {
            let Some(hash) = row.opt::<Vec<u8>>(4)? else {
                return Ok(());
            };
            let place = with_base.get(row.get::<i64>(1)? as usize - 1).map(|(place, ..)| *place);
            if let Some(place) = place {
                let elements = (row.get::<i64>(2)? as u64, row.get::<i64>(3)? as u64);
                found.insert((place, elements.0, elements.1), ChunkHash::from_slice(&hash)?);
            }
            Ok(())
        },
    )?;
    Ok(found)
}

/// Finds tensors that the store has, and locks them against the collector until the transaction ends.
fn lock_tensors<'a>(
    store: &Store,
    identities: impl Iterator<Item = &'a Identity>,
) -> Result<HashMap<Identity, Uuid>> {
    let identities: Vec<&Identity> = identities.collect();
    let mut found = HashMap::new();
    for batch in identities.chunks(BATCH_TENSORS) {
        let wanted: BTreeSet<&Identity> = batch.iter().copied().collect();
        let hashes = batch.iter().map(|i| i.content_hash.0.to_vec()).collect();
        let locked = in_scratch_memory(|| {
            store.write(
                "SELECT tensor_id, content_hash, dtype, shape FROM @store@.tensor_metadata
                 WHERE content_hash = ANY ($1) ORDER BY content_hash, dtype, shape FOR KEY SHARE",
                &[bytes_array(hashes)],
                |row| {
                    let dims = row.get::<Vec<i64>>(4)?;
                    let identity = Identity {
                        content_hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(2)?)?,
                        dtype: DType::from_name(&row.get::<String>(3)?)?,
                        dims: dims.into_iter().map(|dim| dim as u64).collect(),
                    };
                    Ok((identity, from_sql_uuid(row.get::<SqlUuid>(1)?)))
                },
            )
        })?;
        found.extend(
            locked
                .into_iter()
                .filter(|(identity, _)| wanted.contains(identity)),
        );
    }
    Ok(found)
}

/// Dimensions as the text of a bigint[].
fn array_text(dims: &[u64]) -> String {
    let dims: Vec<String> = dims.iter().map(u64::to_string).collect();
    format!("{{{}}}", dims.join(","))
}

/// Adds tensors and their pieces in the order of their identities, or finds those that somebody else has added meanwhile.
fn insert_tensors(
    store: &Store,
    rows: &Rows<'_>,
    stored: &mut HashMap<Identity, Uuid>,
) -> Result<()> {
    let mut rest: Vec<(&Identity, &Incoming<'_>, &Scanned)> =
        rows.iter().map(|(i, (t, s))| (*i, *t, *s)).collect();
    for _ in 0..TRIES {
        for batch in rest.chunks(BATCH_TENSORS) {
            in_scratch_memory(|| insert_batch(store, batch, stored))?;
            pgrx::check_for_interrupts!();
        }
        rest.retain(|(identity, ..)| !stored.contains_key(identity));
        if rest.is_empty() {
            return Ok(());
        }
        stored.extend(lock_tensors(store, rest.iter().map(|(i, ..)| *i))?);
        rest.retain(|(identity, ..)| !stored.contains_key(identity));
        if rest.is_empty() {
            return Ok(());
        }
    }
    let name = rest.first().map_or("", |(_, tensor, _)| tensor.name);
    Err(suppressed(
        store,
        "tensor_metadata",
        &format!("tensor \"{name}\""),
    ))
}

fn insert_batch(
    store: &Store,
    batch: &[(&Identity, &Incoming<'_>, &Scanned)],
    stored: &mut HashMap<Identity, Uuid>,
) -> Result<()> {
    fn column<T, R>(rows: &[R], f: impl Fn(&R) -> T) -> Vec<T> {
        rows.iter().map(f).collect()
    }
    let ids = column(batch, |_| Uuid::now_v7());
    let raw_bytes = batch
        .iter()
        .map(|(_, t, _)| Ok(t.shape.byte_len(t.dtype)? as i64))
        .collect::<Result<Vec<i64>>>()?;
    let inserted = store.write(
        "INSERT INTO @store@.tensor_metadata (tensor_id, content_hash, dtype, shape, element_count, raw_bytes, chunk_count)
         SELECT k.tensor_id, k.content_hash, k.dtype, k.shape::bigint[], k.element_count, k.raw_bytes, k.chunk_count
         FROM unnest($1, $2, $3, $4, $5, $6, $7)
              AS k(tensor_id, content_hash, dtype, shape, element_count, raw_bytes, chunk_count)
         ON CONFLICT DO NOTHING RETURNING tensor_id",
        &[
            column(&ids, |id| to_sql_uuid(*id)).into(),
            bytes_array(column(batch, |(i, ..)| i.content_hash.0.to_vec())),
            column(batch, |(_, t, _)| t.dtype.name()).into(),
            column(batch, |(_, t, _)| array_text(t.shape.dims())).into(),
            column(batch, |(_, t, _)| t.shape.elements() as i64).into(),
            raw_bytes.into(),
            column(batch, |(.., s)| s.pieces.len() as i32).into(),
        ],
        |row| Ok(from_sql_uuid(row.get::<SqlUuid>(1)?)),
    )?;
    let inserted: BTreeSet<Uuid> = inserted.into_iter().collect();
    let mut pieces = Vec::new();
    for (id, (identity, _, scan)) in ids.iter().zip(batch) {
        if inserted.contains(id) {
            stored.insert((*identity).clone(), *id);
            pieces.extend(scan.pieces.iter().map(|piece| (*id, piece)));
        }
    }
    for batch in pieces.chunks(BATCH_PIECES) {
        in_scratch_memory(|| insert_pieces(store, batch))?;
    }
    Ok(())
}

impl std::hash::Hash for Identity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.content_hash.hash(state);
    }
}

fn insert_pieces(store: &Store, pieces: &[(Uuid, &PieceInfo)]) -> Result<()> {
    fn column<T>(pieces: &[(Uuid, &PieceInfo)], f: impl Fn(&PieceInfo) -> T) -> Vec<T> {
        pieces.iter().map(|(_, piece)| f(piece)).collect()
    }
    let number =
        |f: fn(&stats::Stats) -> Option<f64>| column(pieces, |p| p.stats.as_ref().and_then(f));
    let count =
        |f: fn(&stats::Stats) -> u64| column(pieces, |p| p.stats.as_ref().map(|s| f(s) as i64));
    store.execute(
        "INSERT INTO @store@.tensor_data (tensor_id, chunk_index, chunk_hash, first_element, element_count, value_min, value_max,
                                          value_mean, value_std, abs_max, zero_count, nan_count, inf_count)
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        &[
            pieces.iter().map(|(id, _)| to_sql_uuid(*id)).collect::<Vec<_>>().into(),
            column(pieces, |p| p.piece.index as i32).into(),
            column(pieces, |p| p.hash.0.to_vec()).into(),
            column(pieces, |p| p.piece.first_element as i64).into(),
            column(pieces, |p| p.piece.element_count as i64).into(),
            number(stats::Stats::min).into(),
            number(stats::Stats::max).into(),
            number(stats::Stats::mean).into(),
            number(stats::Stats::std).into(),
            number(stats::Stats::abs_max).into(),
            count(|s| s.zeros).into(),
            count(|s| s.nans).into(),
            count(|s| s.infs).into(),
        ],
    )?;
    Ok(())
}
