//! The ranges of codes that cover a box of cells, for an index over codes to scan.
//!
//! A square of `2^k` cells a side that the curve goes through in one piece is a range of codes. From the whole grid
//! down, such a square is either inside the box, outside, or on its edge and cut into four. What is inside, in the
//! order of the curve, is the answer. A square on the edge has a code in the box beside one that is not, so at any
//! level there are at most two of them for each range, and at most 62 for each range in all.
//!
//! With a maximum of ranges, those with the fewest cells between them are joined. A thin box through a large grid
//! has billions of ranges, far too many to choose from. So when both the maximum is exceeded and [`EDGE_BUDGET`]
//! squares were cut, squares are cut only down to the finest size for which the budget lasts, and a smaller square on
//! the edge is taken from its first code in the box to its last. The gaps to choose from are then all true gaps, and
//! only gaps inside one such square are missed; the result is close to the best but need not be it.

use super::steps::quadrant;
use super::{checked_coordinate, checked_order};
use crate::{Error, Result};

/// The most ranges that one box is covered with.
pub const MAX_RANGES: usize = 1_000_000;

/// How many squares on the edge are cut before a maximum of ranges is reached by coarser squares, if the maximum is
/// small; 2 for each range otherwise.
const EDGE_BUDGET: usize = 1 << 14;

/// A box of cells, both corners in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellBox {
    /// Smallest x and y.
    pub min: [i64; 2],
    /// Largest x and y.
    pub max: [i64; 2],
}

/// A range of codes, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRange {
    /// The smallest code.
    pub first: u64,
    /// The largest code.
    pub last: u64,
}

/// The ranges of codes, in the plane, of the cells of a box: ascending, with at least one code between two of them.
///
/// They are exactly the codes of these cells if `max_ranges` is `None` or large enough. Otherwise there are at most
/// `max_ranges`, and the fewest other codes in them that joining ranges allows: no cell of the box is ever missed, and
/// every range starts and ends in the box. `max_ranges` is 1 to [`MAX_RANGES`]; without it a box with more ranges than
/// that is an error. A box with too many ranges to choose the best from, as a row through a large grid has, gets
/// ranges close to the best: squares are looked at down to a size that keeps the work in proportion to `max_ranges`.
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
    // The coarsest, which cuts the grid once, always stays within the budget.
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

/// A square that the curve goes through in one piece.
#[derive(Clone, Copy)]
struct Square {
    corner: [u64; 2],
    /// Its side has two to the power of this many cells.
    level: u32,
    /// How the curve lies in it.
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

    /// The quarter that the curve goes through as the `digit`-th.
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

/// The way down from the whole grid, and what was found so far.
struct Descent {
    window: Window,
    /// Level of the squares that are not cut again.
    smallest: u32,
    /// Gives up with more ranges than this, once more than `budget` squares were cut.
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

    /// The ranges, or `None` when it gave up.
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

    /// The first or last code in the box of a square that meets it. One quarter of it meets the box as well, so there
    /// is no way back up.
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

/// Joins ranges over the smallest gaps until there are at most so many; of equal gaps the later ones go.
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
