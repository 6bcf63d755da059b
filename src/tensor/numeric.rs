//! Tensors from arrays of numeric, the type of ARRAY[0.1, 0.2, 0.3].
#![allow(unsafe_code)]

use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::array::NumericArray;
use crate::tensor::datum::TensorOut;
use crate::tensor::interrupts;
use crate::tensor::io::enforce;
use modelstore_tensor::dtype::Kind;
use modelstore_tensor::typmod::Typmod;
use modelstore_tensor::{DType, Error, Tensor, TensorView, text};
use pgrx::prelude::*;
use std::ffi::CStr;

/// Rounds once, from the decimal digits; an intermediate double would round twice.
#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_from_numeric(elements: NumericArray<'_>, typmod: i32, _explicit: bool) -> TensorOut {
    or_raise((|| {
        let dtype = Typmod::unpack(typmod)?.dtype.unwrap_or(DType::F64);
        let (shape, numbers) = elements.numbers()?;
        enforce(typmod, dtype, &shape)?;
        let list = read(numbers, dtype)?;
        TensorOut::from_view(&TensorView::new(dtype, shape, list.data())?)
    })())
}

/// Reads the numbers as a one-dimensional tensor.
fn read(numbers: impl Iterator<Item = pg_sys::Datum>, dtype: DType) -> Result<Tensor> {
    /// Numbers between two checks for interrupts.
    const CHECK: usize = 4096;
    if matches!(dtype.kind(), Kind::Opaque | Kind::Quantised) {
        let (from, to) = (DType::F64, dtype);
        return Err(Error::CastRefused { from, to }.into());
    }
    let mut out = format!("{dtype}:[");
    for (nth, number) in numbers.enumerate() {
        if nth > 0 {
            out.push(',');
        }
        if nth.is_multiple_of(CHECK) {
            interrupts::check();
        }
        // SAFETY: the datum is a numeric of the array; the result is a palloc'd C string of ASCII, freed after use.
        unsafe {
            let printed = pgrx::direct_function_call_as_datum(pg_sys::numeric_out, &[Some(number)]);
            if let Some(printed) = printed {
                let printed = printed.cast_mut_ptr();
                let result = push(
                    CStr::from_ptr(printed).to_str().unwrap_or(""),
                    dtype,
                    &mut out,
                );
                pg_sys::pfree(printed.cast());
                result?;
            }
        }
    }
    out.push(']');
    Ok(text::parse_checked(&out, &mut interrupts::check)?)
}

fn push(number: &str, dtype: DType, out: &mut String) -> Result<()> {
    let is_finite = number.contains(|c: char| c.is_ascii_digit());
    match dtype.kind() {
        Kind::Float => out.push_str(number),
        // NaN and infinities also differ from 0.
        Kind::Bool => {
            let zero = is_finite && !number.contains(|c| ('1'..='9').contains(&c));
            out.push(if zero { '0' } else { '1' });
        }
        _ if is_finite => {
            let whole = number.split('.').next().unwrap_or(number);
            out.push_str(if whole == "-0" { "0" } else { whole });
        }
        _ => {
            return Err(Failure::new(
                Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                format!("{number} is out of range for dtype {dtype}"),
            ));
        }
    }
    Ok(())
}
