//! The chunk table: the port of `modelstore_chunk` over SPI.

use crate::chunks::chunk_array::chunk_array;
use crate::error::{Code, Failure, Result, warning};
use crate::pg::arguments::{bytes, bytes_array, chunk, maybe_bytes};
use crate::pg::scratch::in_scratch_memory;
use crate::pg::varlena::{Building, Toasted};
use crate::store::Store;
use modelstore_chunk::{ChunkHash, ChunkHead, ChunkStore, EncodedChunk, NewChunk, Recorded};
use pgrx::datum::DatumWithOid;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How often an insert is retried. Each retry means that another session committed the row and gc removed it in
/// between.
const TRIES: usize = 100;

/// The chunk table of a store.
#[derive(Clone)]
pub struct SpiChunks {
    /// Its store.
    pub store: Store,
}

impl SpiChunks {
    /// Opens the chunk table of a store.
    pub fn new(store: &Store) -> SpiChunks {
        SpiChunks {
            store: store.clone(),
        }
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
            // Usually a mebibyte: avoid another copy.
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
            _ => self.store.insert(
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
}

/// Returns the error for a row that the server neither inserts nor finds.
pub fn suppressed(store: &Store, table: &str, object: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("row of {object} was not stored"),
    )
    .detail("A trigger, rule or row-level security policy of the table prevented the insert.")
    .hint(format!(
        "SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = {}::regclass;",
        pgrx::spi::quote_literal(store.sql(&format!("@store@.{table}")))
    ))
}

fn hash_array<'a>(hashes: &[ChunkHash]) -> DatumWithOid<'a> {
    bytes_array(hashes.iter().map(|hash| hash.0.to_vec()).collect())
}

impl ChunkStore for SpiChunks {
    type Error = Failure;

    fn lock(&mut self, hashes: &[ChunkHash]) -> Result<BTreeMap<ChunkHash, Recorded>> {
        if hashes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let locked = in_scratch_memory(|| {
            self.store.write(
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
            )
        })?;
        Ok(locked.into_iter().collect())
    }

    fn bytes_of_deltas(&mut self, hashes: &[ChunkHash]) -> Result<HashMap<ChunkHash, i64>> {
        if hashes.is_empty() {
            return Ok(HashMap::new());
        }
        // A base of many models has more deltas than there is a reason to read.
        let found = in_scratch_memory(|| {
            self.store.write(
                "SELECT b.hash, d.bytes
                 FROM unnest($1) AS b (hash), LATERAL (
                     SELECT coalesce(sum(f.stored_bytes), 0)::bigint AS bytes
                     FROM (SELECT stored_bytes FROM @store@.tensor_chunks WHERE base_hash = b.hash LIMIT 256) f
                 ) d",
                &[hash_array(hashes)],
                |row| {
                    Ok((
                        ChunkHash::from_slice(&row.get::<Vec<u8>>(1)?)?,
                        row.get::<i64>(2)?,
                    ))
                },
            )
        })?;
        Ok(found.into_iter().collect())
    }

    fn add(&mut self, chunks: &[NewChunk]) -> Result<Vec<bool>> {
        let mut new = vec![false; chunks.len()];
        let mut rest: Vec<usize> = (0..chunks.len()).collect();
        for _ in 0..TRIES {
            let batch: Vec<&NewChunk> = rest.iter().map(|&at| &chunks[at]).collect();
            let inserted = in_scratch_memory(|| self.try_insert(&batch))?;
            // Another session committed the others first. gc may remove one before we lock it; then it is inserted
            // again.
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
            &self.store,
            "tensor_chunks",
            &first.map_or_else(String::new, |hash| format!("chunk {hash}")),
        ))
    }

    fn replace(&mut self, hash: &ChunkHash, encoded: &[u8], raw_bytes: u32) -> Result<()> {
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
        if replaced == 0 {
            let object = format!("chunk {hash}");
            return Err(suppressed(&self.store, "tensor_chunks", &object));
        }
        warning(&format!("chunk {hash} was damaged and has been replaced"));
        Ok(())
    }

    fn read(&mut self, hash: &ChunkHash, out: &mut Vec<u8>) -> Result<bool> {
        let mut found = false;
        in_scratch_memory(|| {
            self.store.query(CHUNK, &[bytes(hash.as_bytes())], |row| {
                out.clear();
                found = row.append_chunk(1, out)?;
                Ok(())
            })
        })?;
        Ok(found)
    }

    fn read_small(&mut self, hashes: &[ChunkHash]) -> Result<HashMap<ChunkHash, Vec<u8>>> {
        let mut found = HashMap::with_capacity(hashes.len());
        in_scratch_memory(|| {
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
            )
        })?;
        Ok(found)
    }

    fn visit(
        &mut self,
        hash: &ChunkHash,
        visit: &mut dyn FnMut(&dyn EncodedChunk),
    ) -> Result<bool> {
        let mut found = false;
        in_scratch_memory(|| {
            self.store.query(CHUNK, &[bytes(hash.as_bytes())], |row| {
                if let Some(chunk) = row.chunk(1)? {
                    found = true;
                    visit(&chunk);
                }
                Ok(())
            })
        })?;
        Ok(found)
    }
}

const CHUNK: &str = "SELECT chunk FROM @store@.tensor_chunks WHERE chunk_hash = $1";

impl EncodedChunk for Toasted<'_> {
    fn slice(&self, offset: usize, len: usize, read: &mut dyn FnMut(&[u8])) {
        read(Toasted::slice(self, offset, len).bytes());
    }
}
