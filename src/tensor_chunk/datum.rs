//! Passes encoded chunks between PostgreSQL and Rust: the bytes after the length word are `modelstore_chunk::header`
//! and the payload.

use crate::error::{Code, Failure, Result};
use crate::pg::varlena::{Building, Detoasted, Toasted, varlena_argument, varlena_result};
use modelstore_chunk::{ChunkHead, PREFIX_BYTES};

/// A whole chunk.
pub struct ChunkIn<'a>(pub Detoasted<'a>);

/// A chunk of which only the header or some blocks are needed.
pub struct ChunkRef<'a>(pub Toasted<'a>);

/// A result.
pub struct ChunkOut(pub Building);

varlena_argument!(ChunkIn, Detoasted, "tensor_chunk");
varlena_argument!(ChunkRef, Toasted, "tensor_chunk");
varlena_result!(
    ChunkOut,
    "tensor_chunk",
    crate::pg::extension::types().tensor_chunk
);

impl ChunkRef<'_> {
    /// Returns codec, width and raw length, from the first piece of the value.
    pub fn head(&self) -> Result<ChunkHead> {
        ChunkHead::parse(self.0.slice(0, PREFIX_BYTES).bytes()).map_err(|e| {
            Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                format!("stored chunk is corrupted: {e}"),
            )
        })
    }
}
