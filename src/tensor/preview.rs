//! A tensor for people to read.

use crate::error::{Code, Failure, Result, or_raise};
use crate::tensor::cast::to_dtype;
use crate::tensor::datum::TensorIn;
use crate::tensor::interrupts;
use modelstore_tensor::dtype::Kind;
use modelstore_tensor::text::MAX_PREVIEW_ELEMENTS;
use modelstore_tensor::{DType, TensorView, text};
use pgrx::prelude::*;

/// Digits that tell any two doubles apart.
const MAX_DIGITS: u64 = 17;

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn preview(
    tensor: TensorIn<'_>,
    max_elements: default!(i32, 1000),
    digits: default!(i32, 8),
) -> String {
    or_raise((|| {
        let max_elements = within("max_elements", max_elements, MAX_PREVIEW_ELEMENTS)?;
        let digits = within("digits", digits, MAX_DIGITS)? as usize;
        let view = tensor.view()?;
        match view.dtype().kind() {
            Kind::Quantised => {
                let floats = to_dtype(&tensor, DType::F32)?;
                print(&floats.view(), max_elements, digits)
            }
            _ => print(&view, max_elements, digits),
        }
    })())
}

fn print(view: &TensorView<'_>, max_elements: u64, digits: usize) -> Result<String> {
    let mut out = interrupts::Text::default();
    text::preview(view, max_elements, digits, &mut out)
        .map_err(|_| Failure::new(Code::ERRCODE_INTERNAL_ERROR, "could not print tensor"))?;
    Ok(out.0)
}

fn within(name: &str, value: i32, most: u64) -> Result<u64> {
    let inside = u64::try_from(value).ok().filter(|value| *value <= most);
    inside.ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{name} must not be {value}"),
        )
        .detail(format!("It is a number from 0 to {most}."))
    })
}
