//! Splits a source into leaves, the smallest atoms.
//!
//! The position of a cut depends only on the bytes around it, so an edit changes the leaves near it and no others. The
//! [`Modality`] determines how the bytes are read: text is split after lines, recordings and pictures at whole frames
//! and pixels, tensors one by one. Unknown formats are split as opaque bytes.
//!
//! ```
//! use modelstore_atom::{Modality, cut::Cutter};
//! let mut rest = &b"first line\nsecond line\n"[..];
//! let mut cutter = Cutter::new(Modality::Text, rest, rest.len() as u64);
//! let mut leaves = Vec::new();
//! while !rest.is_empty() {
//!     let (leaf, after) = rest.split_at(cutter.next(rest).len);
//!     leaves.push(leaf);
//!     rest = after;
//! }
//! assert_eq!(leaves, [b"first line\nsecond line\n"]);
//! ```

mod frames;
mod opaque;
mod regions;
mod safetensors;
mod text;

use crate::Modality;
use regions::Regions;
use text::Lines;

pub use text::count_line_ends;

/// The most bytes a cutter reads to find the end of a leaf.
pub const LOOKAHEAD: usize = 64 << 10;
/// The most bytes of a leaf.
pub const MAX_LEAF_BYTES: usize = LOOKAHEAD;
/// The most bytes of a leaf that is stored in its row.
pub const MAX_INLINE_BYTES: usize = 64;
/// Number of first bytes of a source that identify its format.
pub const HEAD_BYTES: usize = 1 << 20;

/// The first leaf of the rest of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its bytes, 1 to [`MAX_LEAF_BYTES`].
    pub len: usize,
    /// Whether a larger unit ends with it: a header, a tensor.
    pub ends_group: bool,
}

/// Splits one source, from its start to its end.
#[derive(Clone, Debug)]
pub struct Cutter(Way);

#[derive(Clone, Debug)]
enum Way {
    Lines(Lines),
    Regions(Regions),
}

impl Cutter {
    /// Creates a cutter for a source of `total` bytes, whose first [`HEAD_BYTES`] bytes, or all, are `head`. A source
    /// that does not match its modality is not an error: it is split as opaque bytes.
    pub fn new(modality: Modality, head: &[u8], total: u64) -> Cutter {
        // Extra bytes in `head` must not change the cuts.
        let head = &head[..head.len().min(HEAD_BYTES)];
        let regions = match modality {
            Modality::Text | Modality::Code => return Cutter(Way::Lines(Lines::new(false))),
            Modality::Structured => return Cutter(Way::Lines(Lines::new(true))),
            Modality::Audio => frames::wave(head, total),
            Modality::Image => frames::netpbm(head, total),
            Modality::Tensor => safetensors::regions(head, total),
            Modality::Video | Modality::Other => None,
        };
        Cutter(Way::Regions(Regions::new(regions.unwrap_or_default())))
    }

    /// Returns the first leaf of `rest`, which has at least [`LOOKAHEAD`] bytes or the whole rest of the source, and is
    /// not empty. The next call must pass what follows the leaf.
    pub fn next(&mut self, rest: &[u8]) -> Leaf {
        let window = &rest[..rest.len().min(LOOKAHEAD)];
        match &mut self.0 {
            Way::Lines(lines) => lines.next(window),
            Way::Regions(regions) => regions.next(window),
        }
    }
}
