//! Pieces of stored tensors: how a tensor is cut, how a piece is encoded and named, and how it is kept.
//!
//! Nothing here knows PostgreSQL. A tensor is cut by a [`Grid`] into [`Piece`]s of about a mebibyte; each is encoded
//! without loss by an [`Encoder`] and named by the [`ChunkHash`] of its raw bytes, so that a codec may change without
//! changing an identity. A [`Decoder`] reads it back, whole or only the blocks that a slice touches.
//!
//! A store is behind a [`port`]. [`write`], [`read`] and [`verify`] are the algorithms over it; they run in a [`Session`], whose
//! [`Pipeline`] does the work on threads for an owner that alone may touch the database.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod buffers;
pub mod codec;
pub mod error;
pub mod grid;
pub mod hash;
pub mod header;
pub mod in_order;
pub mod manifest;
pub mod port;
pub mod range;
pub mod read;
pub mod resumable;
pub mod verify;
pub mod workers;
pub mod write;

pub use buffers::Buffers;
pub use codec::{Codec, Decoder, Encoder};
pub use error::{Error, Result};
pub use grid::{DEFAULT_CHUNK_BYTES, Grid, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, Piece, grid};
pub use hash::ChunkHash;
pub use header::{ChunkHead, PREFIX_BYTES};
pub use in_order::InOrder;
pub use manifest::{ContentHasher, PieceInfo};
pub use port::{
    ChunkStore, EncodedChunk, Identity, MAX_DELTA_DEPTH, Memory, MemoryStore, NewChunk, NewTensor,
    Recorded, SMALL_CHUNK, Session, Source, StoredPiece, StoredTensor, TensorStore,
};
pub use range::{RangePlan, block_index_len, plan_range};
pub use read::ReadError;
pub use workers::{Pipeline, Workers};
