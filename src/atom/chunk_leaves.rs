//! Leaves that are too large for a row of `atoms`: encoded as chunks of tensors are, in a table of their own.

use crate::atom::key::name;
use crate::atom::statement::{codes, keys};
use crate::background;
use crate::error::{Code, Failure, Result};
use crate::source::Source;
use crate::store::Store;
use crate::store::arguments::chunk;
use crate::store::scratch::in_scratch_memory;
use crate::varlena::Building;
use modelstore_atom::Key;
use modelstore_chunk::{ChunkHash, Decoder, Encoder, Error};
use modelstore_tensor::DType;
use std::collections::VecDeque;

/// A leaf to be written: its key, its hash, where it is in the source and how long it is.
pub type ChunkLeaf = (Key, [u8; 32], u64, u64);

/// Writes new leaves, in the order of their keys.
pub fn insert(store: &Store, mut leaves: Vec<ChunkLeaf>, source: &mut dyn Source) -> Result<()> {
    leaves.sort_unstable();
    let mut encoder = Encoder::new();
    let (mut raw, mut encoded) = (Vec::new(), Vec::new());
    for (key, hash, offset, len) in leaves {
        in_scratch_memory(|| {
            source.read_at(offset, len as usize, &mut raw)?;
            // What was hashed is what is encoded: a source may change between two readings.
            if blake3::hash(&raw).as_bytes() != &hash {
                return Err(changed(offset, len));
            }
            encoded.clear();
            encoder.encode(DType::U8, &raw, &mut encoded)?;
            let value = Building::from_parts(&[encoded.as_slice()])?;
            let [h_xy, h_yz, h_zm] = codes(key);
            let inserted = store.execute(
                "INSERT INTO @store@.atom_chunks (h_xy, h_yz, h_zm, chunk) VALUES ($1, $2, $3, $4)",
                &[h_xy, h_yz, h_zm, chunk(&value)],
            );
            value.free();
            inserted
        })?;
        pgrx::check_for_interrupts!();
    }
    Ok(())
}

fn changed(offset: u64, len: u64) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_IN_USE,
        format!(
            "data changed while it was taken in: bytes {offset} to {}",
            offset + len
        ),
    )
    .detail("Something else writes to the large object.")
}

/// Appends the content of leaves, in order; decoded on threads. An error for one that is not what its hash says.
pub fn read(store: &Store, wanted: &[(Key, ChunkHash)], out: &mut Vec<u8>) -> Result<()> {
    let mut encoded: Vec<Option<Vec<u8>>> = vec![None; wanted.len()];
    store.query(
        "SELECT k.number, c.chunk FROM unnest($1, $2, $3) WITH ORDINALITY k(h_xy, h_yz, h_zm, number)
         CROSS JOIN LATERAL (SELECT c.chunk FROM @store@.atom_chunks c
                             WHERE c.h_xy = k.h_xy AND c.h_yz = k.h_yz AND c.h_zm = k.h_zm OFFSET 0) c",
        &keys(wanted.iter().map(|(key, _)| *key)),
        |row| {
            let mut bytes = Vec::new();
            row.append_chunk(2, &mut bytes)?;
            encoded[row.get::<i64>(1)? as usize - 1] = Some(bytes);
            Ok(())
        },
    )?;
    let mut pipeline = background::pipeline(
        Decoder::new,
        |decoder, (bytes, hash): (Vec<u8>, ChunkHash)| {
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
        match background::next(&mut pipeline)? {
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
