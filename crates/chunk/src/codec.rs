//! Lossless encodings of a chunk, and the meaning of their index entries.
//!
//! `planes` and `delta` split the raw bytes into blocks that decode independently. In each block, the elements' bytes
//! are sorted into planes: plane 0 contains the lowest byte of every element, the last plane the highest.
//! Floating-point elements are first rotated left by one bit, which moves the whole exponent into the highest plane,
//! the one that compresses in trained weights. The index has one u32 (little-endian) per block and plane, in that
//! order: the plane's stored length shifted left by 2, or'ed with its kind (0 raw, 1 a zstd frame, 2 one repeated
//! byte). The planes follow in the order of the index, without gaps.
//!
//! If few elements of a block of a delta have changed, only those are stored: its first entry is of kind 3 with the
//! length of the whole block, its other entries are zero, and `codec/sparse.rs` describes the content. Space and time
//! depend on the changes only, so such blocks are larger.

mod decoder;
mod encoder;
mod estimate;
mod planes;
mod rice;
mod shuffle;
mod sparse;

use crate::{Error, Result};

pub use decoder::Decoder;
pub use encoder::{Against, Encoder};

/// How the payload of a chunk is encoded. The discriminant is the code stored on disk.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// The raw bytes.
    Raw = 0,
    /// One repeated element.
    Constant = 1,
    /// Byte planes, each stored in the cheapest way.
    Planes = 2,
    /// XOR with a base chunk, then planes, of all elements or of the changed ones.
    Delta = 3,
}

impl Codec {
    /// Every codec, in the order of the codes.
    pub const ALL: &'static [Codec] = &[Codec::Raw, Codec::Constant, Codec::Planes, Codec::Delta];

    /// Returns the codec of a stored code.
    pub fn from_code(code: u8) -> Result<Codec> {
        Codec::ALL
            .get(usize::from(code))
            .copied()
            .ok_or(Error::Codec(code))
    }

    /// Returns the stored code.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the name shown in SQL.
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
    /// Uncompressed.
    Raw,
    /// A zstd frame.
    Zstd,
    /// One repeated byte.
    Constant,
    /// Not a plane, but the changed elements of a whole block. Used for plane 0; the others have no bytes.
    Sparse,
}

/// One entry of the block index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaneEntry {
    pub kind: PlaneKind,
    pub len: usize,
}

impl PlaneEntry {
    /// The zero entry: no bytes.
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

    /// Parses an entry for a plane of `plane_len` bytes; `None` if no encoder writes it.
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

    /// Parses the entry of a sparse block of `block_len` raw bytes; `None` if it is of another kind or no encoder
    /// writes it.
    pub fn sparse_from_u32(entry: u32, block_len: usize) -> Option<PlaneEntry> {
        let len = (entry >> 2) as usize;
        (entry & 3 == 3 && len > 0 && len < block_len).then_some(PlaneEntry {
            kind: PlaneKind::Sparse,
            len,
        })
    }
}

/// XORs `other` into `bytes`; both have the same length. Undoes `delta` after its planes are decoded, for whole chunks
/// and for equal ranges of chunk and base.
pub fn xor_in_place(bytes: &mut [u8], other: &[u8]) {
    bytes.iter_mut().zip(other).for_each(|(b, o)| *b ^= o);
}
