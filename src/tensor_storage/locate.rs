//! Finding a stored tensor and the list of its pieces.

use crate::chunks::corruption::corrupted;
use crate::error::{Code, Failure, Result};
use crate::model::architecture::unknown_weight;
use crate::model::models;
use crate::pg::arguments::{from_sql_uuid, text, to_sql_uuid, uuid};
use crate::pg::query::Row;
use crate::store::Store;
use modelstore_chunk::ChunkHash;
use modelstore_tensor::{DType, Shape};
use pgrx::datum::Uuid as SqlUuid;
use std::ops::Range;
use uuid::Uuid;

/// A row of `tensor_metadata`.
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
    /// What messages call it: the weight's name, or the key.
    pub label: String,
}

/// A row of `tensor_data`, without the zone map.
#[derive(Clone, Debug)]
pub struct StoredPiece {
    /// The chunk that holds it.
    pub hash: ChunkHash,
    /// Row-major index of its first element.
    pub first_element: u64,
    /// Elements in it.
    pub element_count: u64,
}

impl StoredTensor {
    /// An error when shape, dtype and size do not agree: somebody changed the row.
    pub fn check(self) -> Result<StoredTensor> {
        if self.shape.byte_len(self.dtype).ok() == Some(self.raw_bytes) {
            return Ok(self);
        }
        Err(corrupted(format!(
            "tensor \"{}\" of shape {} and dtype {} is recorded with {} bytes",
            self.label, self.shape, self.dtype, self.raw_bytes
        )))
    }
}

/// Columns that [`read_tensor`] reads, from a table or join where `t` is `tensor_metadata`.
macro_rules! tensor_columns {
    () => {
        "t.tensor_id, t.dtype, t.shape, t.content_hash, t.raw_bytes"
    };
}
pub(crate) use tensor_columns;

/// Reads the columns of [`tensor_columns`], which come first in the row.
pub fn read_tensor(row: &Row<'_>, label: Option<String>) -> Result<StoredTensor> {
    let id = from_sql_uuid(row.get::<SqlUuid>(1)?);
    let dtype = DType::from_name(&row.get::<String>(2)?)?;
    let shape = Shape::from_i64(&row.get::<Vec<i64>>(3)?)?;
    let raw_bytes = row.get::<i64>(5)?;
    let label = label.unwrap_or_else(|| id.to_string());
    Ok(StoredTensor {
        id,
        dtype,
        shape,
        content_hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(4)?)?,
        raw_bytes: raw_bytes as u64,
        label,
    })
}

/// The tensor of a weight; 42704 when the model or the weight is unknown.
pub fn weight(store: &Store, model: Uuid, name: &str) -> Result<StoredTensor> {
    let found = store.row(
        concat!(
            "SELECT ",
            tensor_columns!(),
            // Two look-ups: of a store with few weights a join would hash one of the tables.
            " FROM @store@.tensor_metadata t WHERE t.tensor_id =
              (SELECT w.tensor_id FROM @store@.model_weights w WHERE w.model_id = $1 AND w.weight_name = $2)"
        ),
        &[uuid(model), text(name)],
        |row| read_tensor(row, Some(name.to_owned())),
    )?;
    match found {
        Some(tensor) => tensor.check(),
        None => {
            models::require(store, model)?;
            Err(unknown_weight(store, model, name))
        }
    }
}

/// A tensor by its key.
pub fn tensor(store: &Store, id: Uuid) -> Result<StoredTensor> {
    store
        .row(
            concat!(
                "SELECT ",
                tensor_columns!(),
                " FROM @store@.tensor_metadata t WHERE t.tensor_id = $1"
            ),
            &[uuid(id)],
            |row| read_tensor(row, None),
        )?
        .ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("tensor {id} does not exist"),
            )
            .hint(store.sql("SELECT tensor_id, dtype, shape FROM @store@.tensor_metadata;"))
        })?
        .check()
}

/// The pieces of a tensor that hold elements `first..end`, in order, checked to follow each other without a hole.
pub fn pieces(
    store: &Store,
    tensor: &StoredTensor,
    first: u64,
    end: u64,
) -> Result<Vec<StoredPiece>> {
    let pieces = store.rows(
        "SELECT chunk_hash, first_element, element_count FROM @store@.tensor_data
         WHERE tensor_id = $1 AND first_element < $3 AND first_element + element_count > $2
         ORDER BY chunk_index",
        &[uuid(tensor.id), (first as i64).into(), (end as i64).into()],
        read_piece,
    )?;
    let mut coverage = Coverage::new(store, tensor, first..end);
    pieces.iter().try_for_each(|piece| coverage.add(piece))?;
    coverage.finish()?;
    Ok(pieces)
}

/// Reads the columns chunk_hash, first_element and element_count, which come first in the row.
pub fn read_piece(row: &Row<'_>) -> Result<StoredPiece> {
    Ok(StoredPiece {
        hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(1)?)?,
        first_element: row.get::<i64>(2)? as u64,
        element_count: row.get::<i64>(3)? as u64,
    })
}

/// Checks, piece by piece, that a range of elements is covered without a hole.
pub struct Coverage<'a> {
    store: &'a Store,
    tensor: &'a StoredTensor,
    wanted: Range<u64>,
    at: Option<u64>,
}

impl<'a> Coverage<'a> {
    /// Of elements `wanted` of a tensor, before the first piece.
    pub fn new(store: &'a Store, tensor: &'a StoredTensor, wanted: Range<u64>) -> Coverage<'a> {
        Coverage {
            store,
            tensor,
            wanted,
            at: None,
        }
    }

    /// An error unless the piece is where the one before it ends, or covers the first element.
    pub fn add(&mut self, piece: &StoredPiece) -> Result<()> {
        let follows = match self.at {
            Some(at) => piece.first_element == at,
            None => piece.first_element <= self.wanted.start,
        };
        if !follows {
            return Err(self.hole());
        }
        self.at = Some(piece.first_element.saturating_add(piece.element_count));
        Ok(())
    }

    /// An error unless the last element is covered.
    pub fn finish(&self) -> Result<()> {
        if self.wanted.is_empty() || self.at.is_some_and(|at| at >= self.wanted.end) {
            return Ok(());
        }
        Err(self.hole())
    }

    fn hole(&self) -> Failure {
        Failure::new(
            Code::ERRCODE_DATA_CORRUPTED,
            format!(
                "pieces of tensor \"{}\" do not cover elements {} to {}",
                self.tensor.label, self.wanted.start, self.wanted.end
            ),
        )
        .hint(self.store.sql("SELECT * FROM modelstore.verify_store();"))
    }
}

/// The chunks of several tensors, tensor after tensor, each with the place of its tensor in the list.
pub fn chunks_of(store: &Store, tensors: &[Uuid]) -> Result<Vec<(usize, ChunkHash)>> {
    let ids: Vec<SqlUuid> = tensors.iter().map(|id| to_sql_uuid(*id)).collect();
    store.rows(
        "SELECT t.place, d.chunk_hash
         FROM unnest($1) WITH ORDINALITY AS t(tensor_id, place) JOIN @store@.tensor_data d USING (tensor_id)
         ORDER BY t.place, d.chunk_index",
        &[ids.into()],
        |row| {
            let place = usize::try_from(row.get::<i64>(1)? - 1).unwrap_or(0);
            Ok((place, ChunkHash::from_slice(&row.get::<Vec<u8>>(2)?)?))
        },
    )
}

/// The pieces of several tensors, tensor after tensor, each with the place of its tensor in the list. Not checked.
pub fn pieces_of(store: &Store, tensors: &[Uuid]) -> Result<Vec<(usize, StoredPiece)>> {
    let ids: Vec<SqlUuid> = tensors.iter().map(|id| to_sql_uuid(*id)).collect();
    store.rows(
        "SELECT d.chunk_hash, d.first_element, d.element_count, t.place
         FROM unnest($1) WITH ORDINALITY AS t(tensor_id, place)
         CROSS JOIN LATERAL (SELECT d.chunk_hash, d.first_element, d.element_count, d.chunk_index FROM @store@.tensor_data d
                             WHERE d.tensor_id = t.tensor_id OFFSET 0) d
         ORDER BY t.place, d.chunk_index",
        &[ids.into()],
        |row| Ok((usize::try_from(row.get::<i64>(4)? - 1).unwrap_or(0), read_piece(row)?)),
    )
}

/// All pieces of a tensor.
pub fn all_pieces(store: &Store, tensor: &StoredTensor) -> Result<Vec<StoredPiece>> {
    pieces(store, tensor, 0, tensor.shape.elements())
}
