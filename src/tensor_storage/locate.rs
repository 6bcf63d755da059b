//! Finding a stored tensor and the list of its pieces.

use crate::error::{Code, Failure, Result};
use crate::registry::architecture::unknown_weight;
use crate::registry::models;
use crate::store::Store;
use crate::store::arguments::{from_sql_uuid, text, to_sql_uuid, uuid};
use crate::store::corruption::corrupted;
use crate::store::query::Row;
use modelstore_chunk::ChunkHash;
use modelstore_tensor::{DType, Shape};
use pgrx::datum::Uuid as SqlUuid;
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
            " FROM @store@.model_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
              WHERE w.model_id = $1 AND w.weight_name = $2"
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
        |row| {
            Ok(StoredPiece {
                hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(1)?)?,
                first_element: row.get::<i64>(2)? as u64,
                element_count: row.get::<i64>(3)? as u64,
            })
        },
    )?;
    let mut at = pieces.first().map_or(first, |p| p.first_element);
    let complete = at <= first
        && pieces.iter().all(|p| {
            let follows = p.first_element == at;
            at = p.first_element.saturating_add(p.element_count);
            follows
        })
        && at >= end;
    if complete || first >= end {
        return Ok(pieces);
    }
    Err(Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        format!(
            "pieces of tensor \"{}\" do not cover elements {first} to {end}",
            tensor.label
        ),
    )
    .hint(store.sql("SELECT * FROM modelstore.verify_store();")))
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

/// All pieces of a tensor.
pub fn all_pieces(store: &Store, tensor: &StoredTensor) -> Result<Vec<StoredPiece>> {
    pieces(store, tensor, 0, tensor.shape.elements())
}
