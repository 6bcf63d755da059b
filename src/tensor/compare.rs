//! Equality and hashing of `tensor`: dtype, shape and bits.

use crate::tensor::datum::TensorIn;
use pgrx::prelude::*;

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_eq(a: TensorIn<'_>, b: TensorIn<'_>) -> bool {
    a.0.bytes() == b.0.bytes()
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_ne(a: TensorIn<'_>, b: TensorIn<'_>) -> bool {
    a.0.bytes() != b.0.bytes()
}

#[pg_extern(immutable, strict, parallel_safe, requires = ["tensor_type"])]
fn tensor_hash(tensor: TensorIn<'_>) -> i32 {
    let hash = blake3::hash(tensor.0.bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    i32::from_le_bytes([a, b, c, d])
}

pgrx::extension_sql_file!(
    "../../sql/extension/21_tensor_operators.sql",
    name = "tensor_operators",
    requires = [tensor_eq, tensor_ne, tensor_hash]
);
