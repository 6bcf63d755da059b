//! Content of atoms: a value, a chunk, or parts.

use crate::atom::chunk_leaves::Wanted;
use crate::atom::key::{content_hash_of, name};
use crate::atom::statement::{in_codes, keys};
use crate::error::{Code, Failure, Result};
use crate::store::Store;
use modelstore_atom::Key;
use modelstore_atom::cut::count_line_ends;
use modelstore_atom::key::{range, range_bounds};
use modelstore_chunk::ChunkHash;
use std::collections::HashMap;
use std::rc::Rc;

/// The content of an atom, and how much it is.
pub struct Content {
    /// Its bytes.
    pub byte_length: u64,
    /// Its line ends, if it is text.
    pub line_ends: Option<u64>,
    /// Where the bytes are.
    pub place: Place,
}

/// Where the bytes of an atom are.
pub enum Place {
    /// Here: a leaf of at most 64 bytes.
    Value(Rc<[u8]>),
    /// A larger leaf.
    Chunk(Wanted),
    /// The parts of a composite.
    Parts(Rc<[Key]>),
}

/// An atom without a value. Only rows that its own role wrote count: another role may write rows with the same key.
struct Larger {
    key: Key,
    hash: [u8; 32],
    created_by: String,
    byte_length: u64,
    line_ends: Option<u64>,
}

/// Returns the content of each atom that exists. `wanted` is sorted by key, without duplicates.
pub fn contents(store: &Store, wanted: &[Key]) -> Result<HashMap<Key, Content>> {
    let mut found = HashMap::with_capacity(wanted.len());
    let mut rest = Vec::new();
    for of_range in wanted.chunk_by(|a, b| range(a.h_xy) == range(b.h_xy)) {
        values(store, of_range, &mut found, &mut rest)?;
    }
    if !rest.is_empty() {
        larger(store, &rest, &mut found)?;
    }
    Ok(found)
}

/// Reads the atoms of one range, which lie in one partition. Adds those without a value to `rest`, for the tables of
/// parts and chunks.
fn values(
    store: &Store,
    wanted: &[Key],
    found: &mut HashMap<Key, Content>,
    rest: &mut Vec<Larger>,
) -> Result<()> {
    let Some(range) = wanted.first().and_then(|key| range(key.h_xy)) else {
        return Ok(());
    };
    let mut bytes = Vec::new();
    store.query(
        &in_codes(
            "SELECT k.number, a.value, a.content_hash, a.created_by, a.byte_length, a.line_ends
             FROM unnest($1, $2, $3) WITH ORDINALITY k(h_xy, h_yz, h_zm, number)
             CROSS JOIN LATERAL (SELECT a.value, a.content_hash, a.created_by, a.byte_length, a.line_ends FROM @store@.atoms a
                                 WHERE a.h_xy = k.h_xy AND a.h_yz = k.h_yz AND a.h_zm = k.h_zm
                                   AND a.h_xy >= @first@ AND a.h_xy < @end@ OFFSET 0) a",
            range_bounds(range),
        ),
        &keys(wanted.iter().copied()),
        |row| {
            let key = wanted[row.get::<i64>(1)? as usize - 1];
            let byte_length = u64::try_from(row.get::<i64>(5)?).unwrap_or_default();
            let line_ends = row.opt::<i64>(6)?;
            let line_ends = line_ends.map(|count| u64::try_from(count).unwrap_or_default());
            bytes.clear();
            row.append_bytes(3, &mut bytes)?;
            let hash = content_hash_of(&bytes)?;
            bytes.clear();
            if row.append_bytes(2, &mut bytes)? {
                let counted = line_ends.map(|_| count_line_ends(&bytes));
                if blake3::hash(&bytes).as_bytes() != &hash || counted != line_ends {
                    return Err(Failure::new(
                        Code::ERRCODE_DATA_CORRUPTED,
                        format!("value of atom {} does not match its hash or its line ends", name(key)),
                    )
                    .hint("SELECT * FROM modelstore.verify_atoms();"));
                }
                let place = Place::Value(bytes.as_slice().into());
                found.insert(key, Content { byte_length, line_ends, place });
                return Ok(());
            }
            rest.push(Larger {
                key,
                hash,
                created_by: row.get(4)?,
                byte_length,
                line_ends,
            });
            Ok(())
        },
    )
}

/// Reads atoms without a value: composites and larger leaves.
fn larger(store: &Store, wanted: &[Larger], found: &mut HashMap<Key, Content>) -> Result<()> {
    let [h_xy, h_yz, h_zm] = keys(wanted.iter().map(|atom| atom.key));
    let owners: Vec<String> = wanted.iter().map(|atom| atom.created_by.clone()).collect();
    store.query(
        "SELECT k.number, c.is_chunk, p.h_xys, p.h_yzs, p.h_zms
         FROM unnest($1, $2, $3, $4) WITH ORDINALITY k(h_xy, h_yz, h_zm, created_by, number)
         LEFT JOIN LATERAL (
             SELECT true AS is_chunk FROM @store@.atom_chunks c
             WHERE c.h_xy = k.h_xy AND c.h_yz = k.h_yz AND c.h_zm = k.h_zm AND c.created_by = k.created_by OFFSET 0) c ON true
         LEFT JOIN LATERAL (
             SELECT array_agg(p.h_xy) AS h_xys, array_agg(p.h_yz) AS h_yzs, array_agg(p.h_zm) AS h_zms
             FROM (SELECT p.h_xy, p.h_yz, p.h_zm FROM @store@.atom_parts p
                   WHERE p.parent_h_xy = k.h_xy AND p.parent_h_yz = k.h_yz AND p.parent_h_zm = k.h_zm
                     AND p.created_by = k.created_by
                   ORDER BY p.part_index OFFSET 0) p) p ON true
         WHERE c.is_chunk OR p.h_xys IS NOT NULL",
        &[h_xy, h_yz, h_zm, owners.into()],
        |row| {
            let atom = &wanted[row.get::<i64>(1)? as usize - 1];
            let place = if row.opt::<bool>(2)? == Some(true) {
                Place::Chunk(Wanted {
                    key: atom.key,
                    hash: ChunkHash(atom.hash),
                    byte_length: atom.byte_length,
                    line_ends: atom.line_ends,
                })
            } else {
                let codes = |n| row.bigints(n).map(Option::unwrap_or_default);
                let parts = codes(3)?.into_iter().zip(codes(4)?).zip(codes(5)?);
                let key = |((h_xy, h_yz), h_zm)| Key::from_codes([h_xy, h_yz, h_zm]);
                Place::Parts(parts.map(key).collect())
            };
            let content = Content {
                byte_length: atom.byte_length,
                line_ends: atom.line_ends,
                place,
            };
            found.insert(atom.key, content);
            Ok(())
        },
    )
}
