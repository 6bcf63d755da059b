//! A borrowed tensor: dtype, shape and bytes that fit together.

use crate::{DType, Result, Shape};

/// Elements that somebody else owns: little-endian, row-major, exactly as many bytes as dtype and shape need.
/// The bytes need no alignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorView<'a> {
    dtype: DType,
    shape: Shape,
    data: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// Puts the three together, checking the length.
    pub fn new(dtype: DType, shape: Shape, data: &'a [u8]) -> Result<TensorView<'a>> {
        shape.check_len(dtype, data.len())?;
        Ok(TensorView { dtype, shape, data })
    }

    /// The three as they are, for callers that have checked them.
    pub(crate) fn trusted(dtype: DType, shape: Shape, data: &'a [u8]) -> TensorView<'a> {
        debug_assert_eq!(shape.byte_len(dtype), Ok(data.len() as u64));
        TensorView { dtype, shape, data }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements' bytes.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}
