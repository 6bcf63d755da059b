//! Bytes become stored tensors.
//!
//! Two passes over the sources. The first hashes every piece and makes its zone map, on threads; the second encodes and
//! inserts what the store does not have, in the order of the hashes. That order is what keeps two transactions that
//! add overlapping models from deadlocking on each other's uncommitted chunks: all chunks first, ordered, then all
//! tensors, ordered.

use crate::background;
use crate::error::{Code, Failure, Result};
use crate::source::Source;
use crate::source::memory::Memory;
use crate::store::Store;
use crate::store::arguments::{bytes, from_sql_uuid, text, to_sql_uuid};
use crate::store::chunks::{SpiChunks, fetch_encoded};
use crate::tensor::shape::dims;
use crate::tensor_storage::file_hashes::FileHashes;
use crate::tensor_storage::locate;
use crate::tensor_storage::progress::Progress;
use crate::tensor_storage::scan::{Scanned, scan};
use crate::tensor_storage::stream::decode_chain;
use modelstore_chunk::{
    Buffers, ChunkHash, ChunkStore, Decoder, Encoder, MAX_DELTA_DEPTH, PieceInfo,
};
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

/// Where the bytes of a chunk are, and what it may be a difference to.
struct Origin<'a> {
    file: usize,
    name: &'a str,
    offset: u64,
    len: u32,
    dtype: DType,
    base: Option<ChunkHash>,
}

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
    let mut progress = Progress::begin(store, "tensor_chunks", 2 * total);
    let (scanned, files) = scan(&mut sources, tensors, &buffers, hashes, &mut progress)?;

    let identities: Vec<Identity> = tensors
        .iter()
        .zip(&scanned)
        .map(|(t, s)| Identity {
            content_hash: s.content_hash,
            dtype: t.dtype,
            dims: t.shape.dims().to_vec(),
        })
        .collect();
    let mut stored: BTreeMap<Identity, Option<Uuid>> =
        identities.iter().map(|i| (i.clone(), None)).collect();
    for (identity, id) in &mut stored {
        *id = lock_tensor(store, identity)?;
    }

    let new = |identity: &Identity| stored.get(identity).is_some_and(Option::is_none);
    let mut written = Written {
        tensor_ids: Vec::new(),
        new_chunks: 0,
        new_bytes: 0,
        reused_bytes: 0,
        files,
    };
    let mut origins: BTreeMap<ChunkHash, Origin<'_>> = BTreeMap::new();
    for ((tensor, scan), identity) in tensors.iter().zip(&scanned).zip(&identities) {
        if new(identity) {
            let bases = base_pieces(store, tensor)?;
            for info in &scan.pieces {
                let base = bases
                    .get(&(info.piece.first_element, info.piece.element_count))
                    .copied();
                origins.entry(info.hash).or_insert(Origin {
                    file: tensor.file,
                    name: tensor.name,
                    offset: tensor.offset + info.piece.byte_offset,
                    len: info.piece.byte_len,
                    dtype: tensor.dtype,
                    base: base.filter(|b| *b != info.hash),
                });
            }
        }
    }
    insert_chunks(
        store,
        &mut sources,
        &origins,
        &buffers,
        &mut written,
        &mut progress,
    )?;
    written.reused_bytes = total - written.reused_bytes;

    let rows: HashMap<&Identity, (&Incoming<'_>, &Scanned)> = identities
        .iter()
        .zip(tensors.iter().zip(&scanned))
        .collect();
    for (identity, id) in stored.iter_mut().filter(|(_, id)| id.is_none()) {
        if let Some((tensor, scan)) = rows.get(identity) {
            *id = Some(insert_tensor(store, identity, tensor, scan)?);
        }
    }
    for identity in &identities {
        let id = stored.get(identity).copied().flatten();
        written.tensor_ids.push(
            id.ok_or_else(|| Failure::new(Code::ERRCODE_INTERNAL_ERROR, "tensor was not stored"))?,
        );
    }
    Ok(written)
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
    written
        .tensor_ids
        .first()
        .copied()
        .ok_or_else(|| Failure::new(Code::ERRCODE_INTERNAL_ERROR, "tensor was not stored"))
}

impl std::hash::Hash for Identity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.content_hash.hash(state);
    }
}

/// Second pass: encodes and inserts the chunks that are not there, in the order of their hashes.
/// `written.reused_bytes` counts, for now, the raw bytes that were new.
fn insert_chunks(
    store: &Store,
    sources: &mut [&mut dyn Source],
    origins: &BTreeMap<ChunkHash, Origin<'_>>,
    buffers: &Buffers,
    written: &mut Written,
    progress: &mut Progress,
) -> Result<()> {
    struct Job {
        hash: ChunkHash,
        dtype: DType,
        raw: Vec<u8>,
        base: Option<(ChunkHash, Vec<Vec<u8>>)>,
    }
    let mut chunks = SpiChunks::new(store);
    let hashes: Vec<ChunkHash> = origins.keys().copied().collect();
    let present = chunks.lock_existing(&hashes)?;
    // Bases are kept from the collector as well; one that is gone by now is not a base.
    let wanted: BTreeSet<ChunkHash> = origins.values().filter_map(|o| o.base).collect();
    let wanted: Vec<ChunkHash> = wanted.into_iter().collect();
    let kept = chunks.lock_existing(&wanted)?;
    let bases: BTreeSet<ChunkHash> = wanted
        .into_iter()
        .zip(kept)
        .filter(|(_, kept)| *kept)
        .map(|(base, _)| base)
        .collect();
    let free = buffers.clone();
    let mut pipeline = background::pipeline(
        || (Encoder::new(), Decoder::new()),
        move |(encoder, decoder), job: Job| {
            let mut encoded = free.take();
            let base = job
                .base
                .map(|(hash, chain)| decode_chain(decoder, &chain, &free).map(|raw| (raw, hash)))
                .transpose()?;
            let base = base.as_ref().map(|(raw, hash)| (raw.as_slice(), hash));
            encoder.encode_with_base(job.dtype, &job.raw, base, &mut encoded)?;
            Ok::<_, modelstore_chunk::Error>((job.hash, job.raw, encoded))
        },
    )?;
    let mut take =
        |result: Result<(ChunkHash, Vec<u8>, Vec<u8>), modelstore_chunk::Error>| -> Result<()> {
            let (hash, raw, encoded) = result?;
            if chunks.add(&hash, &encoded, raw.len() as u32)? {
                written.new_chunks += 1;
                written.new_bytes += encoded.len() as u64;
                written.reused_bytes += raw.len() as u64;
            }
            progress.advance(raw.len() as u64);
            buffers.give(raw);
            buffers.give(encoded);
            Ok(())
        };
    for ((hash, origin), _) in origins
        .iter()
        .zip(&present)
        .filter(|(_, present)| !**present)
    {
        while pipeline.is_full() {
            background::next(&mut pipeline)?
                .into_iter()
                .try_for_each(&mut take)?;
        }
        let mut raw = buffers.take();
        sources[origin.file].read_at(origin.offset, origin.len as usize, &mut raw)?;
        let base = match origin.base.filter(|base| bases.contains(base)) {
            Some(base) => Some((base, fetch_encoded(store, &base, origin.name, buffers)?)),
            None => None,
        };
        drop(pipeline.submit(Job {
            hash: *hash,
            dtype: origin.dtype,
            raw,
            base,
        }));
    }
    while let Some(result) = background::next(&mut pipeline)? {
        take(result)?;
    }
    Ok(())
}

/// What each piece may be a difference to, by the elements it holds: the base tensor's chunk or, when that carries no
/// further delta, the chunk at the root of its chain, from which the next chain begins.
fn base_pieces(store: &Store, tensor: &Incoming<'_>) -> Result<HashMap<(u64, u64), ChunkHash>> {
    let Some(base) = tensor.base else {
        return Ok(HashMap::new());
    };
    let base = locate::tensor(store, base)?;
    if base.dtype != tensor.dtype || base.shape != *tensor.shape {
        return Ok(HashMap::new());
    }
    let rows = store.rows(
        "SELECT d.first_element, d.element_count, CASE WHEN c.delta_depth < $2 THEN c.chunk_hash ELSE (
             WITH RECURSIVE chain(chunk_hash, base_hash) AS (
                 SELECT c.chunk_hash, c.base_hash
                 UNION ALL
                 SELECT b.chunk_hash, b.base_hash FROM chain JOIN @store@.tensor_chunks b ON b.chunk_hash = chain.base_hash
             )
             SELECT chain.chunk_hash FROM chain WHERE chain.base_hash IS NULL
         ) END
         FROM @store@.tensor_data d JOIN @store@.tensor_chunks c USING (chunk_hash)
         WHERE d.tensor_id = $1",
        &[
            crate::store::arguments::uuid(base.id),
            (MAX_DELTA_DEPTH as i32).into(),
        ],
        |row| {
            let hash = ChunkHash::from_slice(&row.get::<Vec<u8>>(3)?)?;
            Ok(((row.get::<i64>(1)? as u64, row.get::<i64>(2)? as u64), hash))
        },
    )?;
    Ok(rows.into_iter().collect())
}

/// The key of a tensor that is there already, kept from the collector until the transaction ends.
fn lock_tensor(store: &Store, identity: &Identity) -> Result<Option<Uuid>> {
    let found = store.write(
        "SELECT tensor_id FROM @store@.tensor_metadata WHERE content_hash = $1 AND dtype = $2 AND shape = $3 FOR KEY SHARE",
        &[bytes(identity.content_hash.as_bytes()), text(identity.dtype.name()), identity.sql_shape().into()],
        |row| row.get::<SqlUuid>(1),
    )?;
    Ok(found.into_iter().next().map(from_sql_uuid))
}

impl Identity {
    fn sql_shape(&self) -> Vec<i64> {
        self.dims.iter().map(|&d| d as i64).collect()
    }
}

/// Adds a tensor and its pieces, or finds the one that somebody else has added meanwhile.
fn insert_tensor(
    store: &Store,
    identity: &Identity,
    tensor: &Incoming<'_>,
    scan: &Scanned,
) -> Result<Uuid> {
    loop {
        let id = Uuid::now_v7();
        let inserted = store.execute(
            "INSERT INTO @store@.tensor_metadata (tensor_id, content_hash, dtype, shape, element_count, raw_bytes, chunk_count)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            &[
                crate::store::arguments::uuid(id),
                bytes(identity.content_hash.as_bytes()),
                text(tensor.dtype.name()),
                dims(tensor.shape).into(),
                (tensor.shape.elements() as i64).into(),
                (tensor.shape.byte_len(tensor.dtype)? as i64).into(),
                (scan.pieces.len() as i32).into(),
            ],
        )?;
        if inserted == 1 {
            insert_pieces(store, id, &scan.pieces)?;
            return Ok(id);
        }
        if let Some(existing) = lock_tensor(store, identity)? {
            return Ok(existing);
        }
        pgrx::check_for_interrupts!();
    }
}

fn insert_pieces(store: &Store, id: Uuid, pieces: &[PieceInfo]) -> Result<()> {
    if pieces.is_empty() {
        return Ok(());
    }
    fn column<T>(pieces: &[PieceInfo], f: impl Fn(&PieceInfo) -> T) -> Vec<T> {
        pieces.iter().map(f).collect()
    }
    let number =
        |f: fn(&stats::Stats) -> Option<f64>| column(pieces, |p| p.stats.as_ref().and_then(f));
    let count =
        |f: fn(&stats::Stats) -> u64| column(pieces, |p| p.stats.as_ref().map(|s| f(s) as i64));
    store.execute(
        "INSERT INTO @store@.tensor_data (tensor_id, chunk_index, chunk_hash, first_element, element_count, value_min, value_max,
                                          value_mean, value_std, abs_max, zero_count, nan_count, inf_count)
         SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        &[
            to_sql_uuid(id).into(),
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
