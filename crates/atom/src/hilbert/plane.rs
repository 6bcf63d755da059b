//! The curve in the plane, one cell at a time.

use super::steps::{DECODE, ENCODE, STATE_MASK, TABLE_BITS, start};
use super::{checked_code, checked_coordinate, checked_order};
use crate::Result;

/// Returns the code of the cell (x, y) on the curve of this order, 1 to 31; the [module](super) states the orientation.
/// Takes signed integers, so that a negative one is an error here instead of a cast at the caller.
pub fn hilbert_encode(x: impl Into<i128>, y: impl Into<i128>, order: i32) -> Result<u64> {
    let order = checked_order(order, 2)?;
    let x = checked_coordinate(x.into(), 0, order)?;
    let y = checked_coordinate(y.into(), 1, order)?;
    Ok(encode(x, y, order))
}

/// Returns the cell (x, y) with this code on the curve of this order: the inverse of [`hilbert_encode`].
pub fn hilbert_decode(code: impl Into<i128>, order: i32) -> Result<(u64, u64)> {
    let order = checked_order(order, 2)?;
    Ok(decode(checked_code(code.into(), 2 * order)?, order))
}

/// [`hilbert_encode`] without range checks. Bits above the order give a wrong code, and nothing worse.
#[inline(always)]
pub(super) fn encode(x: u64, y: u64, order: u32) -> u64 {
    let (mut code, mut entry) = (0, start(order));
    for look in (0..order.div_ceil(TABLE_BITS)).rev() {
        let shift = look * TABLE_BITS;
        let pair = ((x >> shift) & 15) << TABLE_BITS | (y >> shift) & 15;
        entry = ENCODE[usize::from(entry & STATE_MASK) | pair as usize];
        code = code << (2 * TABLE_BITS) | u64::from(entry & 0xff);
    }
    code
}

/// [`hilbert_decode`] without range checks.
#[inline(always)]
pub(super) fn decode(code: u64, order: u32) -> (u64, u64) {
    let (mut x, mut y, mut entry) = (0, 0, start(order));
    for look in (0..order.div_ceil(TABLE_BITS)).rev() {
        let bits = (code >> (look * 2 * TABLE_BITS)) & 0xff;
        entry = DECODE[usize::from(entry & STATE_MASK) | bits as usize];
        x = x << TABLE_BITS | u64::from((entry >> TABLE_BITS) & 15);
        y = y << TABLE_BITS | u64::from(entry & 15);
    }
    (x, y)
}
