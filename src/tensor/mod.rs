//! The SQL type `modelstore.tensor`: datums, input and output, casts, functions and operators.

pub mod array;
pub mod cast;
pub mod compare;
pub mod datum;
pub mod io;
pub mod math;
pub mod pgvector;
pub mod shape;
