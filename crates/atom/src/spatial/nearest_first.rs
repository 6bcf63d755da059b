//! A search that reads cells of the curve of places in the order of their distance.
//!
//! A ball around a point far from the data has its edge in the data, and the ranges that cover it contain far more than
//! it. Here a cell is read only until it turns out to hold many atoms; then its sixteen parts take its place in the queue.
//! So the search ends up with small cells at the nearest atoms, and what is empty takes one look, whatever its size.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::PlaceRange;
use super::place::{PLACE_ORDER, parts};
use super::search::{Best, Places};
use crate::partitions::Rect;
use crate::{AXIS_BITS, Point};

/// Minimum number of atoms that are read of a cell before it is split.
const SPLIT_AT: usize = 64;

/// A cell of the curve, ordered by distance.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    /// Square of the distance from the point to the part of it that is in the partition.
    distance_squared: u64,
    /// Its first place.
    first: u64,
    /// Levels below it, 0 to [`PLACE_ORDER`].
    below: u32,
    /// Its smallest coordinates.
    corner: [u32; 4],
    /// The orientation of the curve in it.
    state: u16,
}

impl Cell {
    const SPACE: Cell = Cell {
        distance_squared: 0,
        first: 0,
        below: PLACE_ORDER,
        corner: [0; 4],
        state: 0,
    };

    fn range(&self) -> PlaceRange {
        PlaceRange {
            first: self.first as i64,
            last: (self.first + ((1 << (4 * self.below)) - 1)) as i64,
        }
    }

    /// Returns its sixteen parts, without those outside of the rectangle.
    fn parts(&self, point: &Point, area: &Rect) -> impl Iterator<Item = Cell> {
        let below = self.below - 1;
        let side = 1u32 << (AXIS_BITS - PLACE_ORDER + below);
        let (first, corner, state) = (self.first, self.corner, self.state);
        (0u64..)
            .zip(parts(state))
            .filter_map(move |(digit, entry)| {
                let mut corner = corner;
                for (axis, low) in corner.iter_mut().enumerate() {
                    *low += u32::from(entry >> (3 - axis) & 1) * side;
                }
                Some(Cell {
                    distance_squared: distance_squared(point, corner, side, area)?,
                    first: first + (digit << (4 * below)),
                    below,
                    corner,
                    state: entry & !15,
                })
            })
    }
}

/// Returns the square of the distance from a point to a cell, without what is outside of the rectangle.
fn distance_squared(point: &Point, corner: [u32; 4], side: u32, area: &Rect) -> Option<u64> {
    let mut sum = 0;
    for (axis, (c, low)) in point.coordinates().into_iter().zip(corner).enumerate() {
        let (mut low, mut high) = (low, low + (side - 1));
        if let Some(limits) = [&area.x, &area.y].get(axis) {
            low = low.max(*limits.start());
            high = high.min(*limits.end());
        }
        if low > high {
            return None;
        }
        sum += u64::from(c.abs_diff(c.clamp(low, high))).pow(2);
    }
    Some(sum)
}

/// Adds the atoms of a partition that belong to the nearest.
pub(super) fn search<P: Places>(
    places: &mut P,
    partition: u32,
    area: &Rect,
    best: &mut Best,
) -> Result<(), P::Error> {
    let point = best.point;
    let split_at = SPLIT_AT.max(2 * best.k);
    let mut cells = BinaryHeap::new();
    cells.extend(Cell::SPACE.parts(&point, area).map(Reverse));
    while let Some(Reverse(cell)) = cells.pop() {
        if cell.distance_squared > best.reach {
            break;
        }
        let limit = match cell.below {
            0 => usize::MAX,
            _ => split_at,
        };
        let is_whole = places.in_ranges(partition, &[cell.range()], limit, &mut |key| {
            Ok(best.add(key)?)
        })?;
        if !is_whole {
            let near = |cell: &Cell| cell.distance_squared <= best.reach;
            cells.extend(cell.parts(&point, area).filter(near).map(Reverse));
        }
        places.check()?;
    }
    Ok(())
}
