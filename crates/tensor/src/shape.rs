//! Dimensions of a tensor, checked once on creation.

use crate::{DType, Error, Result};

/// Dimensions in row-major order, outermost first. Rank 0 is a scalar; a dimension of 0 makes the tensor empty.
///
/// Invariants, checked by [`Shape::new`]: at most [`Shape::MAX_RANK`] dimensions, each at most `i64::MAX`, and the
/// product of the dimensions that are not 0 at most `i64::MAX`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: Vec<u64>,
}

impl Shape {
    /// Maximum number of dimensions.
    pub const MAX_RANK: usize = 32;

    /// Checks dimensions.
    pub fn new(dims: &[u64]) -> Result<Shape> {
        if dims.len() > Shape::MAX_RANK {
            return Err(Error::RankTooLarge(dims.len()));
        }
        let too_large = || Error::ShapeTooLarge(format_dims(dims));
        let mut product: u64 = 1;
        for &d in dims.iter().filter(|&&d| d != 0) {
            product = product
                .checked_mul(d)
                .filter(|&p| p <= i64::MAX as u64)
                .ok_or_else(too_large)?;
        }
        Ok(Shape {
            dims: dims.to_vec(),
        })
    }

    /// Checks signed dimensions, SQL's type.
    pub fn from_i64(dims: &[i64]) -> Result<Shape> {
        if dims.len() > Shape::MAX_RANK {
            return Err(Error::RankTooLarge(dims.len()));
        }
        let dims: Vec<u64> = dims
            .iter()
            .map(|&d| u64::try_from(d).map_err(|_| Error::NegativeDimension(d)))
            .collect::<Result<_>>()?;
        Shape::new(&dims)
    }

    /// Returns a shape of this many elements, as numpy's reshape does: one dimension may be -1, which stands for what the
    /// others leave.
    pub fn infer(dims: &[i64], elements: u64) -> Result<Shape> {
        let Some(open) = dims.iter().position(|&d| d == -1) else {
            return Shape::from_i64(dims);
        };
        let mut dims = dims.to_vec();
        dims[open] = 1;
        let rest = Shape::from_i64(&dims)?.elements();
        if rest == 0 || !elements.is_multiple_of(rest) {
            dims[open] = -1;
            return Err(Error::NoDimension { elements, dims });
        }
        dims[open] = i64::try_from(elements / rest).unwrap_or(i64::MAX);
        Shape::from_i64(&dims)
    }

    /// Returns the dimensions.
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// Returns the number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Returns the number of elements: 1 for rank 0, 0 if any dimension is 0.
    pub fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Returns the elements per index of the first dimension; 1 for rank 0.
    pub fn row_elements(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }

    /// Returns the bytes of a tensor of this shape, or an error that says why there is none.
    pub fn byte_len(&self, dtype: DType) -> Result<u64> {
        let elements = self.elements();
        // Blocks never cross rows: ggml blocks run along the last dimension.
        let group = dtype.block_elements();
        if dtype.kind() == crate::dtype::Kind::Quantised
            && elements != 0
            && self.dims.last().is_none_or(|last| last % group != 0)
        {
            return Err(Error::PartialBlock {
                shape: self.to_string(),
                dtype,
            });
        }
        if !elements.is_multiple_of(group) {
            return Err(Error::PartialBlock {
                shape: self.to_string(),
                dtype,
            });
        }
        dtype
            .byte_len(elements)
            .filter(|&b| b <= i64::MAX as u64)
            .ok_or_else(|| Error::TooLarge {
                shape: self.to_string(),
                dtype,
            })
    }

    /// Checks that this many bytes are a tensor of this shape.
    pub fn check_len(&self, dtype: DType, bytes: usize) -> Result<()> {
        let expected = self.byte_len(dtype)?;
        if expected == bytes as u64 {
            return Ok(());
        }
        Err(Error::WrongLength {
            shape: self.to_string(),
            dtype,
            expected,
            actual: bytes as u64,
        })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format_dims(&self.dims))
    }
}

fn format_dims(dims: &[u64]) -> String {
    let dims: Vec<String> = dims
        .iter()
        .take(Shape::MAX_RANK)
        .map(u64::to_string)
        .collect();
    format!("({})", dims.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_checked() {
        assert_eq!(Shape::new(&[]).map(|s| s.elements()), Ok(1));
        assert_eq!(Shape::new(&[3, 0, 5]).map(|s| s.elements()), Ok(0));
        assert!(Shape::new(&[1 << 32, 1 << 31]).is_err());
        assert!(Shape::new(&[0, 1 << 32, 1 << 32]).is_err());
        assert_eq!(Shape::new(&[1; 33]), Err(Error::RankTooLarge(33)));
        assert_eq!(Shape::from_i64(&[2, -1]), Err(Error::NegativeDimension(-1)));
    }

    #[test]
    fn byte_lengths() {
        let s = |d: &[u64]| Shape::new(d).expect("a shape");
        assert_eq!(s(&[2, 3]).byte_len(DType::F32), Ok(24));
        assert_eq!(s(&[]).byte_len(DType::I64), Ok(8));
        assert_eq!(s(&[0, 7]).byte_len(DType::Q4_0), Ok(0));
        assert!(s(&[2, 16]).byte_len(DType::Q4_0).is_err());
        assert!(s(&[1 << 62]).byte_len(DType::F64).is_err());
    }
}
