//! The curve in the plane, for arrays of cells and of codes.
//!
//! The table lookups of one cell depend on each other, but cells do not, so the processor works on several at once. The
//! range check runs afterwards, and only if it is needed.

use super::plane::{decode, encode};
use super::{checked_code, checked_coordinate, checked_order};
use crate::{Error, Result};

/// Appends the code of each cell `(xs[i], ys[i])` to `codes`. After an error `codes` is unchanged, and the error names
/// the first bad element by its index in these slices. At the largest order, some 80 million cells take a
/// second; a caller that checks for cancellation passes slices of a few hundred thousand.
pub fn hilbert_encode_many(xs: &[i64], ys: &[i64], order: i32, codes: &mut Vec<i64>) -> Result<()> {
    let order = checked_order(order, 2)?;
    if xs.len() != ys.len() {
        return Err(Error::Lengths(xs.len(), ys.len()));
    }
    let before = codes.len();
    // Negative numbers have high bits set.
    let mut all_bits = 0;
    codes.extend(xs.iter().zip(ys).map(|(&x, &y)| {
        let (x, y) = (x as u64, y as u64);
        all_bits |= x | y;
        encode(x, y, order) as i64
    }));
    if all_bits >> order == 0 {
        return Ok(());
    }
    codes.truncate(before);
    first_error(xs.iter().zip(ys), |(&x, &y)| {
        checked_coordinate(x.into(), 0, order)?;
        checked_coordinate(y.into(), 1, order)
    })
}

/// Appends the cell of each code to `xs` and `ys`: the inverse of [`hilbert_encode_many`]. After an error both are
/// unchanged.
pub fn hilbert_decode_many(
    codes: &[i64],
    order: i32,
    xs: &mut Vec<i64>,
    ys: &mut Vec<i64>,
) -> Result<()> {
    let order = checked_order(order, 2)?;
    let before = (xs.len(), ys.len());
    let mut all_bits = 0;
    let cells = codes.iter().map(|&code| {
        all_bits |= code as u64;
        let (x, y) = decode(code as u64, order);
        (x as i64, y as i64)
    });
    // `extend` of a pair of vectors reserves in both and writes to both in one pass.
    let mut out = (std::mem::take(xs), std::mem::take(ys));
    out.extend(cells);
    (*xs, *ys) = out;
    if all_bits >> (2 * order) == 0 {
        return Ok(());
    }
    xs.truncate(before.0);
    ys.truncate(before.1);
    first_error(codes.iter(), |&code| checked_code(code.into(), 2 * order))
}

/// Returns the first error of `check`, with the index of the element.
fn first_error<T>(
    elements: impl Iterator<Item = T>,
    check: impl Fn(T) -> Result<u64>,
) -> Result<()> {
    for (index, element) in elements.enumerate() {
        if let Err(error) = check(element) {
            let source = Box::new(error);
            return Err(Error::Element { index, source });
        }
    }
    Ok(())
}
