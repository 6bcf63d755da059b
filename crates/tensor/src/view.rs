//! A borrowed tensor: matching dtype, shape and bytes.

use crate::{DType, Result, Shape};

/// Borrowed elements: little-endian, row-major, exactly as many bytes as dtype and shape need. The bytes need no
/// alignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorView<'a> {
    dtype: DType,
    shape: Shape,
    data: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// Combines the three, checking the length.
    pub fn new(dtype: DType, shape: Shape, data: &'a [u8]) -> Result<TensorView<'a>> {
        shape.check_len(dtype, data.len())?;
        Ok(TensorView { dtype, shape, data })
    }

    /// Combines the three without a check, for callers that have checked them.
    pub(crate) fn trusted(dtype: DType, shape: Shape, data: &'a [u8]) -> TensorView<'a> {
        debug_assert_eq!(shape.byte_len(dtype), Ok(data.len() as u64));
        TensorView { dtype, shape, data }
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the elements' bytes.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}
