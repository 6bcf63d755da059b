//! Text, binary and type-modifier functions of `tensor`.

use crate::error::{Code, Failure, Result, or_raise};
use crate::io::bytes::ByteaOut;
use crate::pg::soft_error::ErrorSink;
use crate::tensor::cast::to_dtype;
use crate::tensor::datum::{TensorIn, TensorOut, TensorRef};
use crate::tensor::interrupts;
use modelstore_tensor::typmod::Typmod;
use modelstore_tensor::{DType, Shape, layout, text};
use pgrx::datum::Internal;
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_in(
    input: &CStr,
    _type: pg_sys::Oid,
    typmod: i32,
    errors: ErrorSink,
) -> Option<TensorOut> {
    errors.or_save(parse(input, typmod))
}

/// Parses a tensor, subject to a type modifier.
pub fn parse(input: &CStr, typmod: i32) -> Result<TensorOut> {
    let input = input.to_str().map_err(|_| {
        Failure::new(
            Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type tensor: not UTF-8",
        )
    })?;
    // COPY passes the modifier of the column, so that no digit is lost on the way to its dtype.
    let default = Typmod::unpack(typmod)?.dtype.unwrap_or(DType::F32);
    let tensor = text::parse_as(input, default, &mut interrupts::check)?;
    enforce(typmod, tensor.dtype(), tensor.shape())?;
    TensorOut::from_tensor(&tensor)
}

#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_out(tensor: TensorIn<'_>) -> CString {
    or_raise(print(&tensor))
}

/// Prints a tensor.
pub fn print(tensor: &TensorIn<'_>) -> Result<CString> {
    let view = tensor.view()?;
    let mut out = interrupts::Text::default();
    out.0.reserve(view.data().len().min(1 << 20) + 64);
    text::format(&view, &mut out)
        .map_err(|_| Failure::new(Code::ERRCODE_INTERNAL_ERROR, "could not print tensor"))?;
    CString::new(out.0).map_err(|_| {
        Failure::new(
            Code::ERRCODE_INTERNAL_ERROR,
            "tensor text contains a zero byte",
        )
    })
}

/// The binary form is the stored form: see docs/formats.md.
#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_recv(mut message: Internal, _type: pg_sys::Oid, typmod: i32) -> TensorOut {
    or_raise(receive(&mut message, |bytes| {
        let view = layout::read(bytes)?;
        enforce(typmod, view.dtype(), view.shape())?;
        TensorOut::from_bytes(bytes)
    }))
}

#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_send(tensor: TensorIn<'_>) -> ByteaOut {
    or_raise(ByteaOut::copy(tensor.0.bytes()))
}

/// Passes the rest of a binary message to `read` and marks it consumed.
#[allow(unsafe_code)]
pub fn receive<T>(message: &mut Internal, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
    // SAFETY: PostgreSQL passes a StringInfo to every receive function; cursor <= len and data holds len bytes.
    let bytes = unsafe {
        let Some(buffer) = message.get_mut::<pg_sys::StringInfoData>() else {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_BINARY_REPRESENTATION,
                "empty binary message",
            ));
        };
        let start = usize::try_from(buffer.cursor).unwrap_or(0);
        let len = usize::try_from(buffer.len).unwrap_or(0);
        buffer.cursor = buffer.len;
        std::slice::from_raw_parts(
            buffer.data.cast::<u8>().cast_const().add(start),
            len.saturating_sub(start),
        )
    };
    read(bytes)
}

#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_typmod_in(words: Array<'_, &CStr>) -> i32 {
    or_raise(typmod_in(&words))
}

fn typmod_in(words: &Array<'_, &CStr>) -> Result<i32> {
    let words: Vec<String> = words
        .iter()
        .flatten()
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(Typmod::parse(&words)?.pack()?)
}

#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_typmod_out(typmod: i32) -> CString {
    let text = or_raise(Typmod::unpack(typmod).map_err(Failure::from)).to_string();
    CString::new(text).unwrap_or_default()
}

/// An assignment raises an error for another dtype. An explicit cast converts to it as astype does, but not from f32 to
/// what holds numbers that f32 does not: a literal without a dtype has been read as f32 by now.
#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_enforce_typmod(tensor: TensorRef<'_>, typmod: i32, explicit: bool) -> TensorOut {
    or_raise((|| {
        let head = tensor.head()?;
        let to = Typmod::unpack(typmod)?.dtype.unwrap_or(head.dtype);
        if explicit && to != head.dtype && !(head.dtype == DType::F32 && is_wider_than_f32(to)) {
            enforce(typmod, to, &head.shape)?;
            return TensorOut::from_tensor(&to_dtype(&TensorIn(tensor.0.whole()), to)?);
        }
        enforce(typmod, head.dtype, &head.shape)?;
        TensorOut::from_bytes(tensor.0.whole().bytes())
    })())
}

/// Returns whether a decimal number can lose digits that a dtype holds if it is read as f32.
fn is_wider_than_f32(dtype: DType) -> bool {
    use DType::{F64, I32, I64, U32, U64};
    matches!(dtype, F64 | I32 | I64 | U32 | U64)
}

/// Raises an error if a type modifier does not allow the tensor.
pub fn enforce(typmod: i32, dtype: DType, shape: &Shape) -> Result<()> {
    Ok(Typmod::unpack(typmod)?.check(dtype, shape)?)
}

pgrx::extension_sql_file!(
    "../../sql/extension/10_tensor_type.sql",
    name = "tensor_type",
    requires = [
        tensor_in,
        tensor_out,
        tensor_recv,
        tensor_send,
        tensor_typmod_in,
        tensor_typmod_out
    ]
);
