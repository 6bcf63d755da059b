//! The ranges of codes that cover a box of cells, for an index over codes to scan.
//!
//! A square of `2^k` cells a side, aligned to its size, is one range of codes. From the whole grid down, such a square
//! is inside the box, outside, or on its edge and then split into four. The squares inside, in the order of the curve,
//! are the result. A square on the edge has a code in the box next to one that is not, so there are at most two of them
//! per range at any level, and at most 62 per range in all.
//!
//! With a maximum of ranges, those with the fewest cells between them are joined. A thin box through a large grid has
//! billions of ranges, far too many to choose from. So once both the maximum is exceeded and [`EDGE_BUDGET`] squares
//! were split, squares are split only down to the finest size that the budget allows, and a smaller square on the edge
//! is taken from its first code in the box to its last. All gaps considered are then true gaps, and only gaps inside
//! one such square are missed; the result is close to the best, but need not be the best.

use super::steps::quadrant;
use super::{checked_coordinate, checked_order};
use crate::{Error, Result};

/// Maximum number of ranges that cover a box.
pub const MAX_RANGES: usize = 1_000_000;

/// Number of edge squares that are split before coarser squares are used to reach a small maximum of ranges; 2 per
/// range for a larger one.
const EDGE_BUDGET: usize = 1 << 14;

/// A box of cells, including both corners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellBox {
    /// Smallest x and y.
    pub min: [i64; 2],
    /// Largest x and y.
    pub max: [i64; 2],
}

/// A range of codes, including both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRange {
    /// The smallest code.
    pub first: u64,
    /// The largest code.
    pub last: u64,
}

/// Returns the ranges of codes, in the plane, of the cells of a box: ascending, with at least one code between two of
/// them.
///
/// They are exactly the codes of these cells if `max_ranges` is `None` or large enough. Otherwise there are at most
/// `max_ranges`, with the fewest other codes that joining ranges allows: they cover every cell of the box, and every
/// range starts and ends in the box. `max_ranges` is 1 to [`MAX_RANGES`]; without it a box with more ranges than that
/// is an error. For a box with too many ranges to choose the best from, such as a row of a large grid, the result is
/// close to the best: squares are split only to a size that keeps the work proportional to `max_ranges`.
pub fn hilbert_ranges(
    cells: CellBox,
    order: i32,
    max_ranges: Option<usize>,
) -> Result<Vec<CodeRange>> {
    let order = checked_order(order, 2)?;
    let window = Window::checked(cells, order)?;
    let Some(most) = max_ranges else {
        let exact = Descent::new(window, 0, MAX_RANGES, 0);
        return exact.run(order).ok_or(Error::TooManyRanges);
    };
    if !(1..=MAX_RANGES).contains(&most) {
        return Err(Error::MaxRanges(most));
    }
    let budget = EDGE_BUDGET.max(2 * most);
    let mut found = Descent::new(window, 0, most, budget).run(order);
    if found.is_none() {
        let coarser = |smallest| Descent::new(window, smallest, 0, budget).run(order);
        found = (0..order).rev().map_while(coarser).last();
    }
    // The coarsest level, which splits the grid once, is always within the budget.
    Ok(join(found.unwrap_or_default(), most))
}

/// A box that lies in the grid.
#[derive(Clone, Copy)]
struct Window {
    min: [u64; 2],
    max: [u64; 2],
}

impl Window {
    fn checked(cells: CellBox, order: u32) -> Result<Window> {
        let mut window = Window {
            min: [0; 2],
            max: [0; 2],
        };
        for axis in 0..2 {
            let (min, max) = (cells.min[axis], cells.max[axis]);
            window.min[axis] = checked_coordinate(min.into(), axis, order)?;
            window.max[axis] = checked_coordinate(max.into(), axis, order)?;
            if min > max {
                return Err(Error::EmptyBox { axis, min, max });
            }
        }
        Ok(window)
    }

    fn meets(&self, square: &Square) -> bool {
        let end = square.side() - 1;
        (0..2).all(|a| square.corner[a] <= self.max[a] && square.corner[a] + end >= self.min[a])
    }

    fn contains(&self, square: &Square) -> bool {
        let end = square.side() - 1;
        (0..2).all(|a| square.corner[a] >= self.min[a] && square.corner[a] + end <= self.max[a])
    }
}

/// A square that the curve traverses in one piece.
#[derive(Clone, Copy)]
struct Square {
    corner: [u64; 2],
    /// Its side has two to the power of this many cells.
    level: u32,
    /// The orientation of the curve in it.
    state: u8,
    /// The smallest code in it.
    first: u64,
}

impl Square {
    fn side(&self) -> u64 {
        1 << self.level
    }

    fn last(&self) -> u64 {
        self.first + ((1 << (2 * self.level)) - 1)
    }

    /// Returns the quarter that the curve visits as the `digit`-th.
    fn quarter(&self, digit: u8) -> Square {
        let (x, y, state) = quadrant(self.state, digit);
        let level = self.level - 1;
        let [left, bottom] = self.corner;
        Square {
            corner: [
                left + (u64::from(x) << level),
                bottom + (u64::from(y) << level),
            ],
            level,
            state,
            first: self.first + (u64::from(digit) << (2 * level)),
        }
    }
}

/// The path from the whole grid to the current square, and the ranges so far.
struct Descent {
    window: Window,
    /// Level of the squares that are not split further.
    smallest: u32,
    /// Stops at more ranges than this, once more than `budget` squares were split.
    most: usize,
    budget: usize,
    cut: usize,
    ranges: Vec<CodeRange>,
}

impl Descent {
    fn new(window: Window, smallest: u32, most: usize, budget: usize) -> Descent {
        Descent {
            window,
            smallest,
            most,
            budget,
            cut: 0,
            ranges: Vec::new(),
        }
    }

    /// Returns the ranges, or `None` if it stopped.
    fn run(mut self, order: u32) -> Option<Vec<CodeRange>> {
        let grid = Square {
            corner: [0; 2],
            level: order,
            state: 0,
            first: 0,
        };
        self.visit(&grid)?;
        Some(self.ranges)
    }

    /// Adds the ranges of a square. Recursion is as deep as the order: at most 31 levels.
    fn visit(&mut self, square: &Square) -> Option<()> {
        if !self.window.meets(square) {
            return Some(());
        }
        if self.window.contains(square) {
            self.push(square.first, square.last());
            return Some(());
        }
        if square.level <= self.smallest {
            self.push(self.outermost(square, false), self.outermost(square, true));
            return Some(());
        }
        self.cut += 1;
        if self.cut > self.budget && self.ranges.len() > self.most {
            return None;
        }
        (0..4).try_for_each(|digit| self.visit(&square.quarter(digit)))
    }

    /// Returns the first or last code in the box of a square that meets it. One quarter of it meets the box as well, so
    /// this never backtracks.
    fn outermost(&self, square: &Square, last: bool) -> u64 {
        let mut square = *square;
        while !self.window.contains(&square) {
            let mut quarters = (0..4).map(|n| square.quarter(if last { 3 - n } else { n }));
            match quarters.find(|quarter| self.window.meets(quarter)) {
                Some(quarter) => square = quarter,
                None => break,
            }
        }
        if last { square.last() } else { square.first }
    }

    fn push(&mut self, first: u64, last: u64) {
        match self.ranges.last_mut() {
            Some(before) if before.last + 1 == first => before.last = last,
            _ => self.ranges.push(CodeRange { first, last }),
        }
    }
}

/// Joins ranges over the smallest gaps until at most this many are left; of equal gaps, later ones are joined first.
fn join(mut ranges: Vec<CodeRange>, most: usize) -> Vec<CodeRange> {
    if ranges.len() <= most {
        return ranges;
    }
    let gap = |&place: &usize| ranges[place].first - ranges[place - 1].last;
    let mut starts: Vec<usize> = (1..ranges.len()).collect();
    if most > 1 {
        starts
            .select_nth_unstable_by_key(most - 2, |place| (std::cmp::Reverse(gap(place)), *place));
    }
    starts.truncate(most - 1);
    starts.sort_unstable();
    starts.push(ranges.len());
    let mut start = 0;
    for (joined, &end) in starts.iter().enumerate() {
        ranges[joined] = CodeRange {
            first: ranges[start].first,
            last: ranges[end - 1].last,
        };
        start = end;
    }
    ranges.truncate(most);
    ranges
}
