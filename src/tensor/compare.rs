//! Equality, order and hashes of `tensor`. Equality compares dtype, shape and bits; the order agrees with it and is
//! that of [`modelstore_tensor::order`]. A large value is read from TOAST only as far as needed.

use crate::error::{Result, or_raise};
use crate::pg::varlena::Toasted;
use crate::tensor::datum::{TensorIn, TensorRef};
use crate::tensor::interrupts;
use modelstore_tensor::{layout, order};
use pgrx::prelude::*;
use std::cmp::Ordering;

/// Values up to this size are read at once.
const AT_ONCE: usize = 64 << 10;

/// Larger values are read in pieces of this size, filled by whole elements; the first is small, as most
/// differences are early.
const PIECES: [usize; 2] = [16 << 10, 1 << 20];

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_eq(a: TensorRef<'_>, b: TensorRef<'_>) -> bool {
    equal(a.0, b.0)
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_ne(a: TensorRef<'_>, b: TensorRef<'_>) -> bool {
    !equal(a.0, b.0)
}

/// Returns whether dtype, shape and bits are equal.
pub fn equal(a: Toasted<'_>, b: Toasted<'_>) -> bool {
    a.len() == b.len() && pieces(a, b, 0, |a, b| (a != b).then_some(())).is_none()
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_cmp(a: TensorRef<'_>, b: TensorRef<'_>) -> i32 {
    or_raise(compare(&a, &b)) as i32
}

macro_rules! comparisons {
    ($( $name:ident = $is:ident; )*) => {
        $(
            #[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
            fn $name(a: TensorRef<'_>, b: TensorRef<'_>) -> bool {
                or_raise(compare(&a, &b)).$is()
            }
        )*
    };
}

comparisons! {
    tensor_lt = is_lt;
    tensor_le = is_le;
    tensor_gt = is_gt;
    tensor_ge = is_ge;
}

/// Compares two tensors.
pub fn compare(a: &TensorRef<'_>, b: &TensorRef<'_>) -> Result<Ordering> {
    if a.0.len().max(b.0.len()) <= AT_ONCE {
        let (a, b) = (TensorIn(a.0.whole()), TensorIn(b.0.whole()));
        let (x, y) = (a.view()?, b.view()?);
        let head = |bytes| layout::read_header(bytes);
        let heads = order::heads(&head(a.0.bytes())?, &head(b.0.bytes())?);
        return Ok(heads.then_with(|| order::elements(x.dtype(), x.data(), y.data())));
    }
    let (x, y) = (a.head()?, b.head()?);
    Ok(order::heads(&x, &y).then_with(|| {
        pieces(a.0, b.0, x.payload_offset, |a, b| {
            Some(order::elements(x.dtype, a, b)).filter(|order| order.is_ne())
        })
        .unwrap_or(Ordering::Equal)
    }))
}

/// Returns the first `Some` that `f` returns for two pieces at the same position of two values of one length, from byte
/// `at` on.
fn pieces<T>(
    a: Toasted<'_>,
    b: Toasted<'_>,
    mut at: usize,
    f: impl Fn(&[u8], &[u8]) -> Option<T>,
) -> Option<T> {
    let len = a.len().min(b.len());
    // In a compressed value, each piece would be decompressed from the start.
    if len <= AT_ONCE || a.is_compressed() || b.is_compressed() {
        let (a, b) = (a.whole(), b.whole());
        return f(&a.bytes()[at..], &b.bytes()[at..]);
    }
    let [mut size, usual] = PIECES;
    while at < len {
        if let Some(found) = f(a.slice(at, size).bytes(), b.slice(at, size).bytes()) {
            return Some(found);
        }
        interrupts::check();
        at += size;
        size = usual;
    }
    None
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_hash(tensor: TensorIn<'_>) -> i32 {
    hash(tensor.0.bytes(), 0) as i32
}

/// With seed 0, the low 32 bits are those of `tensor_hash`, as PostgreSQL requires.
#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_hash_extended(tensor: TensorIn<'_>, seed: i64) -> i64 {
    hash(tensor.0.bytes(), seed) as i64
}

/// Returns the hash of a value; equal for equal values with the same seed.
pub fn hash(bytes: &[u8], seed: i64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for piece in bytes.chunks(PIECES[1]) {
        hasher.update(piece);
        interrupts::check();
    }
    if seed != 0 {
        hasher.update(&seed.to_le_bytes());
    }
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

pgrx::extension_sql_file!(
    "../../sql/extension/21_tensor_operators.sql",
    name = "tensor_operators",
    requires = [
        tensor_eq,
        tensor_ne,
        tensor_lt,
        tensor_le,
        tensor_gt,
        tensor_ge,
        tensor_cmp,
        tensor_hash,
        tensor_hash_extended
    ]
);
