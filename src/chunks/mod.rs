//! Chunks and tensors in the tables of a store.

pub mod chunk_array;
pub mod spi_chunks;
pub mod spi_tensors;
