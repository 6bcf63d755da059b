//! The argument type `tensor[]`.

use crate::error::Result;
use crate::pg::array::varlenas;
use crate::pg::varlena::{Detoasted, varlena_argument};
use modelstore_tensor::{TensorView, layout};

/// A `tensor[]` argument.
pub struct TensorArray<'a>(pub Detoasted<'a>);
varlena_argument!(TensorArray, Detoasted, "tensor[]");

impl TensorArray<'_> {
    /// Returns the elements of all dimensions, in order.
    pub fn views(&self) -> Result<Vec<TensorView<'_>>> {
        varlenas(self.0.bytes(), 8, "Each name has a tensor.")?
            .1
            .into_iter()
            .map(|value| Ok(layout::read(value)?))
            .collect()
    }
}
