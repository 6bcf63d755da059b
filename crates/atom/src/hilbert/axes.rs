//! Curves over two to eight axes, by Skilling's algorithm.
//!
//! It works on the "transpose" of a code: a word for each axis, to which the bits of the code are distributed in turn,
//! the highest to the first axis. Between that and the coordinates are a Gray code and, for each bit and axis, either
//! an inversion of the lower bits of the first axis or an exchange of them with those of this axis.

use super::{MAX_AXES, checked_code, checked_coordinate, checked_order, max_order};
use crate::{Error, Result};

/// Returns the code of a point on the curve of this order, which has as many axes as the point. The order is at most
/// [`max_order`] of the axes.
pub fn hilbert_encode_nd<T: Copy + Into<i128>>(point: &[T], order: i32) -> Result<u64> {
    match point.len() {
        2 => encode::<T, 2>(point, order),
        3 => encode::<T, 3>(point, order),
        4 => encode::<T, 4>(point, order),
        5 => encode::<T, 5>(point, order),
        6 => encode::<T, 6>(point, order),
        7 => encode::<T, 7>(point, order),
        MAX_AXES => encode::<T, MAX_AXES>(point, order),
        axes => Err(Error::Axes(axes)),
    }
}

/// Returns the point with this code on the curve of this many axes and this order: the inverse of
/// [`hilbert_encode_nd`].
pub fn hilbert_decode_nd(code: impl Into<i128>, axes: usize, order: i32) -> Result<Vec<u64>> {
    if max_order(axes) == 0 {
        return Err(Error::Axes(axes));
    }
    let order = checked_order(order, axes)?;
    let code = checked_code(code.into(), axes as u32 * order)?;
    Ok(match axes {
        2 => decode::<2>(code, order).to_vec(),
        3 => decode::<3>(code, order).to_vec(),
        4 => decode::<4>(code, order).to_vec(),
        5 => decode::<5>(code, order).to_vec(),
        6 => decode::<6>(code, order).to_vec(),
        7 => decode::<7>(code, order).to_vec(),
        _ => decode::<MAX_AXES>(code, order).to_vec(),
    })
}

/// Compiled for each number of axes, so that the words stay in registers.
fn encode<T: Copy + Into<i128>, const AXES: usize>(point: &[T], order: i32) -> Result<u64> {
    let order = checked_order(order, AXES)?;
    let mut words = [0; AXES];
    for (axis, (word, &value)) in words.iter_mut().zip(point).enumerate() {
        *word = checked_coordinate(value.into(), axis, order)?;
    }
    for bit in (1..order).rev() {
        for axis in 0..AXES {
            invert_or_exchange(&mut words, axis, bit);
        }
    }
    for axis in 1..AXES {
        words[axis] ^= words[axis - 1];
    }
    let mut lower = 0;
    for bit in 1..order {
        if words[AXES - 1] >> bit & 1 == 1 {
            lower ^= (1 << bit) - 1;
        }
    }
    let mut code = 0;
    for bit in (0..order).rev() {
        for word in words {
            code = code << 1 | (word ^ lower) >> bit & 1;
        }
    }
    Ok(code)
}

fn decode<const AXES: usize>(code: u64, order: u32) -> [u64; AXES] {
    let mut words = [0; AXES];
    let mut left = AXES as u32 * order;
    for _ in 0..order {
        for word in &mut words {
            left -= 1;
            *word = *word << 1 | code >> left & 1;
        }
    }
    let lower = words[AXES - 1] >> 1;
    for axis in (1..AXES).rev() {
        words[axis] ^= words[axis - 1];
    }
    words[0] ^= lower;
    for bit in 1..order {
        for axis in (0..AXES).rev() {
            invert_or_exchange(&mut words, axis, bit);
        }
    }
    words
}

/// If the axis has the bit set, inverts the lower bits of the first axis, else exchanges them with those of this axis.
/// Its own inverse. Branchless, as the bits are hard to predict.
#[inline(always)]
fn invert_or_exchange<const AXES: usize>(words: &mut [u64; AXES], axis: usize, bit: u32) {
    let below = (1 << bit) - 1;
    let is_set = (words[axis] >> bit & 1).wrapping_neg();
    let exchanged = (words[0] ^ words[axis]) & below & !is_set;
    words[0] ^= exchanged | below & is_set;
    words[axis] ^= exchanged;
}
