//! Splits sources into leaves and trees, and reassembles them.
#![allow(clippy::unwrap_used)]

mod cut;
mod edits;
mod sources;
mod tree;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use modelstore_atom::Modality;
use modelstore_atom::cut::{Cutter, HEAD_BYTES, LOOKAHEAD, Leaf};
use modelstore_atom::tree::{Content, ContentHash, Features, MAX_CHILDREN, Node, TreeBuilder};

/// The leaves of a source, whose cutter is shown so many bytes more than it asks for.
fn leaves(modality: Modality, source: &[u8], beyond: usize) -> Vec<Leaf> {
    let head = &source[..source.len().min(HEAD_BYTES)];
    let mut cutter = Cutter::new(modality, head, source.len() as u64);
    let (mut rest, mut leaves) = (source, Vec::new());
    while !rest.is_empty() {
        let window = &rest[..rest.len().min(LOOKAHEAD.saturating_add(beyond))];
        let leaf = cutter.next(window);
        assert!((1..=window.len().min(LOOKAHEAD)).contains(&leaf.len));
        leaves.push(leaf);
        rest = &rest[leaf.len..];
    }
    leaves
}

/// Enough of a run of bytes to tell whether it is the right one, with every byte and its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Summary {
    first: Option<u8>,
    length: u64,
    sum: u64,
}

impl Features for Summary {
    type Output = Summary;

    fn update(&mut self, bytes: &[u8]) {
        self.first = self.first.or(bytes.first().copied());
        for &byte in bytes {
            self.length += 1;
            self.sum = self.sum.wrapping_mul(31).wrapping_add(byte.into());
        }
    }

    fn finish(self) -> Summary {
        self
    }
}

/// Nothing is asked of the bytes.
#[derive(Clone)]
struct Nothing;

impl Features for Nothing {
    type Output = ();
    fn update(&mut self, _: &[u8]) {}
    fn finish(self) {}
}

/// The atoms of one or more sources, as a store would keep them.
#[derive(Default)]
struct Store {
    atoms: HashMap<ContentHash, Atom>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    Leaf(Vec<u8>),
    Composite(Vec<ContentHash>),
}

impl Store {
    /// Puts a source in: its root, and how many atoms were new.
    fn put(&mut self, modality: Modality, source: &[u8]) -> (ContentHash, usize) {
        let before = self.atoms.len();
        let mut seen = HashSet::new();
        let mut sink = |node: Node<'_, ()>| {
            let atom = match node.content {
                Content::Leaf(bytes) => Atom::Leaf(bytes.to_vec()),
                Content::Composite(children) => {
                    assert!((2..=MAX_CHILDREN).contains(&children.len()));
                    assert!(children.iter().all(|child| seen.contains(child)));
                    Atom::Composite(children.to_vec())
                }
            };
            seen.insert(node.hash);
            self.atoms.entry(node.hash).or_insert(atom);
            Ok::<(), Infallible>(())
        };
        let mut builder = TreeBuilder::new(Nothing);
        let mut rest = source;
        for leaf in leaves(modality, source, 0) {
            let (bytes, after) = rest.split_at(leaf.len);
            builder.leaf(bytes, leaf.ends_group, &mut sink).unwrap();
            rest = after;
        }
        let root = builder.finish(&mut sink).unwrap();
        (root, self.atoms.len() - before)
    }

    /// The bytes of an atom.
    fn get(&self, hash: &ContentHash) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append(hash, &mut bytes);
        bytes
    }

    fn append(&self, hash: &ContentHash, bytes: &mut Vec<u8>) {
        match &self.atoms[hash] {
            Atom::Leaf(leaf) => bytes.extend_from_slice(leaf),
            Atom::Composite(children) => children.iter().for_each(|c| self.append(c, bytes)),
        }
    }

    /// Levels below an atom.
    fn depth(&self, hash: &ContentHash) -> usize {
        match &self.atoms[hash] {
            Atom::Leaf(_) => 0,
            Atom::Composite(children) => 1 + children.iter().map(|c| self.depth(c)).max().unwrap(),
        }
    }
}
