//! The chunk table: the port of `modelstore_chunk` over SPI.

use crate::chunks::chunk_array::chunk_array;
use crate::chunks::corruption::{corrupt_chunk, missing_chunk};
use crate::error::{Code, Failure, Result};
use crate::pg::arguments::{bytes, bytes_array, chunk, maybe_bytes};
use crate::pg::scratch::in_scratch_memory;
use crate::pg::varlena::Building;
use crate::store::Store;
use modelstore_chunk::{Buffers, ChunkHash, ChunkHead, ChunkStore, MAX_DELTA_DEPTH};
use pgrx::datum::DatumWithOid;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Encoded chunks up to this size are read and inserted many at a time.
pub const SMALL_CHUNK: usize = 32 << 10;

/// How often an insert is tried again. Each time somebody else must have committed the row and the collector removed it
/// in between.
const TRIES: usize = 100;

/// The chunk table of a store.
pub struct SpiChunks<'a> {
    store: &'a Store,
}

/// What is recorded of a chunk that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Raw and encoded bytes.
    pub raw_bytes: i32,
    /// Encoded bytes.
    pub stored_bytes: i32,
    /// What it is a difference to.
    pub base: Option<ChunkHash>,
    /// Deltas below it, at most.
    pub delta_depth: i16,
    /// What the encoded bytes take, whatever is recorded.
    pub actual_bytes: i32,
}

/// A chunk to be inserted.
pub struct NewChunk {
    /// Its key.
    pub hash: ChunkHash,
    /// As it is stored.
    pub encoded: Vec<u8>,
    /// What it decodes to.
    pub raw_bytes: u32,
    /// Deltas below it: one more than its base has.
    pub delta_depth: i16,
}

impl<'a> SpiChunks<'a> {
    /// Of one store.
    pub fn new(store: &'a Store) -> SpiChunks<'a> {
        SpiChunks { store }
    }

    /// Those of the chunks that are there, kept from the collector until the transaction ends. `hashes` is sorted.
    pub fn lock(&self, hashes: &[ChunkHash]) -> Result<BTreeMap<ChunkHash, Recorded>> {
        if hashes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let locked = self.store.write(
            "SELECT chunk_hash, raw_bytes, stored_bytes, base_hash, delta_depth, pg_column_size(chunk)
             FROM @store@.tensor_chunks WHERE chunk_hash = ANY ($1) ORDER BY chunk_hash FOR KEY SHARE",
            &[hash_array(hashes)],
            |row| {
                let base = row.opt::<Vec<u8>>(4)?;
                let recorded = Recorded {
                    raw_bytes: row.get(2)?,
                    stored_bytes: row.get(3)?,
                    base: base.map(|base| ChunkHash::from_slice(&base)).transpose()?,
                    delta_depth: row.get(5)?,
                    actual_bytes: row.get(6)?,
                };
                Ok((ChunkHash::from_slice(&row.get::<Vec<u8>>(1)?)?, recorded))
            },
        )?;
        Ok(locked.into_iter().collect())
    }

    /// Inserts chunks unless they are there, and keeps all of them from the collector until the transaction ends. Says of
    /// each whether it was new. Chunks are given in the order of the hashes, from one call to the next as well: two
    /// transactions that add the same chunks then wait for each other at most one way.
    pub fn add(&mut self, chunks: &[NewChunk]) -> Result<Vec<bool>> {
        let mut new = vec![false; chunks.len()];
        let mut rest: Vec<usize> = (0..chunks.len()).collect();
        for _ in 0..TRIES {
            let batch: Vec<&NewChunk> = rest.iter().map(|&at| &chunks[at]).collect();
            let inserted = in_scratch_memory(|| self.try_insert(&batch))?;
            // Somebody committed the others first. One may be collected before it is locked; then it is ours to insert
            // after all.
            let others: Vec<ChunkHash> = batch
                .iter()
                .map(|c| c.hash)
                .filter(|hash| !inserted.contains(hash))
                .collect();
            let locked = self.lock(&others)?;
            rest.retain(|&at| {
                let hash = &chunks[at].hash;
                new[at] = inserted.contains(hash);
                !new[at] && !locked.contains_key(hash)
            });
            if rest.is_empty() {
                return Ok(new);
            }
            pgrx::check_for_interrupts!();
        }
        let first = rest.first().map(|&at| chunks[at].hash);
        Err(suppressed(
            self.store,
            "tensor_chunks",
            &first.map_or_else(String::new, |hash| format!("chunk {hash}")),
        ))
    }

    fn try_insert(&self, chunks: &[&NewChunk]) -> Result<BTreeSet<ChunkHash>> {
        let (mut values, mut bases, mut depths) = (Vec::new(), Vec::new(), Vec::new());
        for new in chunks {
            let base = ChunkHead::parse(&new.encoded)?.base;
            depths.push(if base.is_some() { new.delta_depth } else { 0 });
            bases.push(base.map(|base| base.0.to_vec()));
            values.push(Building::from_parts(&[&new.encoded])?);
        }
        let size = |len: usize| i32::try_from(len).unwrap_or(i32::MAX);
        let raw_bytes = |new: &NewChunk| i32::try_from(new.raw_bytes).unwrap_or(i32::MAX);
        let inserted = match (chunks, values.as_slice(), bases.as_slice(), depths.as_slice()) {
            // As a rule a chunk is a mebibyte: not to be copied once more.
            ([new], [value], [base], [depth]) => self.store.write(
                "INSERT INTO @store@.tensor_chunks (chunk_hash, chunk, raw_bytes, stored_bytes, base_hash, delta_depth)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING chunk_hash",
                &[
                    bytes(new.hash.as_bytes()),
                    chunk(value),
                    raw_bytes(new).into(),
                    size(new.encoded.len()).into(),
                    maybe_bytes(base.as_deref()),
                    (*depth).into(),
                ],
                |row| row.get::<Vec<u8>>(1),
            ),
            _ => self.store.write(
                "INSERT INTO @store@.tensor_chunks (chunk_hash, chunk, raw_bytes, stored_bytes, base_hash, delta_depth)
                 SELECT * FROM unnest($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING chunk_hash",
                &[
                    bytes_array(chunks.iter().map(|c| c.hash.0.to_vec()).collect()),
                    chunk_array(&values),
                    chunks.iter().map(|c| raw_bytes(c)).collect::<Vec<i32>>().into(),
                    chunks.iter().map(|c| size(c.encoded.len())).collect::<Vec<i32>>().into(),
                    bases.into(),
                    depths.into(),
                ],
                |row| row.get::<Vec<u8>>(1),
            ),
        }?;
        inserted
            .iter()
            .map(|hash| Ok(ChunkHash::from_slice(hash)?))
            .collect()
    }

    /// Puts right bytes in place of those of a chunk that is there but does not decode to its hash. The chunk stands by
    /// itself afterwards; deltas that stand on it stay as they are, as what they are a difference to has not changed.
    pub fn replace(&mut self, hash: &ChunkHash, encoded: &[u8], raw_bytes: u32) -> Result<()> {
        let value = Building::from_parts(&[encoded])?;
        let replaced = self.store.execute(
            "UPDATE @store@.tensor_chunks SET chunk = $2, raw_bytes = $3, stored_bytes = $4, base_hash = NULL, delta_depth = 0
             WHERE chunk_hash = $1",
            &[
                bytes(hash.as_bytes()),
                chunk(&value),
                i32::try_from(raw_bytes).unwrap_or(i32::MAX).into(),
                i32::try_from(encoded.len()).unwrap_or(i32::MAX).into(),
            ],
        )?;
        value.free();
        match replaced {
            0 => Err(suppressed(
                self.store,
                "tensor_chunks",
                &format!("chunk {hash}"),
            )),
            _ => Ok(()),
        }
    }

    /// The encoded bytes of small chunks, by their hashes.
    pub fn small(&self, hashes: &[ChunkHash]) -> Result<HashMap<ChunkHash, Vec<u8>>> {
        let mut found = HashMap::with_capacity(hashes.len());
        if hashes.is_empty() {
            return Ok(found);
        }
        self.store.query(
            "SELECT chunk_hash, chunk FROM @store@.tensor_chunks WHERE chunk_hash = ANY ($1)",
            &[hash_array(hashes)],
            |row| {
                let (mut hash, mut encoded) = (Vec::new(), Vec::new());
                row.append_bytes(1, &mut hash)?;
                row.append_chunk(2, &mut encoded)?;
                found.insert(ChunkHash::from_slice(&hash)?, encoded);
                Ok(())
            },
        )?;
        Ok(found)
    }
}

/// The error for a row that the server neither inserts nor finds.
pub fn suppressed(store: &Store, table: &str, object: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("row of {object} was not stored"),
    )
    .detail("A trigger, a rule or a policy of the table keeps the row out of it.")
    .hint(format!(
        "SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = {}::regclass;",
        pgrx::spi::quote_literal(store.sql(&format!("@store@.{table}")))
    ))
}

fn hash_array<'a>(hashes: &[ChunkHash]) -> DatumWithOid<'a> {
    bytes_array(hashes.iter().map(|hash| hash.0.to_vec()).collect())
}

impl ChunkStore for SpiChunks<'_> {
    type Error = Failure;

    fn lock_existing(&mut self, hashes: &[ChunkHash]) -> Result<Vec<bool>> {
        let locked = self.lock(hashes)?;
        Ok(hashes
            .iter()
            .map(|hash| locked.contains_key(hash))
            .collect())
    }

    fn insert(&mut self, hash: &ChunkHash, encoded: &[u8], raw_bytes: u32) -> Result<()> {
        let base = ChunkHead::parse(encoded)?.base;
        let below = self.lock(base.as_slice())?;
        let depth = |base| below.get(&base).map_or(1, |b: &Recorded| b.delta_depth + 1);
        let new = NewChunk {
            hash: *hash,
            encoded: encoded.to_vec(),
            raw_bytes,
            delta_depth: base.map_or(0, depth),
        };
        self.add(&[new]).map(drop)
    }

    fn read(&mut self, hash: &ChunkHash) -> Result<Option<Vec<u8>>> {
        fetch_one(self.store, hash, Vec::new())
    }
}

/// A chunk as stored and the chunks it stands on, outermost first.
pub fn fetch_encoded(
    store: &Store,
    hash: &ChunkHash,
    label: &str,
    buffers: &Buffers,
) -> Result<Vec<Vec<u8>>> {
    let mut chain = Vec::new();
    let mut next = Some(*hash);
    while let Some(hash) = next {
        if chain.len() > MAX_DELTA_DEPTH {
            return Err(Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                format!("chunk {hash} of tensor \"{label}\" is a delta of too many deltas"),
            ));
        }
        let encoded =
            fetch_one(store, &hash, buffers.take())?.ok_or_else(|| missing_chunk(&hash, label))?;
        next = ChunkHead::parse(&encoded)
            .map_err(|e| corrupt_chunk(&hash, label, e))?
            .base;
        chain.push(encoded);
    }
    Ok(chain)
}

fn fetch_one(store: &Store, hash: &ChunkHash, mut buffer: Vec<u8>) -> Result<Option<Vec<u8>>> {
    let mut found = false;
    store.query(
        "SELECT chunk FROM @store@.tensor_chunks WHERE chunk_hash = $1",
        &[bytes(hash.as_bytes())],
        |row| {
            buffer.clear();
            found = row.append_chunk(1, &mut buffer)?;
            Ok(())
        },
    )?;
    Ok(found.then_some(buffer))
}
