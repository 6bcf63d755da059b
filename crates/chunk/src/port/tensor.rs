//! The port for the tensors of a store, and what they consist of.

use std::ops::Range;

use modelstore_tensor::{DType, Shape};
use uuid::Uuid;

use crate::port::ChunkStore;
use crate::verify::RecordedPiece;
use crate::{ChunkHash, Error, PieceInfo, Result};

/// A tensor as a store records it.
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
    /// An error when shape, dtype and size do not agree: somebody changed the row.
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
    /// The chunk that holds it.
    pub hash: ChunkHash,
    /// Row-major index of its first element.
    pub first_element: u64,
    /// Elements in it.
    pub element_count: u64,
}

impl StoredPiece {
    /// One past its last element.
    pub fn end(&self) -> u64 {
        self.first_element.saturating_add(self.element_count)
    }

    /// Where elements of its tensor, which lie in it, are in its raw bytes.
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

/// The identity of a stored tensor; the order is that in which tensors are inserted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// BLAKE3-256 of its raw bytes.
    pub content_hash: ChunkHash,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<u64>,
}

/// A tensor to be inserted.
#[derive(Clone, Copy, Debug)]
pub struct NewTensor<'a> {
    /// What it is.
    pub identity: &'a Identity,
    /// Its dimensions once more, with what follows from them.
    pub shape: &'a Shape,
    /// Its pieces, in order. Their chunks exist.
    pub pieces: &'a [PieceInfo],
}

/// A store of tensors, which consist of chunks.
pub trait TensorStore: ChunkStore {
    /// Those of the tensors that exist, kept from the collector until the transaction ends. `identities` is sorted and has
    /// no duplicates.
    fn lock_tensors(
        &mut self,
        identities: &[&Identity],
    ) -> Result<Vec<(Identity, Uuid)>, Self::Error>;

    /// The pieces of tensors, tensor after tensor and in order, each with the place of its tensor in the list. A tensor that
    /// does not have the dtype and the shape given has none. Not checked to cover it.
    fn pieces(
        &mut self,
        tensors: &[(Uuid, DType, &Shape)],
    ) -> Result<Vec<(usize, StoredPiece)>, Self::Error>;

    /// The same with everything that is recorded of the pieces, whatever dtype and shape their tensors have.
    fn recorded_pieces(&mut self, tensors: &[Uuid]) -> Result<Vec<RecordedPiece>, Self::Error>;

    /// Inserts tensors with their pieces unless they exist; returns the new keys. Tensors are given in the order of their
    /// identities, from one call to the next as well.
    fn add_tensors(&mut self, tensors: &[NewTensor<'_>]) -> Result<Vec<Option<Uuid>>, Self::Error>;

    /// The error for a tensor that can be neither inserted nor found, by its name.
    fn not_stored(&self, name: &str) -> Self::Error;
}
