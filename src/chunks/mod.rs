//! Chunks in the tables of a store.

pub mod chunk_array;
pub mod corruption;
pub mod spi_chunks;
