//! Pieces of stored tensors: how a tensor is split, how a piece is encoded and named, and how it is stored.
//!
//! Nothing here knows PostgreSQL. A [`Grid`] splits a tensor into [`Piece`]s of about a mebibyte; each is encoded
//! losslessly by an [`Encoder`] and named by the [`ChunkHash`] of its raw bytes, so that codecs may change without
//! changing identities. A [`Decoder`] reads it back, whole or only the blocks that a slice needs.
//!
//! A store is accessed through a [`port`]. [`write`], [`read`] and [`verify`] are the algorithms on it; they run in a
//! [`Session`], whose [`Pipeline`] works on threads for an owner that alone may access the database.

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
pub use codec::{Against, Codec, Decoder, Encoder};
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
