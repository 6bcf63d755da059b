//! Hilbert curves: a code for each cell of a grid, such that consecutive codes are neighbours.
//!
//! A curve of order `n` runs through the `2^n` cells along each axis of a grid. Coordinates are 0 to `2^n - 1`, codes
//! 0 to `2^(axes * n) - 1`; a code has at most [`MAX_BITS`] bits, so that SQL's `bigint` holds it.
//!
//! # Orientation
//!
//! The same as in the crate `hilbert_curve`: the curve starts at (0, 0) and ends at (2^n - 1, 0), so it proceeds along
//! x. At order 1, with x to the right and y upwards:
//!
//! ```text
//! (0,0) -> 0   (0,1) -> 1   (1,1) -> 2   (1,0) -> 3        1 2
//!                                                          0 3
//! ```
//!
//! A finer order puts this shape into each quadrant, transposed in the first and transposed the other way in the last.
//! So the first step is along y at odd orders and along x at even ones.
//!
//! The n-dimensional curve is that of J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707
//! (2004), in the version of the Python package `hilbertcurve`. For two axes it equals the curve above:
//! `hilbert_encode_nd(&[x, y], n)` equals `hilbert_encode(x, y, n)`.

mod arrays;
mod axes;
mod plane;
mod ranges;
mod steps;

use crate::{Error, Result};

pub use arrays::{hilbert_decode_many, hilbert_encode_many};
pub use axes::{hilbert_decode_nd, hilbert_encode_nd};
pub use plane::{hilbert_decode, hilbert_encode};
pub use ranges::{CellBox, CodeRange, MAX_RANGES, hilbert_ranges};

/// Maximum number of axes of a curve.
pub const MAX_AXES: usize = 8;

/// Maximum number of bits of a code: `bigint` is signed.
pub const MAX_BITS: u32 = 63;

/// Returns the largest order of a curve of this many axes: 31 in the plane, 21 in space.
pub const fn max_order(axes: usize) -> u32 {
    match axes {
        2..=MAX_AXES => MAX_BITS / axes as u32,
        _ => 0,
    }
}

/// Returns the order, if a curve of this many axes may have it.
fn checked_order(order: i32, axes: usize) -> Result<u32> {
    match u32::try_from(order) {
        Ok(n) if (1..=max_order(axes)).contains(&n) => Ok(n),
        _ => Err(Error::Order { order, axes }),
    }
}

/// Returns the coordinate, if it is on the grid.
fn checked_coordinate(value: i128, axis: usize, order: u32) -> Result<u64> {
    match u64::try_from(value) {
        Ok(cell) if cell >> order == 0 => Ok(cell),
        _ => Err(Error::Coordinate { axis, value, order }),
    }
}

/// Returns the code, if it is on the curve.
fn checked_code(value: i128, bits: u32) -> Result<u64> {
    match u64::try_from(value) {
        Ok(code) if code >> bits == 0 => Ok(code),
        _ => Err(Error::Code { value, bits }),
    }
}
