//! Where a source is cut into leaves, the smallest atoms.
//!
//! Where a cut falls is said by the bytes around it alone, so that an edit changes the leaves near it and no others. What
//! the bytes are is said by the [`Modality`]: text is cut into lines, recordings and pictures at whole frames and pixels,
//! tensors one by one. What is not in a known format is cut as bytes without a meaning.
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
//! assert_eq!(leaves, [&b"first line\n"[..], b"second line\n"]);
//! ```

mod frames;
mod opaque;
mod regions;
mod safetensors;
mod text;

use crate::Modality;
use regions::Regions;
use text::Lines;

/// The most bytes a cutter looks at to find the end of a leaf.
pub const LOOKAHEAD: usize = 64 << 10;
/// The most bytes of a leaf.
pub const MAX_LEAF_BYTES: usize = LOOKAHEAD;
/// The most bytes of a leaf that is kept in its row. Leaves of text are no longer than this.
pub const MAX_INLINE_BYTES: usize = 64;
/// The first bytes of a source, in which its format is looked for.
pub const HEAD_BYTES: usize = 1 << 20;

/// The leaf at the start of what is left of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its bytes, 1 to [`MAX_LEAF_BYTES`].
    pub len: usize,
    /// Whether something larger ends with it: a paragraph, a header, a tensor.
    pub ends_group: bool,
}

/// Cuts one source, from its start to its end.
#[derive(Clone, Debug)]
pub struct Cutter(Way);

#[derive(Clone, Debug)]
enum Way {
    Lines(Lines),
    Regions(Regions),
}

impl Cutter {
    /// A cutter for a source of `total` bytes, of which `head` is the first [`HEAD_BYTES`], or all if there are fewer.
    /// A source that is not what its modality promises is no error: it is cut as bytes without a meaning.
    pub fn new(modality: Modality, head: &[u8], total: u64) -> Cutter {
        // More than is promised must not change the cuts.
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

    /// The leaf that begins at the start of `rest`, which holds at least [`LOOKAHEAD`] bytes or all that is left of the
    /// source, and is not empty. The next call is for what follows the leaf.
    pub fn next(&mut self, rest: &[u8]) -> Leaf {
        let window = &rest[..rest.len().min(LOOKAHEAD)];
        match &mut self.0 {
            Way::Lines(lines) => lines.next(window),
            Way::Regions(regions) => regions.next(window),
        }
    }
}
