//! The SQL type `modelstore.tensor`: datums, input and output, casts, functions and operators.

pub mod cast;
pub mod compare;
pub mod datum;
pub mod interrupts;
pub mod io;
pub mod math;
pub mod numeric;
pub mod pgvector;
mod preview;
pub mod shape;
pub mod tensor_array;
