//! Input, output and inspection of `tensor_chunk`. Text is the hex form of bytea; binary is the stored form. Both input
//! functions decode the chunk once, so that no undecodable value is stored through them.

use crate::error::{Code, Failure, Result, or_raise};
use crate::io::bytes::ByteaOut;
use crate::pg::soft_error::ErrorSink;
use crate::pg::varlena::Building;
use crate::tensor::interrupts;
use crate::tensor::io::receive;
use crate::tensor_chunk::datum::{ChunkIn, ChunkOut, ChunkRef};
use faster_hex::{hex_decode, hex_encode};
use modelstore_chunk::{ChunkHash, ChunkHead, Decoder, block_index_len, plan_range};
use pgrx::datum::Internal;
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// Bytes between two checks for interrupts; even.
const CHECK_BYTES: usize = 1 << 20;

#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_chunk_in(
    input: &CStr,
    _type: pg_sys::Oid,
    _typmod: i32,
    errors: ErrorSink,
) -> Option<ChunkOut> {
    errors.or_save((|| build(&from_hex(input.to_bytes())?))())
}

fn build(bytes: &[u8]) -> Result<ChunkOut> {
    check(bytes)?;
    Ok(ChunkOut(Building::from_parts(&[bytes])?))
}

fn from_hex(text: &[u8]) -> Result<Vec<u8>> {
    let syntax = |what: String| {
        Failure::new(
            Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
            format!("invalid input syntax for type tensor_chunk: {what}"),
        )
        .detail("Expected \\x and an even number of hexadecimal digits.")
    };
    let digits = text.trim_ascii().strip_prefix(b"\\x").ok_or_else(|| {
        syntax(format!(
            "\"{}\"",
            String::from_utf8_lossy(&text[..text.len().min(32)])
        ))
    })?;
    if digits.len() % 2 != 0 {
        return Err(syntax("odd number of digits".into()));
    }
    let mut bytes = vec![0; digits.len() / 2];
    for (from, to) in digits
        .chunks(2 * CHECK_BYTES)
        .zip(bytes.chunks_mut(CHECK_BYTES))
    {
        hex_decode(from, to).map_err(|_| {
            let wrong = from.iter().find(|c| !c.is_ascii_hexdigit());
            let wrong = wrong.map_or('?', |c| char::from(*c));
            syntax(format!("invalid digit \"{}\"", wrong.escape_default()))
        })?;
        interrupts::check();
    }
    Ok(bytes)
}

#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_chunk_out(chunk: ChunkIn<'_>) -> CString {
    let bytes = chunk.0.bytes();
    let mut out = vec![0; 2 + 2 * bytes.len()];
    out[..2].copy_from_slice(b"\\x");
    for (from, to) in bytes
        .chunks(CHECK_BYTES)
        .zip(out[2..].chunks_mut(2 * CHECK_BYTES))
    {
        // `to` has twice the length, so this cannot fail.
        drop(hex_encode(from, to));
        interrupts::check();
    }
    CString::new(out).unwrap_or_default()
}

#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_chunk_recv(mut message: Internal, _type: pg_sys::Oid, _typmod: i32) -> ChunkOut {
    or_raise(receive(&mut message, build))
}

#[pg_extern(immutable, strict, parallel_safe)]
fn tensor_chunk_send(chunk: ChunkIn<'_>) -> ByteaOut {
    or_raise(ByteaOut::copy(chunk.0.bytes()))
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_chunk_type"])]
fn codec(chunk: ChunkRef<'_>) -> &'static str {
    or_raise(chunk.head()).codec.name()
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_chunk_type"])]
fn raw_size(chunk: ChunkRef<'_>) -> i32 {
    or_raise(chunk.head()).raw_len as i32
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_chunk_type"])]
fn stored_size(chunk: ChunkRef<'_>) -> i32 {
    chunk.0.len() as i32
}

/// Decodes the chunk; for a delta, only the difference.
fn check(bytes: &[u8]) -> Result<()> {
    let head = ChunkHead::parse(bytes)?;
    let plan = plan_range(
        bytes.get(..block_index_len(&head)).unwrap_or(bytes),
        0..head.raw_len,
    )?;
    let fetch = plan.fetch();
    let end = fetch.end;
    let fetched = bytes.get(fetch).ok_or(modelstore_chunk::Error::Truncated {
        needed: end,
        actual: bytes.len(),
    })?;
    if bytes.len() > end {
        return Err(modelstore_chunk::Error::TrailingBytes {
            expected: end,
            actual: bytes.len(),
        }
        .into());
    }
    Ok(Decoder::new().decode_range(&plan, fetched, &mut Vec::new())?)
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_chunk_type"])]
fn base_hash(chunk: ChunkRef<'_>) -> Option<Vec<u8>> {
    or_raise(chunk.head())
        .base
        .map(|base: ChunkHash| base.0.to_vec())
}

#[pg_extern(immutable, strict, parallel_safe, cost = 1000, requires = ["tensor_chunk_type"])]
fn decode(chunk: ChunkIn<'_>) -> Vec<u8> {
    or_raise((|| {
        let mut raw = Vec::new();
        Decoder::new().decode(chunk.0.bytes(), None, &mut raw)?;
        Ok(raw)
    })())
}

pgrx::extension_sql_file!(
    "../../sql/extension/11_tensor_chunk_type.sql",
    name = "tensor_chunk_type",
    requires = [
        tensor_chunk_in,
        tensor_chunk_out,
        tensor_chunk_recv,
        tensor_chunk_send
    ]
);
