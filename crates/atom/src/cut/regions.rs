//! Splits a source into regions that are cut independently, so that the same region elsewhere gives the same leaves.

use super::{Leaf, MAX_LEAF_BYTES, opaque};

/// How to cut a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Into one leaf, if it is short enough.
    Whole,
    /// At content-defined positions, but only at multiples of this many bytes from its start: 1 to [`MAX_UNIT_BYTES`].
    Frames(usize),
}

/// The largest unit: cuts are rounded down to it, and the shortest leaf must not become empty.
pub(super) const MAX_UNIT_BYTES: usize = opaque::MIN_BYTES;

/// A part of a source, which begins where the previous one ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// One past its last byte, from the start of the source. An empty region is skipped.
    pub(super) end: u64,
    /// How to cut it.
    pub(super) unit: Unit,
}

/// Cuts a source region by region. What follows the last one is opaque.
#[derive(Clone, Debug)]
pub(super) struct Regions {
    regions: std::vec::IntoIter<Region>,
    current: Option<Region>,
    position: u64,
}

impl Regions {
    /// Takes regions in the order of the source.
    pub(super) fn new(regions: Vec<Region>) -> Regions {
        let mut regions = regions.into_iter();
        Regions {
            current: regions.next(),
            regions,
            position: 0,
        }
    }

    /// Returns the first leaf of `window`, which ends at or before the end of the region.
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

/// Rounds a cut down to whole units, unless it is the end of the region, which may be inside a unit.
fn whole_units(cut: usize, unit: usize, left: u64) -> usize {
    if cut as u64 == left || cut < unit {
        cut
    } else {
        cut - cut % unit
    }
}
