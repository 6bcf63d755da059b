//! Atoms put together again.
//!
//! The parts of a composite are a list, in which parts that are composites stand for lists of their own. The list is
//! resolved from the front, some hundred atoms with each statement, and never unrolled as a whole: memory does not grow
//! with the data. Every byte goes through the hash, and the end is an error unless it is that of the atom.

use crate::atom::argument::{AtomArgument, key_argument};
use crate::atom::key::content_hash_of;
use crate::atom::statement::{codes, in_modality, in_partition, key_in, keys};
use crate::error::{Code, Failure, Result, or_raise};
use crate::source::bytes::ByteaOut;
use crate::store::Store;
use crate::store::scratch::in_scratch_memory;
use crate::tensor_storage::stream::ChunkStream;
use crate::varlena::Building;
use modelstore_atom::Key;
use modelstore_atom::key::partition;
use modelstore_chunk::ChunkHash;
use pgrx::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// Atoms that are resolved at a time.
const BATCH: usize = 4096;
/// Levels of composites. Each has two parts or more, so a content of 2^64 bytes has no more.
const MAX_DEPTH: u8 = 64;
/// Bytes that are put together before they are handed on.
const PART_BYTES: usize = 256 << 10;

/// The bytes of an atom.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn reconstruct(atom: Option<AtomArgument>) -> ByteaOut {
    or_raise((|| {
        let mut parts = Reconstruction::begin(&Store::current()?, key_argument(atom, "atom")?)?;
        let len = usize::try_from(parts.byte_length).unwrap_or(usize::MAX);
        let mut value = Building::zeroed(len).map_err(|e| {
            let atom = name(parts.root);
            e.hint(format!("SELECT modelstore.reconstruct_parts({atom});"))
        })?;
        let mut at = 0;
        while let Some(part) = parts.next()? {
            if let Some(room) = value.bytes_mut().get_mut(at..at + part.len()) {
                room.copy_from_slice(&part);
            }
            at += part.len();
        }
        Ok(ByteaOut(value))
    })())
}

/// The bytes of an atom in parts, in order: for those that are too large for one value.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn reconstruct_parts(atom: Option<AtomArgument>) -> SetOfIterator<'static, ByteaOut> {
    let mut parts = or_raise((|| {
        Reconstruction::begin(&Store::current()?, key_argument(atom, "atom")?)
    })());
    SetOfIterator::new(std::iter::from_fn(move || {
        or_raise((|| {
            parts.next()?.map(|part| ByteaOut::copy(&part)).transpose()
        })())
    }))
}

/// An atom on its way back to bytes.
pub struct Reconstruction {
    store: Store,
    root: Key,
    byte_length: u64,
    content_hash: [u8; 32],
    hasher: blake3::Hasher,
    seen: u64,
    /// What is still to come, in order.
    rest: VecDeque<Item>,
    done: bool,
}

/// Something of the list.
enum Item {
    /// Not looked at, and in so many others.
    Atom(Key, u8),
    Bytes(Rc<[u8]>),
    Chunk(Key, ChunkHash),
}

/// What an atom is.
#[derive(Clone)]
enum Found {
    Bytes(Rc<[u8]>),
    Chunk(ChunkHash),
    Parts(Rc<[Key]>),
}

impl Reconstruction {
    /// From its beginning; an error when there is no such atom.
    pub fn begin(store: &Store, root: Key) -> Result<Reconstruction> {
        let (modality, _) = root.parts()?;
        let head = store.row(
            &in_modality(
                "SELECT byte_length, content_hash FROM @store@.atoms
                 WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3 AND h_xy >= @first@ AND h_xy < @end@",
                modality,
            ),
            &codes(root),
            |row| Ok((row.get::<i64>(1)?, row.get::<Vec<u8>>(2)?)),
        )?;
        let Some((byte_length, hash)) = head else {
            return Err(missing(root));
        };
        Ok(Reconstruction {
            store: store.clone(),
            root,
            byte_length: u64::try_from(byte_length).unwrap_or_default(),
            content_hash: content_hash_of(&hash)?,
            hasher: blake3::Hasher::new(),
            seen: 0,
            rest: VecDeque::from([Item::Atom(root, 0)]),
            done: false,
        })
    }

    /// The next bytes, some hundred kilobytes of them; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if self.done {
            return Ok(None);
        }
        let mut part = Vec::new();
        while part.len() < PART_BYTES && !self.rest.is_empty() {
            pgrx::check_for_interrupts!();
            match self.rest.pop_front() {
                Some(Item::Bytes(bytes)) => part.extend_from_slice(&bytes),
                Some(Item::Chunk(key, hash)) => {
                    in_scratch_memory(|| self.chunks(key, hash, &mut part))?;
                }
                Some(atom @ Item::Atom(..)) => {
                    self.rest.push_front(atom);
                    in_scratch_memory(|| self.resolve())?;
                }
                None => {}
            }
        }
        self.hasher.update(&part);
        self.seen += part.len() as u64;
        if self.rest.is_empty() || self.seen > self.byte_length {
            self.done = true;
            let actual = *self.hasher.finalize().as_bytes();
            if (self.seen, actual) != (self.byte_length, self.content_hash) {
                return Err(Failure::new(
                    Code::ERRCODE_DATA_CORRUPTED,
                    format!("parts of atom {} are not its content", name(self.root)),
                )
                .detail(format!(
                    "Expected {} bytes with the hash {}, found {} with the hash {}.",
                    self.byte_length,
                    ChunkHash(self.content_hash),
                    self.seen,
                    ChunkHash(actual)
                )));
            }
            if part.is_empty() && self.seen > 0 {
                return Ok(None);
            }
        }
        Ok(Some(part))
    }

    /// Chunks that follow each other are decoded on threads.
    fn chunks(&mut self, key: Key, hash: ChunkHash, part: &mut Vec<u8>) -> Result<()> {
        let mut wanted = vec![(hash, label(key))];
        let mut expected = part.len();
        while let Some(Item::Chunk(key, hash)) = self.rest.front() {
            // At most 64 KiB each.
            expected += 64 << 10;
            if expected >= 4 * PART_BYTES {
                break;
            }
            wanted.push((*hash, label(*key)));
            self.rest.pop_front();
        }
        let mut stream = ChunkStream::new(&self.store, wanted)?;
        while let Some(raw) = stream.next()? {
            part.extend_from_slice(&raw);
            stream.recycle(raw);
        }
        Ok(())
    }

    /// Replaces the first atoms of the list by what they are.
    fn resolve(&mut self) -> Result<()> {
        let mut front = Vec::new();
        while front.len() < BATCH
            && let Some(Item::Atom(key, depth)) = self.rest.front()
        {
            front.push((*key, *depth));
            self.rest.pop_front();
        }
        let mut distinct: Vec<Key> = front.iter().map(|(key, _)| *key).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let found = self.find(&distinct)?;
        // A composite of composites can be as long as the data: only one of them is opened at a time.
        let mut opened = false;
        let mut items = Vec::new();
        for (key, depth) in front {
            match found.get(&key) {
                _ if opened => items.push(Item::Atom(key, depth)),
                Some(Found::Bytes(bytes)) => items.push(Item::Bytes(Rc::clone(bytes))),
                Some(Found::Chunk(hash)) => items.push(Item::Chunk(key, *hash)),
                Some(Found::Parts(_)) if depth == MAX_DEPTH => {
                    return Err(Failure::new(
                        Code::ERRCODE_DATA_CORRUPTED,
                        format!("atom {} is part of itself", name(key)),
                    ));
                }
                Some(Found::Parts(parts)) => {
                    items.extend(parts.iter().map(|&part| Item::Atom(part, depth + 1)));
                    opened = items.len() > 4 * BATCH;
                }
                None => return Err(missing(key)),
            }
        }
        for item in items.into_iter().rev() {
            self.rest.push_front(item);
        }
        Ok(())
    }

    /// What some atoms are, which are in the order of their keys.
    fn find(&self, wanted: &[Key]) -> Result<HashMap<Key, Found>> {
        let mut found = HashMap::with_capacity(wanted.len());
        let mut rest = Vec::new();
        for of_partition in wanted.chunk_by(|a, b| partition(a.h_xy) == partition(b.h_xy)) {
            self.values(of_partition, &mut found, &mut rest)?;
        }
        if !rest.is_empty() {
            self.larger(&rest, &mut found)?;
        }
        Ok(found)
    }

    /// Finds the atoms of a partition. Those without a value are left to the tables of parts and chunks.
    fn values(
        &self,
        wanted: &[Key],
        found: &mut HashMap<Key, Found>,
        rest: &mut Vec<Key>,
    ) -> Result<()> {
        let Some(partition) = wanted.first().and_then(|key| partition(key.h_xy)) else {
            return Ok(());
        };
        let mut value = Vec::new();
        self.store.query(
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
                    true => drop(found.insert(key, Found::Bytes(value.as_slice().into()))),
                    false => rest.push(key),
                }
                Ok(())
            },
        )
    }

    /// Finds atoms that have no value: composites and larger leaves.
    fn larger(&self, wanted: &[Key], found: &mut HashMap<Key, Found>) -> Result<()> {
        let mut hash = Vec::new();
        self.store.query(
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
                    true => Found::Chunk(ChunkHash::from_slice(&hash)?),
                    false => {
                        let codes = |n| row.bigints(n).map(Option::unwrap_or_default);
                        let parts = codes(5)?.into_iter().zip(codes(6)?).zip(codes(7)?);
                        let key = |((h_xy, h_yz), h_zm)| Key::from_codes([h_xy, h_yz, h_zm]);
                        Found::Parts(parts.map(key).collect())
                    }
                };
                found.insert(key_in(row, 1)?, what);
                Ok(())
            },
        )
    }
}

fn label(key: Key) -> Rc<str> {
    name(key).into()
}

/// How messages name an atom.
pub fn name(key: Key) -> String {
    format!("({}, {}, {})", key.h_xy, key.h_yz, key.h_zm)
}

/// The error for an atom that is not there.
pub fn missing(key: Key) -> Failure {
    Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("atom {} does not exist", name(key)),
    )
    .detail("It is not in the table of atoms, or a policy hides it.")
}
