//! Leaves too large for a row of `atoms`, encoded like chunks of tensors in their own table.

use crate::atom::key::name;
use crate::atom::statement::{codes, keys};
use crate::error::{Code, Failure, Result, warning};
use crate::io::Source;
use crate::pg::arguments::chunk;
use crate::pg::background::Backend;
use crate::pg::scratch::in_scratch_memory;
use crate::pg::varlena::Building;
use crate::store::Store;
use modelstore_atom::Key;
use modelstore_chunk::{ChunkHash, Decoder, Encoder, Error, Session};
use modelstore_tensor::DType;
use std::collections::VecDeque;

/// A leaf to write: its key, hash, offset in the source and length.
pub type ChunkLeaf = (Key, [u8; 32], u64, u64);

/// Leaves checked per statement: at most 4 MiB.
const LOOKED_AT: usize = 64;

/// Selects index and chunk of leaves by their keys.
const CHUNKS: &str =
    "SELECT k.number, c.chunk FROM unnest($1, $2, $3) WITH ORDINALITY k(h_xy, h_yz, h_zm, number)
     CROSS JOIN LATERAL (SELECT c.chunk FROM @store@.atom_chunks c
                         WHERE c.h_xy = k.h_xy AND c.h_yz = k.h_yz AND c.h_zm = k.h_zm OFFSET 0) c";

/// Writes new leaves, in the order of their keys.
pub fn insert(store: &Store, mut leaves: Vec<ChunkLeaf>, source: &mut dyn Source) -> Result<()> {
    leaves.sort_unstable();
    let mut encoder = Encoder::new();
    let mut raw = Vec::new();
    for leaf in leaves {
        read_again(source, &leaf, &mut raw)?;
        put(
            store,
            &mut encoder,
            leaf.0,
            &raw,
            "INSERT INTO @store@.atom_chunks (h_xy, h_yz, h_zm, chunk) VALUES ($1, $2, $3, $4)",
        )?;
        pgrx::check_for_interrupts!();
    }
    Ok(())
}

/// Checks existing leaves, in the order of their keys, and replaces those that do not match their hash.
pub fn mend(store: &Store, mut leaves: Vec<ChunkLeaf>, source: &mut dyn Source) -> Result<()> {
    leaves.sort_unstable();
    let (mut encoder, mut decoder, mut raw) = (Encoder::new(), Decoder::new(), Vec::new());
    for batch in leaves.chunks(LOOKED_AT) {
        let mut good = vec![false; batch.len()];
        in_scratch_memory(|| {
            let mut encoded = Vec::new();
            let keys = keys(batch.iter().map(|leaf| leaf.0));
            store.query(CHUNKS, &keys, |row| {
                encoded.clear();
                row.append_chunk(2, &mut encoded)?;
                let number = row.get::<i64>(1)? as usize - 1;
                raw.clear();
                good[number] = decoder.decode(&encoded, None, &mut raw).is_ok()
                    && blake3::hash(&raw).as_bytes() == &batch[number].1;
                Ok(())
            })
        })?;
        for (leaf, good) in batch.iter().zip(good) {
            if good {
                continue;
            }
            read_again(source, leaf, &mut raw)?;
            put(
                store,
                &mut encoder,
                leaf.0,
                &raw,
                "WITH leaf AS MATERIALIZED (
                     SELECT h_xy, h_yz, h_zm, is_public, created_by FROM @store@.atoms WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3)
                 INSERT INTO @store@.atom_chunks (h_xy, h_yz, h_zm, is_public, created_by, chunk)
                 SELECT leaf.*, $4 FROM leaf
                 ON CONFLICT (h_xy, h_yz, h_zm) DO UPDATE SET chunk = excluded.chunk",
            )?;
            warning(&format!(
                "chunk of atom {} was damaged and has been replaced",
                name(leaf.0)
            ));
        }
        pgrx::check_for_interrupts!();
    }
    Ok(())
}

/// Reads a leaf again and checks its hash: the source may have changed since it was hashed.
fn read_again(source: &mut dyn Source, leaf: &ChunkLeaf, raw: &mut Vec<u8>) -> Result<()> {
    let (_, hash, offset, len) = *leaf;
    in_scratch_memory(|| source.read_at(offset, len as usize, raw))?;
    if blake3::hash(raw).as_bytes() == &hash {
        return Ok(());
    }
    Err(changed(offset, len))
}

/// Encodes a leaf and writes it with a statement that takes its key and its chunk.
fn put(store: &Store, encoder: &mut Encoder, key: Key, raw: &[u8], statement: &str) -> Result<()> {
    let mut encoded = Vec::new();
    encoder.encode(DType::U8, raw, &mut encoded)?;
    in_scratch_memory(|| {
        let value = Building::from_parts(&[encoded.as_slice()])?;
        let [h_xy, h_yz, h_zm] = codes(key);
        store.execute(statement, &[h_xy, h_yz, h_zm, chunk(&value)])?;
        value.free();
        Ok(())
    })
}

fn changed(offset: u64, len: u64) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_IN_USE,
        format!(
            "data changed while it was ingested: bytes {offset} to {}",
            offset + len
        ),
    )
    .detail("Another transaction writes to the large object.")
}

/// Appends the content of leaves, in order, decoded on threads. A leaf that does not match its hash is an error.
pub fn read(store: &Store, wanted: &[(Key, ChunkHash)], out: &mut Vec<u8>) -> Result<()> {
    let mut encoded: Vec<Option<Vec<u8>>> = vec![None; wanted.len()];
    store.query(CHUNKS, &keys(wanted.iter().map(|(key, _)| *key)), |row| {
        let mut bytes = Vec::new();
        row.append_chunk(2, &mut bytes)?;
        encoded[row.get::<i64>(1)? as usize - 1] = Some(bytes);
        Ok(())
    })?;
    let mut pipeline = Backend::silent().pipeline(
        Decoder::new,
        |decoder: &mut Decoder, (bytes, hash): (Vec<u8>, ChunkHash)| {
            let mut raw = Vec::new();
            decoder.decode(&bytes, None, &mut raw)?;
            match ChunkHash::of(&raw) {
                actual if actual == hash => Ok(raw),
                actual => Err(Error::HashMismatch {
                    expected: hash,
                    actual,
                }),
            }
        },
    )?;
    let mut rest: VecDeque<_> = wanted.iter().zip(encoded).collect();
    let mut running = VecDeque::new();
    loop {
        while !pipeline.is_full()
            && let Some((&(key, hash), bytes)) = rest.pop_front()
        {
            let bytes = bytes.ok_or_else(|| bad(key, "missing"))?;
            if pipeline.submit((bytes, hash)).is_ok() {
                running.push_back(key);
            }
        }
        let Some(key) = running.pop_front() else {
            return Ok(());
        };
        match Backend::silent().next(&mut pipeline)? {
            Some(Ok(raw)) => out.extend_from_slice(&raw),
            Some(Err(e)) => return Err(bad(key, &format!("corrupted: {e}"))),
            None => return Err(bad(key, "missing")),
        }
    }
}

fn bad(key: Key, what: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        format!("chunk of atom {} is {what}", name(key)),
    )
    .hint("SELECT * FROM modelstore.verify_atoms();")
}
