//! The chunk table: the port of `modelstore_chunk` over SPI.
use crate::error::{Code, Failure, Result};
use crate::store::Store;
use crate::store::arguments::{bytes, bytes_array, chunk};
use crate::store::corruption::{corrupt_chunk, missing_chunk};
use crate::varlena::Building;
use modelstore_chunk::{Buffers, ChunkHash, ChunkHead, ChunkStore, MAX_DELTA_DEPTH};

/// The chunk table of a store.
pub struct SpiChunks<'a> {
    store: &'a Store,
}

impl<'a> SpiChunks<'a> {
    /// Of one store.
    pub fn new(store: &'a Store) -> SpiChunks<'a> {
        SpiChunks { store }
    }

    /// Inserts the chunk unless it is there, and keeps it from the collector until the transaction ends either way.
    /// True when it was new. Callers insert in the order of the hashes: two transactions that add the same chunks then
    /// wait for each other at most one way.
    pub fn add(&mut self, hash: &ChunkHash, encoded: &[u8], raw_bytes: u32) -> Result<bool> {
        let head = ChunkHead::parse(encoded)?;
        loop {
            if self.try_insert(hash, encoded, raw_bytes, head.base.as_ref())? {
                return Ok(true);
            }
            // Somebody committed it first. It may be collected before it is locked; then it is ours to insert after all.
            if self.lock_existing(std::slice::from_ref(hash))? == [true] {
                return Ok(false);
            }
            pgrx::check_for_interrupts!();
        }
    }

    fn try_insert(
        &self,
        hash: &ChunkHash,
        encoded: &[u8],
        raw_bytes: u32,
        base: Option<&ChunkHash>,
    ) -> Result<bool> {
        let value = Building::from_parts(&[encoded])?;
        let mut arguments = vec![
            bytes(hash.as_bytes()),
            chunk(&value),
            i32::try_from(raw_bytes).unwrap_or(i32::MAX).into(),
            i32::try_from(encoded.len()).unwrap_or(i32::MAX).into(),
        ];
        let inserted = match base {
            None => self.store.execute(
                "INSERT INTO @store@.tensor_chunks (chunk_hash, chunk, raw_bytes, stored_bytes)
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                &arguments,
            )?,
            Some(base) => {
                arguments.push(bytes(base.as_bytes()));
                self.store.execute(
                    "INSERT INTO @store@.tensor_chunks (chunk_hash, chunk, raw_bytes, stored_bytes, base_hash, delta_depth)
                     SELECT $1, $2, $3, $4, b.chunk_hash, b.delta_depth + 1
                     FROM @store@.tensor_chunks b WHERE b.chunk_hash = $5
                     ON CONFLICT DO NOTHING",
                    &arguments,
                )?
            }
        };
        value.free();
        Ok(inserted == 1)
    }
}

impl ChunkStore for SpiChunks<'_> {
    type Error = Failure;

    fn lock_existing(&mut self, hashes: &[ChunkHash]) -> Result<Vec<bool>> {
        let mut found = Vec::with_capacity(hashes.len());
        let locked = self.store.write(
            "SELECT chunk_hash FROM @store@.tensor_chunks WHERE chunk_hash = ANY ($1) ORDER BY chunk_hash FOR KEY SHARE",
            &[bytes_array(hashes.iter().map(|h| h.0.to_vec()).collect())],
            |row| Ok(ChunkHash::from_slice(&row.get::<Vec<u8>>(1)?)?),
        )?;
        let mut locked = locked.into_iter().peekable();
        for hash in hashes {
            found.push(locked.next_if(|l| l == hash).is_some());
        }
        Ok(found)
    }

    fn insert(&mut self, hash: &ChunkHash, encoded: &[u8], raw_bytes: u32) -> Result<()> {
        self.add(hash, encoded, raw_bytes).map(drop)
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
            if let Some(chunk) = row.chunk(1)? {
                buffer.extend_from_slice(chunk.whole().bytes());
                found = true;
            }
            Ok(())
        },
    )?;
    Ok(found.then_some(buffer))
}
