//! Parts of a tensor: dtype, shape, slices, the raw bytes.

use crate::error::{Code, Failure, Result, or_raise};
use crate::tensor::cast::to_dtype;
use crate::tensor::datum::{TensorIn, TensorOut, TensorRef};
use crate::tensor::interrupts;
use modelstore_tensor::layout::Head;
use modelstore_tensor::{DType, Selection, Shape, TensorView, slice};
use pgrx::prelude::*;

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn dtype(tensor: TensorRef<'_>) -> &'static str {
    or_raise(tensor.head()).dtype.name()
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn shape(tensor: TensorRef<'_>) -> Vec<i64> {
    dims(&or_raise(tensor.head()).shape)
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn ndim(tensor: TensorRef<'_>) -> i32 {
    or_raise(tensor.head()).shape.rank() as i32
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn numel(tensor: TensorRef<'_>) -> i64 {
    or_raise(tensor.head()).shape.elements() as i64
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn nbytes(tensor: TensorRef<'_>) -> i64 {
    (tensor.0.len() - or_raise(tensor.head()).payload_offset) as i64
}

/// Returns a shape as SQL's type. Dimensions are below 2^63 by `Shape`'s invariant.
pub fn dims(shape: &Shape) -> Vec<i64> {
    shape.dims().iter().map(|&d| d as i64).collect()
}

#[pg_extern(name = "slice", immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn slice_tensor(tensor: TensorRef<'_>, slice: &str) -> TensorOut {
    or_raise(take_slice(&tensor, slice))
}

/// Runs copied between two checks for interrupts.
const CHECK_RUNS: usize = 1 << 16;

/// Reads from the first to the last byte of the slice and copies its elements from there.
fn take_slice(tensor: &TensorRef<'_>, text: &str) -> Result<TensorOut> {
    let Head {
        dtype,
        shape,
        payload_offset,
    } = tensor.head()?;
    let selection = slice::parse(text)?.resolve(&shape)?;
    check_groups(dtype, &selection)?;
    let Some((first, end)) = selection.bounds() else {
        return TensorOut::zeroed(dtype, &selection.shape);
    };
    let first_byte = dtype.group_bytes(first)?;
    let bytes = dtype.group_bytes(end)? - first_byte;
    let piece = tensor.0.slice(payload_offset + first_byte, bytes);
    let mut out = TensorOut::zeroed(dtype, &selection.shape)?;
    let mut rest = out.elements_mut(selection.shape.rank());
    for (nth, (start, count)) in selection.runs().enumerate() {
        if nth.is_multiple_of(CHECK_RUNS) {
            interrupts::check();
        }
        let from = dtype.group_bytes(start)? - first_byte;
        let len = dtype.group_bytes(count)?;
        let source = piece.bytes().get(from..from + len).ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                "stored tensor is shorter than its shape",
            )
        })?;
        let (here, after) = rest.split_at_mut(len);
        here.copy_from_slice(source);
        rest = after;
    }
    Ok(out)
}

/// Raises an error if a selection splits a group of a sub-byte or block type.
pub fn check_groups(dtype: DType, selection: &Selection) -> Result<()> {
    if dtype.block_elements() > 1 {
        for (start, count) in selection.runs() {
            dtype.group_bytes(start)?;
            dtype.group_bytes(count)?;
        }
    }
    Ok(())
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn reshape(tensor: TensorIn<'_>, shape: Vec<Option<i64>>) -> TensorOut {
    or_raise((|| {
        let view = tensor.view()?;
        TensorOut::from_view(&TensorView::new(
            view.dtype(),
            Shape::infer(&without_nulls(&shape)?, view.shape().elements())?,
            view.data(),
        )?)
    })())
}

fn without_nulls(dims: &[Option<i64>]) -> Result<Vec<i64>> {
    let dims: Option<Vec<i64>> = dims.iter().copied().collect();
    dims.ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "shape must not contain nulls",
        )
    })
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn astype(tensor: TensorIn<'_>, dtype: &str) -> TensorOut {
    or_raise((|| {
        TensorOut::from_tensor(&to_dtype(&tensor, DType::from_name(dtype)?)?)
    })())
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tobytes(tensor: TensorIn<'_>) -> Vec<u8> {
    or_raise(tensor.view()).data().to_vec()
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn frombuffer(buffer: &[u8], dtype: &str, shape: Vec<Option<i64>>) -> TensorOut {
    or_raise((|| {
        TensorOut::from_view(&TensorView::new(
            DType::from_name(dtype)?,
            Shape::from_i64(&without_nulls(&shape)?)?,
            buffer,
        )?)
    })())
}
