//! Reassembles atoms.
//!
//! The parts of a composite form a list, whose composites have lists of their own. The list is resolved from the front,
//! some thousand atoms at a time, and never expanded as a whole: memory does not grow with the data. Every byte is
//! hashed, and the end is an error unless the hash is that of the atom.

use crate::atom::argument::{AtomArgument, key_argument};
use crate::atom::chunk_leaves::{self, Wanted};
use crate::atom::contents::{Place, contents};
use crate::atom::key::{content_hash_of, missing, name};
use crate::atom::span::{Span, Unit};
use crate::atom::statement::{codes, in_modality};
use crate::atom::store_for_reading;
use crate::error::{Code, Failure, Result, or_raise};
use crate::io::bytes::ByteaOut;
use crate::pg::scratch::in_scratch_memory;
use crate::pg::varlena::Building;
use crate::store::Store;
use modelstore_atom::Key;
use modelstore_chunk::ChunkHash;
use pgrx::prelude::*;
use std::collections::VecDeque;
use std::rc::Rc;

/// Atoms resolved at a time. For each composite, a list of parts of some kilobytes is kept.
const BATCH: usize = 2048;
/// Maximum depth of composites. Each has at least two parts, so 2^64 bytes need no more.
const MAX_DEPTH: u8 = 64;
/// Maximum number of bytes of leaves that are decoded at once.
const DECODED_BYTES: u64 = 1 << 20;
/// Minimum number of bytes of a returned part, except the last.
const PART_BYTES: usize = 256 << 10;

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn reconstruct(atom: Option<AtomArgument>) -> ByteaOut {
    or_raise((|| {
        let mut parts = Reconstruction::begin(&store_for_reading()?, key_argument(atom, "atom")?)?;
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

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn reconstruct_parts(atom: Option<AtomArgument>) -> SetOfIterator<'static, ByteaOut> {
    let mut parts = or_raise((|| {
        Reconstruction::begin(&store_for_reading()?, key_argument(atom, "atom")?)
    })());
    SetOfIterator::new(std::iter::from_fn(move || {
        or_raise((|| {
            parts.next()?.map(|part| ByteaOut::copy(&part)).transpose()
        })())
    }))
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn reconstruct_bytes(
    atom: Option<AtomArgument>,
    first_byte: default!(Option<i64>, 1),
    last_byte: default!(Option<i64>, "NULL"),
) -> ByteaOut {
    or_raise(
        key_argument(atom, "atom")
            .and_then(|key| partly(key, Span::new(Unit::Bytes, first_byte, last_byte))),
    )
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn reconstruct_lines(
    atom: Option<AtomArgument>,
    first_line: default!(Option<i64>, 1),
    last_line: default!(Option<i64>, "NULL"),
) -> ByteaOut {
    or_raise((|| {
        let key = key_argument(atom, "atom")?;
        let (modality, _) = key.parts()?;
        if !modality.has_lines() {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("atom {} has no lines", name(key)),
            )
            .detail(format!(
                "Its modality is {}; text, code and structured data have lines.",
                modality.name()
            )));
        }
        partly(key, Span::new(Unit::Lines, first_line, last_line))
    })())
}

/// Reads a part of an atom. Only leaves are compared with their hashes.
fn partly(key: Key, span: Span) -> Result<ByteaOut> {
    let mut parts = Reconstruction::begin(&store_for_reading()?, key)?;
    parts.span = Some(span);
    let mut value = Vec::new();
    while let Some(part) = parts.next()? {
        value.extend_from_slice(&part);
    }
    ByteaOut::copy(&value)
}

/// An atom being reassembled.
pub struct Reconstruction {
    store: Store,
    root: Key,
    byte_length: u64,
    content_hash: [u8; 32],
    hasher: blake3::Hasher,
    seen: u64,
    /// What remains, in order.
    rest: VecDeque<Item>,
    /// What is wanted of it; `None` is all.
    span: Option<Span>,
    done: bool,
}

/// An item of the list.
enum Item {
    /// Not read yet; the number is its depth.
    Atom(Key, u8),
    Bytes(Rc<[u8]>),
    Chunk(Wanted),
    /// Not read yet; the number is the depth of each part.
    Parts(Rc<[Key]>, u8),
}

impl Reconstruction {
    /// Starts at the beginning; an error if there is no such atom.
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
            span: None,
            done: false,
        })
    }

    /// Returns the next bytes, some hundred kilobytes; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if self.done {
            return Ok(None);
        }
        let mut part = Vec::new();
        while part.len() < PART_BYTES && !self.rest.is_empty() {
            pgrx::check_for_interrupts!();
            let from = part.len();
            match self.rest.pop_front() {
                Some(Item::Bytes(bytes)) => part.extend_from_slice(&bytes),
                Some(Item::Chunk(leaf)) => {
                    in_scratch_memory(|| self.chunks(leaf, &mut part))?;
                }
                Some(atom @ Item::Atom(..)) => {
                    self.rest.push_front(atom);
                    in_scratch_memory(|| self.resolve())?;
                }
                Some(Item::Parts(parts, depth)) => self.open(&parts, depth),
                None => {}
            }
            if let Some(span) = &mut self.span {
                span.cut(&mut part, from);
                if span.is_done() {
                    self.rest.clear();
                }
            }
        }
        if self.span.is_some() {
            self.done = self.rest.is_empty();
            return Ok(Some(part));
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

    /// Decodes a run of chunks on threads.
    fn chunks(&mut self, leaf: Wanted, part: &mut Vec<u8>) -> Result<()> {
        let mut expected = part.len() as u64 + leaf.byte_length;
        let mut wanted = vec![leaf];
        while let Some(Item::Chunk(leaf)) = self.rest.front() {
            expected = expected.saturating_add(leaf.byte_length);
            if expected > DECODED_BYTES || wanted.len() == BATCH {
                break;
            }
            wanted.push(*leaf);
            self.rest.pop_front();
        }
        chunk_leaves::read(&self.store, &wanted, part)
    }

    /// Replaces the first atoms of the list by their contents.
    fn resolve(&mut self) -> Result<()> {
        let mut front = Vec::new();
        while front.len() < BATCH {
            match self.rest.pop_front() {
                Some(Item::Atom(key, depth)) => front.push((key, depth)),
                Some(Item::Parts(parts, depth)) => self.open(&parts, depth),
                Some(other) => {
                    self.rest.push_front(other);
                    break;
                }
                None => break,
            }
        }
        let mut distinct: Vec<Key> = front.iter().map(|(key, _)| *key).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let found = contents(&self.store, &distinct)?;
        let mut kept: Vec<Item> = Vec::with_capacity(front.len());
        let mut units = 0u64;
        for (key, depth) in front {
            let content = found.get(&key).ok_or_else(|| missing(key))?;
            if let Some(span) = &mut self.span {
                if kept.is_empty() && span.passes(content) {
                    continue;
                }
                units = units.saturating_add(span.units(content));
            }
            kept.push(match &content.place {
                Place::Value(bytes) => Item::Bytes(Rc::clone(bytes)),
                Place::Chunk(leaf) => Item::Chunk(*leaf),
                Place::Parts(parts) if depth < MAX_DEPTH => {
                    Item::Parts(Rc::clone(parts), depth + 1)
                }
                Place::Parts(_) => {
                    return Err(Failure::new(
                        Code::ERRCODE_DATA_CORRUPTED,
                        format!("atom {} is part of itself", name(key)),
                    ));
                }
            });
            if self
                .span
                .as_ref()
                .is_some_and(|span| span.ends_within(units))
            {
                self.rest.clear();
                break;
            }
        }
        for item in kept.into_iter().rev() {
            self.rest.push_front(item);
        }
        Ok(())
    }

    /// Prepends parts to the list.
    fn open(&mut self, parts: &[Key], depth: u8) {
        for &part in parts.iter().rev() {
            self.rest.push_front(Item::Atom(part, depth));
        }
    }
}
