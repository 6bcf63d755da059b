//! Groups leaves into composites, these into larger ones, up to one root.
//!
//! A group ends where the hash of its last child decides, at [`MAX_CHILDREN`], or, among leaves, where the cutter found
//! a natural end. So the shape of the tree depends on the content alone, and an edit changes only the groups around it
//! and those above them. Each level is built from its one open group: memory grows only by a group per level.
//!
//! The hash of an atom is that of its bytes, whether it is a leaf or a composite. Each open group hashes all bytes from
//! its start: nothing is read again.

/// Maximum number of children of a composite.
pub const MAX_CHILDREN: usize = 128;

/// BLAKE3-256 of the bytes of an atom.
pub type ContentHash = [u8; 32];

/// Bits of a child's hash that decide whether its group ends: one in 16 does.
const BOUNDARY_BITS: u32 = 4;
/// Levels until the same bits of a hash decide again.
const BOUNDARY_WORDS: usize = (u64::BITS / BOUNDARY_BITS) as usize;
/// Bytes of leaves buffered before they are hashed for the groups above: many short leaves at once are hashed faster.
const PENDING_BYTES: usize = 64 << 10;

/// Computes properties of an atom while its bytes pass.
pub trait Features: Clone {
    /// The result.
    type Output;
    /// Adds the next bytes.
    fn update(&mut self, bytes: &[u8]);
    /// Returns the result.
    fn finish(self) -> Self::Output;
}

/// The content of an atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// The bytes themselves.
    Leaf(&'a [u8]),
    /// Other atoms, in order: 2 to [`MAX_CHILDREN`].
    Composite(&'a [ContentHash]),
}

/// An atom of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a, P> {
    /// Hash of its bytes.
    pub hash: ContentHash,
    /// The properties of its bytes.
    pub features: P,
    /// The number of its bytes.
    pub byte_length: u64,
    /// Its content.
    pub content: Content<'a>,
}

/// State for a run of bytes.
#[derive(Clone)]
struct Seen<F> {
    hasher: blake3::Hasher,
    features: F,
    byte_length: u64,
}

impl<F: Features> Seen<F> {
    fn new(features: F) -> Self {
        Seen {
            hasher: blake3::Hasher::new(),
            features,
            byte_length: 0,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.features.update(bytes);
        self.byte_length += bytes.len() as u64;
    }
}

/// A group that has children.
struct Group<F> {
    seen: Seen<F>,
    children: Vec<ContentHash>,
}

/// Builds the tree of one source from its leaves.
///
/// Every atom is passed to a sink: children before their parents, and again each time they occur. The tree of a source
/// that is one leaf is that leaf.
pub struct TreeBuilder<F: Features> {
    make: F,
    /// The open group of each level, the lowest first.
    levels: Vec<Option<Group<F>>>,
    /// Bytes that the open groups have not hashed yet.
    pending: Vec<u8>,
}

impl<F: Features> TreeBuilder<F> {
    /// Creates an empty builder. `make` is cloned for every atom; it has seen no bytes.
    pub fn new(make: F) -> Self {
        TreeBuilder {
            make,
            levels: vec![None],
            pending: Vec::new(),
        }
    }

    /// Adds the next leaf; `ends_group` tells whether its group ends with it. The leaf and all composites that it completes
    /// are passed to `sink`, whose error is returned; the builder is unusable after one. An empty leaf is skipped.
    pub fn leaf<E>(
        &mut self,
        bytes: &[u8],
        ends_group: bool,
        sink: &mut impl FnMut(Node<'_, F::Output>) -> Result<(), E>,
    ) -> Result<(), E> {
        if bytes.is_empty() {
            return Ok(());
        }
        let hash = self.emit_leaf(bytes, sink)?;
        let group = self.levels[0].get_or_insert_with(|| Group {
            seen: Seen::new(self.make.clone()),
            children: Vec::new(),
        });
        group.children.push(hash);
        let full = ends_group || is_complete(&group.children, 0);
        self.see(bytes);
        match full {
            true => self.close(0, sink),
            false => Ok(()),
        }
    }

    /// Closes all open groups and returns the hash of the root. A source without leaves is one empty leaf.
    pub fn finish<E>(
        mut self,
        sink: &mut impl FnMut(Node<'_, F::Output>) -> Result<(), E>,
    ) -> Result<ContentHash, E> {
        let mut level = 0;
        while level < self.levels.len() {
            if let Some(group) = &self.levels[level] {
                let is_last = self.levels[level + 1..].iter().all(Option::is_none);
                if let ([root], true) = (group.children.as_slice(), is_last) {
                    return Ok(*root);
                }
                // This ends with at most one child in a higher level, so the last level is reached.
                self.close(level, sink)?;
            }
            level += 1;
        }
        self.emit_leaf(&[], sink)
    }

    fn emit_leaf<E>(
        &self,
        bytes: &[u8],
        sink: &mut impl FnMut(Node<'_, F::Output>) -> Result<(), E>,
    ) -> Result<ContentHash, E> {
        let mut features = self.make.clone();
        features.update(bytes);
        let hash = *blake3::hash(bytes).as_bytes();
        sink(Node {
            hash,
            features: features.finish(),
            byte_length: bytes.len() as u64,
            content: Content::Leaf(bytes),
        })?;
        Ok(hash)
    }

    /// Passes bytes to all open groups, before any of them ends.
    fn see(&mut self, bytes: &[u8]) {
        if self.pending.len() + bytes.len() > PENDING_BYTES {
            self.flush();
        }
        self.pending.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        for group in self.levels.iter_mut().flatten() {
            group.seen.update(&self.pending);
        }
        self.pending.clear();
    }

    /// Makes a composite of the open group of a level and adds it to the level above, repeating while that completes a
    /// group.
    fn close<E>(
        &mut self,
        mut level: usize,
        sink: &mut impl FnMut(Node<'_, F::Output>) -> Result<(), E>,
    ) -> Result<(), E> {
        // Every level must have hashed the group's bytes, and none that follow.
        self.flush();
        while let Some(Group { seen, children }) = self.levels[level].take() {
            let hash = match children.as_slice() {
                // A group of one adds nothing to its child.
                [only] => *only,
                _ => {
                    let hash = *seen.hasher.finalize().as_bytes();
                    sink(Node {
                        hash,
                        features: seen.features.clone().finish(),
                        byte_length: seen.byte_length,
                        content: Content::Composite(&children),
                    })?;
                    hash
                }
            };
            level += 1;
            if level == self.levels.len() {
                self.levels.push(None);
            }
            // A group above that begins here has the same state as this one.
            let above = self.levels[level].get_or_insert_with(|| Group {
                seen,
                children: Vec::new(),
            });
            above.children.push(hash);
            if !is_complete(&above.children, level) {
                break;
            }
        }
        Ok(())
    }
}

/// Returns whether a group ends with its last child. By its hash only if it is not the only one: otherwise a child that
/// ends the groups of many levels would rise through all of them.
fn is_complete(children: &[ContentHash], level: usize) -> bool {
    match children {
        [] | [_] => false,
        [.., last] => children.len() == MAX_CHILDREN || is_boundary(last, level),
    }
}

/// Returns whether a child ends the group at a level, from 0. Each level uses other bits, none of which determine the
/// place of an atom.
fn is_boundary(hash: &ContentHash, level: usize) -> bool {
    let mut word = [0; 8];
    word.copy_from_slice(&hash[8..16]);
    let shift = BOUNDARY_BITS * (level % BOUNDARY_WORDS) as u32;
    (u64::from_le_bytes(word) >> shift).trailing_zeros() >= BOUNDARY_BITS
}
