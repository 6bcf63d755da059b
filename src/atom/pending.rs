//! The atoms of a source before anything is written, each distinct content once.

use crate::atom::collect::{MAX_PENDING, Seen};
use crate::error::{Code, Failure, Result};
use modelstore_atom::cut::MAX_INLINE_BYTES;
use modelstore_atom::tree::{Content, ContentHash, Node};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

/// An atom that is not written yet.
pub struct PendingAtom {
    /// BLAKE3-256 of its bytes.
    pub hash: ContentHash,
    /// Its coordinates except the fourth, which comes from the hash.
    pub xyz: [u32; 3],
    /// The number of its bytes.
    pub byte_length: u64,
    /// The number of its line ends, if it is text.
    pub line_ends: Option<u64>,
    /// The bytes, or where they are.
    pub content: PendingContent,
}

/// The bytes of an atom, or where they are.
pub enum PendingContent {
    /// At most 64 bytes, in the row.
    Inline(Box<[u8]>),
    /// A larger leaf, at this offset of the source; written to `atom_chunks`.
    Chunk(u64),
    /// The parts, as a range of [`Pending::parts`].
    Composite(Range<usize>),
}

/// Distinct contents; parts come before their composites.
#[derive(Default)]
pub struct Pending {
    /// The contents.
    pub atoms: Vec<PendingAtom>,
    /// The contents of whole sources, one entry per source.
    pub roots: Vec<usize>,
    parts: Vec<u32>,
    by_hash: HashMap<ContentHash, u32>,
}

impl Pending {
    /// Adds a node that ends before `end` of the source, unless its content has been added.
    pub fn add(&mut self, node: Node<'_, Seen>, end: u64) -> Result<()> {
        let number = u32::try_from(self.atoms.len())
            .ok()
            .filter(|&n| n < MAX_PENDING)
            .ok_or_else(too_many)?;
        let Entry::Vacant(vacant) = self.by_hash.entry(node.hash) else {
            return Ok(());
        };
        vacant.insert(number);
        let content = match node.content {
            Content::Leaf(bytes) if bytes.len() <= MAX_INLINE_BYTES => {
                PendingContent::Inline(bytes.into())
            }
            Content::Leaf(bytes) => PendingContent::Chunk(end - bytes.len() as u64),
            Content::Composite(parts) => {
                let begin = self.parts.len();
                for part in parts {
                    self.parts.push(self.number(part)? as u32);
                }
                PendingContent::Composite(begin..self.parts.len())
            }
        };
        self.atoms.push(PendingAtom {
            hash: node.hash,
            xyz: node.features.xyz,
            byte_length: node.byte_length,
            line_ends: node.features.line_ends,
            content,
        });
        Ok(())
    }

    /// Returns the number of a content that has been added.
    pub fn number(&self, hash: &ContentHash) -> Result<usize> {
        self.by_hash.get(hash).map(|&n| n as usize).ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "part of an atom comes after it",
            )
        })
    }

    /// Returns the parts of a content in order; none for a leaf.
    pub fn parts(&self, number: usize) -> &[u32] {
        match &self.atoms[number].content {
            PendingContent::Composite(range) => &self.parts[range.clone()],
            _ => &[],
        }
    }
}

fn too_many() -> Failure {
    Failure::new(
        Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("data has more than {MAX_PENDING} distinct atoms"),
    )
    .detail(
        "Atoms of one run are kept in memory until they are written in the order of their keys.",
    )
}
