//! Lossless encodings of a chunk, and what their index entries mean.
//!
//! `planes` and `delta` cut the raw bytes into blocks that decode on their own. Of each block the elements' bytes are
//! sorted into planes: plane 0 holds the lowest byte of every element, the last plane the highest. Floating-point
//! elements are first rotated left by one bit, which puts the whole exponent into the highest plane: it is the one
//! that compresses in trained weights. The index has one u32 (little-endian) for each block and plane, in that
//! order: the plane's stored length shifted left by 2, or'ed with how it is stored (0 as it is, 1 a zstd frame,
//! 2 one byte that repeats). The planes follow in the order of the index, without gaps.
//!
//! In a block of a delta of which few elements have changed only those are stored: its first entry is of kind 3 with
//! the length of all of it, its other entries are zero, and what is stored is described in `codec/sparse.rs`. Its
//! cost and the time it takes go with the changes, so its blocks are larger.

mod decoder;
mod encoder;
mod estimate;
mod planes;
mod rice;
mod shuffle;
mod sparse;

use crate::{Error, Result};

pub use decoder::Decoder;
pub use encoder::Encoder;

/// How the payload of a chunk is encoded. The discriminant is the code stored on disk.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// The raw bytes.
    Raw = 0,
    /// One element that repeats.
    Constant = 1,
    /// Byte planes, each stored in the cheapest way.
    Planes = 2,
    /// XOR with a base chunk, then planes, of all elements or of those that differ.
    Delta = 3,
}

impl Codec {
    /// Every codec, in the order of the codes.
    pub const ALL: &'static [Codec] = &[Codec::Raw, Codec::Constant, Codec::Planes, Codec::Delta];

    /// The codec of a stored code.
    pub fn from_code(code: u8) -> Result<Codec> {
        Codec::ALL
            .get(usize::from(code))
            .copied()
            .ok_or(Error::Codec(code))
    }

    /// The stored code.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The name shown in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Raw => "raw",
            Codec::Constant => "constant",
            Codec::Planes => "planes",
            Codec::Delta => "delta",
        }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How one plane of one block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaneKind {
    /// As it is.
    Raw,
    /// A zstd frame.
    Zstd,
    /// One byte that repeats.
    Constant,
    /// Not a plane, but the changed elements of a whole block. Stands for plane 0; the others have no bytes.
    Sparse,
}

/// One entry of the block index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaneEntry {
    pub kind: PlaneKind,
    pub len: usize,
}

impl PlaneEntry {
    /// The entry that is zero: no bytes.
    pub const NONE: PlaneEntry = PlaneEntry {
        kind: PlaneKind::Raw,
        len: 0,
    };

    pub fn to_u32(self) -> u32 {
        let kind = match self.kind {
            PlaneKind::Raw => 0,
            PlaneKind::Zstd => 1,
            PlaneKind::Constant => 2,
            PlaneKind::Sparse => 3,
        };
        (self.len as u32) << 2 | kind
    }

    /// Takes an entry for a plane of `plane_len` bytes apart; `None` when no encoder writes it.
    pub fn from_u32(entry: u32, plane_len: usize) -> Option<PlaneEntry> {
        let len = (entry >> 2) as usize;
        let (kind, good) = match entry & 3 {
            0 => (PlaneKind::Raw, len == plane_len),
            1 => (PlaneKind::Zstd, len > 0 && len < plane_len),
            2 => (PlaneKind::Constant, len == 1),
            _ => return None,
        };
        good.then_some(PlaneEntry { kind, len })
    }

    /// Takes the entry of a sparse block of `block_len` raw bytes apart; `None` when it is of another kind, or no
    /// encoder writes it.
    pub fn sparse_from_u32(entry: u32, block_len: usize) -> Option<PlaneEntry> {
        let len = (entry >> 2) as usize;
        (entry & 3 == 3 && len > 0 && len < block_len).then_some(PlaneEntry {
            kind: PlaneKind::Sparse,
            len,
        })
    }
}

/// XORs `other` into `bytes`; both have the same length. Undoes the first half of `delta`, for whole chunks and for
/// equal ranges of chunk and base alike.
pub fn xor_in_place(bytes: &mut [u8], other: &[u8]) {
    bytes.iter_mut().zip(other).for_each(|(b, o)| *b ^= o);
}
