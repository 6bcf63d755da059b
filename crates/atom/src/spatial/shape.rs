//! A region of space, and whether it meets or contains a cell.
//!
//! Both are sums over the axes: the squares of the distances, along each, from the centre of a ball to the nearest and
//! to the farthest point of the cell. A box is treated the same by making everything outside it along an axis very far.
//! The parts of a cell have only two extents along each axis, so the sums of all sixteen come from eight pairs of
//! squares.

use std::ops::RangeInclusive;

use crate::{AXIS_BITS, Point};

/// The distance of what is outside along an axis: farther than any two points, and four of them do not overflow.
const OUTSIDE: u64 = 1 << 60;

/// The region of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// All points from the smallest to the largest coordinates, inclusive. Empty if the largest are below the smallest.
    Box {
        /// The smallest coordinates.
        min: Point,
        /// The largest coordinates.
        max: Point,
    },
    /// All points at this squared distance or less.
    Ball {
        /// The centre.
        center: Point,
        /// Square of the radius, in units of the grid of order 28. From 2^58 on, the ball contains everything.
        radius_squared: u64,
    },
}

/// A region, within limits along each axis.
pub(super) struct Shape {
    min: [u32; 4],
    max: [u32; 4],
    center: Option<[u32; 4]>,
    radius_squared: u64,
    /// Whether the limits exclude anything.
    limited: bool,
}

/// The distances of the parts of a cell, by their bits of the coordinates: to the nearest point, at most
/// [`Shape::radius_squared`] if they meet the shape, and to the farthest, if they are inside it.
pub(super) struct Parts {
    near: Sums,
    far: Sums,
}

impl Shape {
    /// Restricts a region to ranges of x and y.
    pub(super) fn new(region: &Region, x: RangeInclusive<u32>, y: RangeInclusive<u32>) -> Shape {
        let (mut min, mut max) = ([0; 4], [u32::MAX; 4]);
        let (mut center, mut radius) = (None, 0);
        match region {
            Region::Box { min: a, max: b } => (min, max) = (a.coordinates(), b.coordinates()),
            Region::Ball {
                center: point,
                radius_squared,
            } => {
                center = Some(point.coordinates().map(|c| c.min((1 << AXIS_BITS) - 1)));
                radius = *radius_squared;
            }
        }
        for (axis, range) in [x, y].into_iter().enumerate() {
            min[axis] = min[axis].max(*range.start());
            max[axis] = max[axis].min(*range.end());
        }
        Shape {
            min,
            max,
            center,
            radius_squared: radius.min(OUTSIDE - 1),
            limited: (0..4).any(|axis| min[axis] > 0 || max[axis] < (1 << AXIS_BITS) - 1),
        }
    }

    /// Returns whether the shape is empty because its limits contradict each other.
    pub(super) fn is_empty(&self) -> bool {
        (0..4).any(|axis| self.min[axis] > self.max[axis])
    }

    /// Computes the distances of the sixteen parts of a cell: their smallest coordinates are those of the cell, or
    /// `half` more.
    #[inline(always)]
    pub(super) fn parts(&self, corner: &[u32; 4], half: u32) -> Parts {
        let (mut near, mut far) = ([[0; 2]; 4], [[0; 2]; 4]);
        for axis in 0..4 {
            let low = corner[axis];
            for (upper, low) in [low, low + half].into_iter().enumerate() {
                (near[axis][upper], far[axis][upper]) = self.along(axis, low, low + (half - 1));
            }
        }
        Parts {
            near: Sums::new(near),
            far: Sums::new(far),
        }
    }

    /// Returns whether something at this squared distance is in reach.
    #[inline(always)]
    pub(super) fn reaches(&self, distance_squared: u64) -> bool {
        distance_squared <= self.radius_squared
    }

    /// Returns the squares of the distances along an axis to the nearest and to the farthest from `low` to `high`.
    #[inline(always)]
    fn along(&self, axis: usize, low: u32, high: u32) -> (u64, u64) {
        let (min, max) = (self.min[axis], self.max[axis]);
        if let (Some(center), false) = (self.center, self.limited) {
            let c = center[axis];
            let (a, b) = (
                i64::from(low) - i64::from(c),
                i64::from(c) - i64::from(high),
            );
            let (near, far) = (a.max(b).max(0) as u64, (-a.min(b)) as u64);
            return (near * near, far * far);
        }
        // Of the part within the limits, if it is not empty.
        let (from, to) = (low.max(min), high.min(max));
        let (mut near, mut far) = (0, 0);
        if let Some(center) = self.center {
            let c = center[axis];
            near = u64::from(from.saturating_sub(c).max(c.saturating_sub(to))).pow(2);
            far = u64::from(c.abs_diff(low).max(c.abs_diff(high))).pow(2);
        }
        (
            if from > to { OUTSIDE } else { near },
            if from > low || to < high {
                OUTSIDE
            } else {
                far
            },
        )
    }
}

impl Parts {
    /// Returns the squared distance to the nearest point of a part.
    #[inline(always)]
    pub(super) fn near(&self, bits: u16) -> u64 {
        self.near.of(bits)
    }

    /// Returns the squared distance to the farthest point of a part.
    #[inline(always)]
    pub(super) fn far(&self, bits: u16) -> u64 {
        self.far.of(bits)
    }
}

/// Sums over the axes, one of two numbers for each: those over x and y, and those over z and m.
struct Sums([[u64; 4]; 2]);

impl Sums {
    #[inline(always)]
    fn new(axes: [[u64; 2]; 4]) -> Sums {
        let pair = |a: [u64; 2], b: [u64; 2]| [a[0] + b[0], a[0] + b[1], a[1] + b[0], a[1] + b[1]];
        Sums([pair(axes[0], axes[1]), pair(axes[2], axes[3])])
    }

    #[inline(always)]
    fn of(&self, bits: u16) -> u64 {
        self.0[0][usize::from(bits >> 2 & 3)] + self.0[1][usize::from(bits & 3)]
    }
}
