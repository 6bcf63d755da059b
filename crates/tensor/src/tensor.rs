//! An owned tensor: matching dtype, shape and bytes.

use crate::{DType, Result, Shape, TensorView};

/// What [`TensorView`] borrows, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Vec<u8>,
}

impl Tensor {
    /// Combines the three, checking the length.
    pub fn new(dtype: DType, shape: Shape, data: Vec<u8>) -> Result<Tensor> {
        shape.check_len(dtype, data.len())?;
        Ok(Tensor { dtype, shape, data })
    }

    /// Borrows it.
    pub fn view(&self) -> TensorView<'_> {
        TensorView::trusted(self.dtype, self.shape.clone(), &self.data)
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
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Returns the elements' bytes without a copy.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn the_length_is_checked() {
        let shape = Shape::new(&[3]).expect("a shape");
        let tensor = Tensor::new(DType::I16, shape.clone(), vec![1, 0, 2, 0, 3, 0]).expect("fits");
        assert_eq!(tensor.view().data(), tensor.data());
        assert_eq!(
            Tensor::new(DType::I16, shape, vec![0; 5]),
            Err(Error::WrongLength {
                shape: "(3)".into(),
                dtype: DType::I16,
                expected: 6,
                actual: 5
            })
        );
    }
}
