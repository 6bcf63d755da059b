//! Norms and simple reductions of `tensor`, in double precision. Quantised tensors are dequantised first.

use crate::error::or_raise;
use crate::tensor::datum::TensorIn;
use crate::tensor::interrupts;
use modelstore_tensor::reduce;
use pgrx::prelude::*;

/// Defines each reduction as an SQL function of one tensor; NULL if there is nothing to reduce.
macro_rules! reductions {
    ($( $name:ident = $reduce:expr; )*) => {
        $(
            #[pg_extern(immutable, strict, parallel_safe, cost = 1000, requires = ["tensor_type"])]
            fn $name(tensor: TensorIn<'_>) -> Option<f64> {
                or_raise((|| Ok(($reduce)(&tensor.view()?, &mut interrupts::check)?.into()))())
            }
        )*
    };
}

reductions! {
    norm = reduce::l2;
    l1_norm = reduce::l1;
    linf_norm = reduce::linf;
    sum = reduce::sum;
    mean = reduce::mean;
    std = reduce::std;
    min = reduce::min;
    max = reduce::max;
}
