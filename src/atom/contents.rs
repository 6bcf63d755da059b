//! What atoms are: a value, a chunk, or parts.

use crate::atom::statement::{in_partition, key_in, keys};
use crate::error::Result;
use crate::store::Store;
use modelstore_atom::Key;
use modelstore_atom::key::partition;
use modelstore_chunk::ChunkHash;
use std::collections::HashMap;
use std::rc::Rc;

/// What an atom is.
pub enum Content {
    /// A leaf of at most 64 bytes.
    Value(Rc<[u8]>),
    /// A larger leaf.
    Chunk(ChunkHash),
    /// A composite.
    Parts(Rc<[Key]>),
}

/// What atoms are, in the order of their keys, each once; without those that are not there.
pub fn contents(store: &Store, wanted: &[Key]) -> Result<HashMap<Key, Content>> {
    let mut found = HashMap::with_capacity(wanted.len());
    let mut rest = Vec::new();
    for of_partition in wanted.chunk_by(|a, b| partition(a.h_xy) == partition(b.h_xy)) {
        values(store, of_partition, &mut found, &mut rest)?;
    }
    if !rest.is_empty() {
        larger(store, &rest, &mut found)?;
    }
    Ok(found)
}

/// Finds the atoms of a partition. Those without a value are left to the tables of parts and chunks.
fn values(
    store: &Store,
    wanted: &[Key],
    found: &mut HashMap<Key, Content>,
    rest: &mut Vec<Key>,
) -> Result<()> {
    let Some(partition) = wanted.first().and_then(|key| partition(key.h_xy)) else {
        return Ok(());
    };
    let mut value = Vec::new();
    store.query(
        &in_partition(
            "SELECT k.number, a.value
             FROM unnest($1, $2, $3) WITH ORDINALITY k(h_xy, h_yz, h_zm, number)
             CROSS JOIN LATERAL (SELECT a.value FROM @store@.atoms a
                                 WHERE a.h_xy = k.h_xy AND a.h_yz = k.h_yz AND a.h_zm = k.h_zm
                                   AND a.h_xy >= @first@ AND a.h_xy < @end@ OFFSET 0) a",
            partition,
        ),
        &keys(wanted.iter().copied()),
        |row| {
            value.clear();
            let key = wanted[row.get::<i64>(1)? as usize - 1];
            match row.append_bytes(2, &mut value)? {
                true => drop(found.insert(key, Content::Value(value.as_slice().into()))),
                false => rest.push(key),
            }
            Ok(())
        },
    )
}

/// Finds atoms that have no value: composites and larger leaves.
fn larger(store: &Store, wanted: &[Key], found: &mut HashMap<Key, Content>) -> Result<()> {
    let mut hash = Vec::new();
    store.query(
        "SELECT k.h_xy, k.h_yz, k.h_zm, c.chunk_hash, p.h_xys, p.h_yzs, p.h_zms
         FROM unnest($1, $2, $3) k(h_xy, h_yz, h_zm)
         LEFT JOIN LATERAL (
             SELECT c.chunk_hash FROM @store@.atom_chunks c
             WHERE c.h_xy = k.h_xy AND c.h_yz = k.h_yz AND c.h_zm = k.h_zm OFFSET 0) c ON true
         LEFT JOIN LATERAL (
             SELECT array_agg(p.h_xy) AS h_xys, array_agg(p.h_yz) AS h_yzs, array_agg(p.h_zm) AS h_zms
             FROM (SELECT p.h_xy, p.h_yz, p.h_zm FROM @store@.atom_parts p
                   WHERE p.parent_h_xy = k.h_xy AND p.parent_h_yz = k.h_yz AND p.parent_h_zm = k.h_zm
                   ORDER BY p.part_index OFFSET 0) p) p ON true
         WHERE c.chunk_hash IS NOT NULL OR p.h_xys IS NOT NULL",
        &keys(wanted.iter().copied()),
        |row| {
            hash.clear();
            let what = match row.append_bytes(4, &mut hash)? {
                true => Content::Chunk(ChunkHash::from_slice(&hash)?),
                false => {
                    let codes = |n| row.bigints(n).map(Option::unwrap_or_default);
                    let parts = codes(5)?.into_iter().zip(codes(6)?).zip(codes(7)?);
                    let key = |((h_xy, h_yz), h_zm)| Key::from_codes([h_xy, h_yz, h_zm]);
                    Content::Parts(parts.map(key).collect())
                }
            };
            found.insert(key_in(row, 1)?, what);
            Ok(())
        },
    )
}
