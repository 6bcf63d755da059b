//! The port for the tensors of a store, and their parts.

use std::ops::Range;

use modelstore_tensor::{DType, Shape};
use uuid::Uuid;

use crate::port::ChunkStore;
use crate::verify::RecordedPiece;
use crate::{ChunkHash, Error, PieceInfo, Result};

/// The record of a tensor in a store.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Its key.
    pub id: Uuid,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Shape,
    /// BLAKE3-256 of its raw bytes.
    pub content_hash: ChunkHash,
    /// Bytes of its elements.
    pub raw_bytes: u64,
    /// Its name in messages: the weight's, or the key.
    pub label: String,
}

impl StoredTensor {
    /// Returns where a piece ends in the raw bytes.
    pub fn end_of(&self, piece: &StoredPiece) -> Result<u64> {
        if piece.end() >= self.shape.elements() {
            return Ok(self.raw_bytes);
        }
        Ok(self.dtype.group_bytes(piece.end())? as u64)
    }

    /// Returns an error if shape, dtype and size contradict each other because the row was changed.
    pub fn check(self) -> Result<StoredTensor> {
        if self.shape.byte_len(self.dtype).ok() == Some(self.raw_bytes) {
            return Ok(self);
        }
        Err(Error::TensorSize {
            label: self.label,
            shape: self.shape.to_string(),
            dtype: self.dtype,
            raw_bytes: self.raw_bytes,
        })
    }
}

/// A piece of a stored tensor, without its zone map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPiece {
    /// The chunk that contains it.
    pub hash: ChunkHash,
    /// Row-major index of its first element.
    pub first_element: u64,
    /// Elements in it.
    pub element_count: u64,
}

impl StoredPiece {
    /// Returns one past its last element.
    pub fn end(&self) -> u64 {
        self.first_element.saturating_add(self.element_count)
    }

    /// Returns the range of its raw bytes that contains `elements`, given as indices in the tensor.
    pub fn raw_range(&self, tensor: &StoredTensor, elements: Range<u64>) -> Result<Range<u32>> {
        let byte = |element: u64| {
            let element = element.checked_sub(self.first_element);
            let bytes = element.map(|element| tensor.dtype.group_bytes(element));
            let bytes = bytes
                .transpose()?
                .and_then(|bytes| u32::try_from(bytes).ok());
            bytes.ok_or_else(|| Error::PieceTooLarge(tensor.label.clone()))
        };
        Ok(byte(elements.start)?..byte(elements.end)?)
    }
}

/// The identity of a stored tensor. Tensors are inserted in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// BLAKE3-256 of its raw bytes.
    pub content_hash: ChunkHash,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<u64>,
}

/// A tensor to insert.
#[derive(Clone, Copy, Debug)]
pub struct NewTensor<'a> {
    /// Its identity.
    pub identity: &'a Identity,
    /// Its dimensions, as a shape.
    pub shape: &'a Shape,
    /// Its pieces, in order. Their chunks exist.
    pub pieces: &'a [PieceInfo],
}

/// A store of tensors, which consist of chunks.
pub trait TensorStore: ChunkStore {
    /// Returns those tensors that exist, and protects them from gc until the transaction ends. `identities` is sorted,
    /// without duplicates.
    fn lock_tensors(
        &mut self,
        identities: &[&Identity],
    ) -> Result<Vec<(Identity, Uuid)>, Self::Error>;

    /// Returns the pieces of tensors, tensor after tensor and in order, each with the index of its tensor in the list.
    /// None for a tensor that does not have the given dtype and shape. Does not check that they cover the tensor.
    fn pieces(
        &mut self,
        tensors: &[(Uuid, DType, &Shape)],
    ) -> Result<Vec<(usize, StoredPiece)>, Self::Error>;

    /// Returns the full records of the pieces, whatever dtype and shape their tensors have.
    fn recorded_pieces(&mut self, tensors: &[Uuid]) -> Result<Vec<RecordedPiece>, Self::Error>;

    /// Inserts tensors that do not exist, with their pieces; returns the new keys. Tensors are passed in the order of
    /// identities, also across calls.
    fn add_tensors(&mut self, tensors: &[NewTensor<'_>]) -> Result<Vec<Option<Uuid>>, Self::Error>;

    /// Returns the error for a tensor, given by name, that can be neither inserted nor found.
    fn not_stored(&self, name: &str) -> Self::Error;
}
