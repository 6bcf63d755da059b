//! A source as regions that are cut each on its own, so that the same region elsewhere gives the same leaves.

use super::{Leaf, MAX_LEAF_BYTES, opaque};

/// How a region is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Into one leaf, if it is short enough.
    Whole,
    /// Where the bytes say so, but only at multiples of so many bytes from its start: 1 to [`MAX_UNIT_BYTES`].
    Frames(usize),
}

/// The largest unit: cuts are rounded down to it, and something must be left of the shortest leaf.
pub(super) const MAX_UNIT_BYTES: usize = opaque::MIN_BYTES;

/// A part of a source, which begins where the one before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// One past its last byte, from the start of the source. A region that is empty is passed over.
    pub(super) end: u64,
    /// How it is cut.
    pub(super) unit: Unit,
}

/// Cuts a source region by region. What follows the last one has no meaning.
#[derive(Clone, Debug)]
pub(super) struct Regions {
    regions: std::vec::IntoIter<Region>,
    current: Option<Region>,
    position: u64,
}

impl Regions {
    /// From regions in the order of the source.
    pub(super) fn new(regions: Vec<Region>) -> Regions {
        let mut regions = regions.into_iter();
        Regions {
            current: regions.next(),
            regions,
            position: 0,
        }
    }

    /// The leaf at the start of `window`, which ends no later than the region.
    pub(super) fn next(&mut self, window: &[u8]) -> Leaf {
        while self.current.is_some_and(|r| r.end <= self.position) {
            self.current = self.regions.next();
        }
        let Some(region) = self.current else {
            return self.advance(opaque::cut(window), false);
        };
        let left = region.end - self.position;
        let limit = usize::try_from(left).map_or(window.len(), |left| left.min(window.len()));
        let len = match region.unit {
            Unit::Whole if left <= MAX_LEAF_BYTES as u64 => limit,
            Unit::Whole => opaque::cut(&window[..limit]),
            Unit::Frames(unit) => whole_units(opaque::cut(&window[..limit]), unit, left),
        };
        self.advance(len, len as u64 == left)
    }

    fn advance(&mut self, len: usize, ends_group: bool) -> Leaf {
        self.position += len as u64;
        Leaf { len, ends_group }
    }
}

/// A cut rounded down to whole units, unless it is the end of the region: that may be in the middle of a unit.
fn whole_units(cut: usize, unit: usize, left: u64) -> usize {
    if cut as u64 == left || cut < unit {
        cut
    } else {
        cut - cut % unit
    }
}
