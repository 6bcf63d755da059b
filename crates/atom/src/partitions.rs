//! Distributes the atoms of a store over partitions.
//!
//! The keys of a modality are 32 equal ranges of the curve through x and y, 256 ranges in all. A partition contains 1,
//! 4, 8 or 32 consecutive ranges. A range is two cells of order 3, neighbours on the curve; the ranges of any of these
//! partitions fill a rectangle.

use std::ops::{Range, RangeInclusive};

use crate::hilbert::hilbert_decode;
use crate::key::{RANGES, RANGES_PER_MODALITY, range_bounds};
use crate::{AXIS_BITS, Modality, Point};

/// Order of the curve through the cells; a range has two of them.
const ORDER: u32 = 3;

/// A number of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// Ranges per partition.
    ranges: u32,
}

impl Partitions {
    /// One partition per range.
    pub const FINEST: Partitions = Partitions { ranges: 1 };

    /// The possible numbers of partitions.
    pub const CHOICES: &'static [i32] = &[8, 32, 64, 256];

    /// Returns this number of partitions; `None` if it is not one of the choices.
    pub fn new(count: i32) -> Option<Partitions> {
        Self::CHOICES.contains(&count).then(|| Partitions {
            ranges: RANGES / count as u32,
        })
    }

    /// Returns the partitions with these bounds, each of which ends where the next begins; `None` if no choice has
    /// them.
    pub fn between(bounds: &[i64]) -> Option<Partitions> {
        let partitions = Partitions::new(i32::try_from(bounds.len()).ok()? - 1)?;
        let ends = partitions
            .of(None)
            .map(|number| partitions.bounds(number).1);
        std::iter::once(0)
            .chain(ends)
            .eq(bounds.iter().copied())
            .then_some(partitions)
    }

    /// Returns their number.
    pub fn count(self) -> u32 {
        RANGES / self.ranges
    }

    /// Returns the numbers of those of a modality, or of all.
    pub fn of(self, modality: Option<Modality>) -> Range<u32> {
        match modality {
            None => 0..self.count(),
            Some(modality) => {
                let each = RANGES_PER_MODALITY / self.ranges;
                modality as u32 * each..(modality as u32 + 1) * each
            }
        }
    }

    /// Returns the modality of a partition.
    pub fn modality(self, number: u32) -> Option<Modality> {
        Modality::from_number(i64::from(number * self.ranges / RANGES_PER_MODALITY)).ok()
    }

    /// Returns the codes of a partition: the first, and the first of the next.
    pub fn bounds(self, number: u32) -> (i64, i64) {
        let first = number * self.ranges;
        (
            range_bounds(first).0,
            range_bounds(first + self.ranges - 1).1,
        )
    }

    /// Returns the rectangle that contains the atoms of a partition. It does not depend on the modality.
    pub fn rectangle(self, number: u32) -> Rect {
        let first = number * self.ranges % RANGES_PER_MODALITY * 2;
        // All codes of six bits are on a curve of order 3, so there is no error to return.
        let cells = (first..first + 2 * self.ranges)
            .map(|code| hilbert_decode(code, ORDER as i32).unwrap_or_default());
        let (xs, ys): (Vec<u64>, Vec<u64>) = cells.unzip();
        let span = |cells: &[u64]| {
            let low = cells.iter().copied().min().unwrap_or_default() as u32;
            let high = cells.iter().copied().max().unwrap_or_default() as u32;
            let shift = AXIS_BITS - ORDER;
            low << shift..=((high + 1) << shift) - 1
        };
        Rect {
            x: span(&xs),
            y: span(&ys),
        }
    }
}

/// A rectangle of x and y, in units of the grid of order 28.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rect {
    /// From the smallest to the largest x, inclusive.
    pub x: RangeInclusive<u32>,
    /// From the smallest to the largest y, inclusive.
    pub y: RangeInclusive<u32>,
}

impl Rect {
    /// Returns the smallest squared distance, along x and y, from a point to the rectangle: 0 inside, below 2^57. It
    /// bounds the distance of every atom of a partition, so a search that visits partitions by this distance can stop
    /// at the distance it has found.
    pub fn distance_squared(&self, point: &Point) -> u64 {
        let along = |range: &RangeInclusive<u32>, c: u32| {
            u64::from(c.abs_diff(c.clamp(*range.start(), *range.end()))).pow(2)
        };
        along(&self.x, point.x) + along(&self.y, point.y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::range;

    fn all() -> impl Iterator<Item = Partitions> {
        Partitions::CHOICES
            .iter()
            .map(|&count| Partitions::new(count).unwrap())
    }

    #[test]
    fn partitions_follow_each_other_and_fill_their_rectangles() {
        for partitions in all() {
            let mut next = 0;
            for number in partitions.of(None) {
                let (first, end) = partitions.bounds(number);
                assert_eq!(first, next);
                next = end;
                let modality = partitions.modality(number).unwrap();
                assert!(partitions.of(Some(modality)).contains(&number));
                assert_eq!(modality as u32, range(first).unwrap() / 32);
                let Rect { x, y } = partitions.rectangle(number);
                let sides = [x, y].map(|side| u64::from(side.end() - side.start()) + 1);
                // A curve of order 28 has as many codes as cells.
                assert_eq!((end - first) as u64, sides[0] * sides[1]);
                for code in [first, first + (end - first) / 3, end - 1] {
                    let (x, y) = hilbert_decode(code & ((1 << 56) - 1), 28).unwrap();
                    let point = Point::new([x as i64, y as i64, 0, 0]).unwrap();
                    assert_eq!(partitions.rectangle(number).distance_squared(&point), 0);
                }
            }
            assert_eq!(next, 1 << 59);
        }
    }

    #[test]
    fn bounds_tell_how_many_there_are() {
        for partitions in all() {
            let mut bounds = vec![0];
            bounds.extend(
                partitions
                    .of(None)
                    .map(|number| partitions.bounds(number).1),
            );
            assert_eq!(Partitions::between(&bounds), Some(partitions));
            bounds[1] += 1;
            assert_eq!(Partitions::between(&bounds), None);
        }
        assert_eq!(Partitions::between(&[]), None);
        assert_eq!(Partitions::between(&[0, 1 << 59]), None);
        assert_eq!(Partitions::new(16), None);
    }
}
