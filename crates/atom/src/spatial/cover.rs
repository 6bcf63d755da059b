//! The ranges of places that cover a region, for an index over places to scan.
//!
//! A cell of level `n`, one of the 16^n that result from halving each axis `n` times, is a range of places. From the
//! whole space down, a cell is inside the region, outside, or on its edge and then split into sixteen. In four
//! dimensions the edge of a region has up to eight times as many cells on the next level, so only covers of small
//! regions are exact; the aim is to scan little in vain, with a given number of ranges and amount of work.
//!
//! All cells of a level are split before those of the next. On the level with too many cells, those that are mostly
//! outside are split first, as they leave the widest gaps; that is the last level, except for the ends of ranges. Of
//! the ranges found then, those with the fewest places between them are joined. Finally the ends are tightened, from
//! the cell there to its first or last small cell on the edge.

use std::cmp::Reverse;
use std::ops::RangeInclusive;

use super::place::{PLACE_ORDER, parts};
use super::shape::{Region, Shape};
use crate::AXIS_BITS;

/// Minimum number of cells of one level that are split; one per requested range if that is more. Four per range find
/// ranges with one percent fewer places, in twice the time. No level has more than sixteen cells that meet a region
/// smaller than they are, so a small region is split down to the last level.
const CUTS: usize = 16;
/// Number of further levels on which the ends of a range are tightened.
const TRIM_LEVELS: u32 = 1;

/// A range of places, including both ends: 0 to 2^60 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceRange {
    /// The smallest place.
    pub first: i64,
    /// The largest place.
    pub last: i64,
}

/// Returns at most this many ranges of places that contain the places of all points of a region: ascending, with at
/// least one place between two of them. None for a box without points; `max_ranges` of 0 counts as 1.
///
/// More ranges contain fewer points outside the region and take longer: the work is proportional to `max_ranges`. With
/// enough of them the ranges are exactly the places with a point of the region.
pub fn cover(region: &Region, max_ranges: usize) -> Vec<PlaceRange> {
    cover_within(region, 0..=u32::MAX, 0..=u32::MAX, max_ranges)
}

/// Returns the [`cover`] of the part of a region with x and y in these ranges, such as those of a
/// [partition](crate::Partitions::rectangle).
pub fn cover_within(
    region: &Region,
    x: RangeInclusive<u32>,
    y: RangeInclusive<u32>,
    max_ranges: usize,
) -> Vec<PlaceRange> {
    let shape = Shape::new(region, x, y);
    if shape.is_empty() {
        return Vec::new();
    }
    let max_ranges = max_ranges.max(1);
    let cells = descend(&shape, max_ranges.max(CUTS));
    let mut runs = runs(&cells);
    join(&mut runs, max_ranges);
    let ends = runs.iter().map(|run| PlaceRange {
        first: cells[run.head].outermost(&shape, false) as i64,
        last: cells[run.tail].outermost(&shape, true) as i64,
    });
    ends.collect()
}

/// A cell that meets the shape, or several consecutive ones inside it.
#[derive(Clone, Copy)]
struct Cell {
    /// Its first and last place.
    first: u64,
    last: u64,
    /// Its smallest coordinates.
    corner: [u32; 4],
    /// The orientation of the curve in it.
    state: u16,
    /// Levels below it, 0 to [`PLACE_ORDER`].
    below: u32,
    /// 0 inside the shape; on its edge the greater, the more of the cell is outside.
    outside: u64,
}

impl Cell {
    const SPACE: Cell = Cell {
        first: 0,
        last: (1 << (4 * PLACE_ORDER)) - 1,
        corner: [0; 4],
        state: 0,
        below: PLACE_ORDER,
        outside: 1,
    };

    /// Passes those of its parts that meet the shape to `found`, in the order of the curve or in reverse, until that
    /// returns true.
    #[inline(always)]
    fn cut(&self, shape: &Shape, backwards: bool, mut found: impl FnMut(Cell) -> bool) {
        let below = self.below - 1;
        let half = 1 << (AXIS_BITS - PLACE_ORDER + below);
        let distances = shape.parts(&self.corner, half);
        let parts = parts(self.state);
        // Which parts meet it is hard to predict, so they are listed without a branch.
        let (mut met, mut count) = ([0; 16], 0);
        for step in 0..16 {
            let digit = if backwards { 15 - step } else { step };
            met[count & 15] = digit;
            count += usize::from(shape.reaches(distances.near(parts[digit])));
        }
        for &digit in met.iter().take(count) {
            let entry = parts[digit & 15];
            let (bits, state) = (entry & 15, entry & !15);
            let first = self.first + ((digit as u64) << (4 * below));
            let mut corner = self.corner;
            for (axis, low) in corner.iter_mut().enumerate() {
                *low += u32::from(bits >> (3 - axis) & 1) * half;
            }
            let (near, far) = (distances.near(bits), distances.far(bits));
            let stop = found(Cell {
                first,
                last: first + ((1 << (4 * below)) - 1),
                corner,
                state,
                below,
                outside: if shape.reaches(far) { 0 } else { near + far },
            });
            if stop {
                return;
            }
        }
    }

    /// Returns the first or the last place of a cell, without what is outside the shape some levels further down.
    fn outermost(&self, shape: &Shape, last: bool) -> u64 {
        let mut cell = *self;
        for _ in 0..TRIM_LEVELS.min(self.below) {
            if cell.outside == 0 {
                break;
            }
            let whole = cell;
            whole.cut(shape, last, |part| {
                cell = part;
                true
            });
        }
        if last { cell.last } else { cell.first }
    }
}

/// Returns the cells of the cover in the order of the curve, splitting at most this many of one level.
fn descend(shape: &Shape, budget: usize) -> Vec<Cell> {
    // A cell on the edge has three or four parts that meet the shape.
    let room = 4 * budget.min(1024);
    let (mut cells, mut next) = (Vec::with_capacity(room), Vec::with_capacity(room));
    cells.push(Cell::SPACE);
    let mut scores = Vec::new();
    for below in (1..=PLACE_ORDER).rev() {
        scores.clear();
        let on_edge = cells.iter().filter(|cell| cell.is_cut(below, 0));
        scores.extend(on_edge.map(|cell| cell.outside));
        if scores.is_empty() {
            break;
        }
        let is_last = scores.len() > budget;
        let mut least = 0;
        if is_last {
            let place = scores.len() - budget;
            least = *scores.select_nth_unstable(place).1;
        }
        let mut left = budget;
        next.clear();
        for cell in &cells {
            if left > 0 && cell.is_cut(below, least) {
                left -= 1;
                cell.cut(shape, false, |part| {
                    push(&mut next, part);
                    false
                });
            } else {
                push(&mut next, *cell);
            }
        }
        std::mem::swap(&mut cells, &mut next);
        if is_last {
            break;
        }
    }
    cells
}

impl Cell {
    fn is_cut(&self, below: u32, least: u64) -> bool {
        self.below == below && self.outside > 0 && self.outside >= least
    }
}

/// Appends a cell; merges it into the last one if both are inside and consecutive.
#[inline(always)]
fn push(cells: &mut Vec<Cell>, cell: Cell) {
    match cells.last_mut() {
        Some(before) if before.outside | cell.outside == 0 && before.last + 1 == cell.first => {
            before.last = cell.last;
        }
        _ => cells.push(cell),
    }
}

/// A run of cells without a gap.
#[derive(Clone, Copy)]
struct Run {
    head: usize,
    tail: usize,
    first: u64,
    last: u64,
}

fn runs(cells: &[Cell]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (place, cell) in cells.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.last + 1 == cell.first => {
                (run.tail, run.last) = (place, cell.last);
            }
            _ => runs.push(Run {
                head: place,
                tail: place,
                first: cell.first,
                last: cell.last,
            }),
        }
    }
    runs
}

/// Joins runs over the smallest gaps until at most this many are left; of equal gaps, later ones are joined first.
fn join(runs: &mut Vec<Run>, most: usize) {
    if runs.len() <= most {
        return;
    }
    let gap = |&place: &usize| runs[place].first - runs[place - 1].last;
    let mut starts: Vec<usize> = (1..runs.len()).collect();
    if most > 1 {
        starts.select_nth_unstable_by_key(most - 2, |place| (Reverse(gap(place)), *place));
    }
    starts.truncate(most - 1);
    starts.sort_unstable();
    starts.push(runs.len());
    let mut start = 0;
    for (joined, &end) in starts.iter().enumerate() {
        let (from, to) = (runs[start], runs[end - 1]);
        runs[joined] = Run {
            tail: to.tail,
            last: to.last,
            ..from
        };
        start = end;
    }
    runs.truncate(most);
}
