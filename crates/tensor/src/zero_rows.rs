//! Counts rows of zeros as the bytes of a matrix pass.

use crate::dtype::Kind;
use crate::{DType, Result};

/// Counts rows whose elements all equal zero, of either sign. Bytes arrive in pieces of any size.
#[derive(Clone, Debug)]
pub struct ZeroRows {
    row_bytes: usize,
    /// Bytes per element, and whether the top bit is a sign, which does not count.
    element: usize,
    is_signed: bool,
    /// Bytes of the current row so far, and whether one of its elements is not zero.
    at: usize,
    is_live: bool,
    rows: u64,
}

impl ZeroRows {
    /// Starts with rows of `row_elements` elements, which must be whole groups of the dtype.
    pub fn new(dtype: DType, row_elements: u64) -> Result<ZeroRows> {
        Ok(ZeroRows {
            row_bytes: dtype.group_bytes(row_elements)?,
            element: dtype.element_bytes().unwrap_or(1),
            is_signed: dtype.kind() == Kind::Float,
            at: 0,
            is_live: false,
            rows: 0,
        })
    }

    /// Adds the next bytes, which end with a whole element.
    pub fn update(&mut self, mut raw: &[u8]) {
        while !raw.is_empty() && self.row_bytes > 0 {
            let (here, after) = raw.split_at(raw.len().min(self.row_bytes - self.at));
            let mut elements = here.chunks_exact(self.element);
            self.is_live = self.is_live || elements.any(|e| !is_zero(e, self.is_signed));
            self.at += here.len();
            raw = after;
            if self.at == self.row_bytes {
                self.rows += u64::from(!self.is_live);
                (self.at, self.is_live) = (0, false);
            }
        }
    }

    /// Returns the number of rows of zeros so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// Returns whether it is zero of either sign: all bits clear except, for floats, the top one.
fn is_zero(element: &[u8], is_signed: bool) -> bool {
    match element.split_last() {
        Some((top, low)) => low.iter().all(|&b| b == 0) && (*top == 0 || is_signed && *top == 0x80),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_over_the_ends_of_pieces() {
        let rows: [[f32; 3]; 5] = [
            [0.0, -0.0, 0.0],
            [0.0, 0.0, f32::MIN_POSITIVE],
            [f32::NAN, 0.0, 0.0],
            [-0.0, -0.0, -0.0],
            [0.0, 1.0, 0.0],
        ];
        let raw: Vec<u8> = rows
            .as_flattened()
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        for piece in [4, 8, 20, 60] {
            let mut zero = ZeroRows::new(DType::F32, 3).expect("whole elements");
            raw.chunks(piece).for_each(|piece| zero.update(piece));
            assert_eq!(zero.rows(), 2, "pieces of {piece} bytes");
        }
        // The bits of -0.0 are the smallest integer.
        let mut zero = ZeroRows::new(DType::I32, 3).expect("whole elements");
        zero.update(&raw);
        assert_eq!(zero.rows(), 0);
        assert!(ZeroRows::new(DType::F4, 3).is_err());
    }
}
