//! The SQL type `modelstore.tensor_chunk`: one encoded piece of a stored tensor.

pub mod datum;
pub mod io;
