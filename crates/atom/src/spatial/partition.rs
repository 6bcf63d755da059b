//! Where the partitions lie: the atoms of a modality are dealt to thirty-two of them by the curve of x and y.
//!
//! Each partition is two cells of order 3 that follow one another on the curve. Those are neighbours, so a partition is
//! a rectangle, two cells by one.

use std::ops::RangeInclusive;

use crate::hilbert::hilbert_decode;
use crate::key::RANGES_PER_MODALITY;
use crate::{AXIS_BITS, Point};

/// Order of the curve through the cells a partition has two of.
const ORDER: u32 = 3;

/// A rectangle of x and y, in units of the grid of order 28.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rect {
    /// From the smallest to the largest x, both in it.
    pub x: RangeInclusive<u32>,
    /// From the smallest to the largest y, both in it.
    pub y: RangeInclusive<u32>,
}

impl Rect {
    /// The smallest squared distance, along x and y, from a point to the rectangle: 0 inside, below 2^57.
    pub fn distance_squared(&self, point: &Point) -> u64 {
        let along = |range: &RangeInclusive<u32>, c: u32| {
            u64::from(c.abs_diff(c.clamp(*range.start(), *range.end()))).pow(2)
        };
        along(&self.x, point.x) + along(&self.y, point.y)
    }
}

/// The rectangle that a partition's atoms lie in. The modality, in the upper bits of the partition, makes no difference.
pub fn partition_rectangle(partition: u8) -> Rect {
    let code = i64::from(partition) % i64::from(RANGES_PER_MODALITY) * 2;
    // All codes of six bits are on a curve of order 3, so there is no error to hand on.
    let cell = |code: i64| hilbert_decode(code, ORDER as i32).unwrap_or_default();
    let ((x, y), (next_x, next_y)) = (cell(code), cell(code + 1));
    let range = |a: u64, b: u64| {
        let (low, high) = (a.min(b) as u32, a.max(b) as u32);
        let shift = AXIS_BITS - ORDER;
        low << shift..=((high + 1) << shift) - 1
    };
    Rect {
        x: range(x, next_x),
        y: range(y, next_y),
    }
}

/// The smallest squared distance, along x and y, from a point to where a partition's atoms lie: 0 inside. No atom of
/// the partition is nearer, so a search that takes partitions by it can stop at the distance it has found.
pub fn partition_distance_squared(partition: u8, point: &Point) -> u64 {
    partition_rectangle(partition).distance_squared(point)
}
