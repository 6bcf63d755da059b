//! Finds a stored tensor and the list of its pieces.

use crate::chunks::spi_tensors::read_piece;
use crate::error::{Code, Failure, Result};
use crate::model::architecture::unknown_weight;
use crate::model::models;
use crate::pg::arguments::{from_sql_uuid, text, to_sql_uuid, uuid};
use crate::pg::query::Row;
use crate::store::Store;
use modelstore_chunk::read::Coverage;
use modelstore_chunk::{ChunkHash, StoredPiece, StoredTensor};
use modelstore_tensor::{DType, Shape};
use pgrx::datum::Uuid as SqlUuid;
use uuid::Uuid;

/// Columns that [`read_tensor`] reads, from a table or join in which `t` is `tensor_metadata`.
macro_rules! tensor_columns {
    () => {
        "t.tensor_id, t.dtype, t.shape, t.content_hash, t.raw_bytes"
    };
}
pub(crate) use tensor_columns;

/// Reads the columns of [`tensor_columns`], the first ones of the row.
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

/// Returns the tensor of a weight; 42704 if the model or the weight does not exist.
pub fn weight(store: &Store, model: Uuid, name: &str) -> Result<StoredTensor> {
    let found = store.row(
        concat!(
            "SELECT ",
            tensor_columns!(),
            // Two lookups: in a store with few weights, a join would hash one of the tables.
            " FROM @store@.tensor_metadata t WHERE t.tensor_id =
              (SELECT w.tensor_id FROM @store@.model_weights w WHERE w.model_id = $1 AND w.weight_name = $2)"
        ),
        &[uuid(model), text(name)],
        |row| read_tensor(row, Some(name.to_owned())),
    )?;
    match found {
        Some(tensor) => Ok(tensor.check()?),
        None => {
            models::require(store, model)?;
            Err(unknown_weight(store, model, name))
        }
    }
}

/// Returns a tensor by its key.
pub fn tensor(store: &Store, id: Uuid) -> Result<StoredTensor> {
    let found = store
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
        })?;
    Ok(found.check()?)
}

/// Tensors beyond this have many pieces.
const MANY_BYTES: u64 = 16 << 20;

/// The condition on `d`, `tensor_data`, for the pieces of tensor `$1` that contain elements from `$2` to before `$3`. All
/// pieces but the last have the size of the first: of many, those in question are found by their index, and the others are
/// not read.
pub fn within(tensor: &StoredTensor) -> &'static str {
    if tensor.raw_bytes <= MANY_BYTES {
        return "d.tensor_id = $1 AND d.first_element < $3 AND d.first_element + d.element_count > $2";
    }
    "d.tensor_id = $1 AND d.first_element < $3 AND d.first_element + d.element_count > $2
     AND d.chunk_index >= $2 / (SELECT greatest(f.element_count, 1) FROM @store@.tensor_data f WHERE f.tensor_id = $1 AND f.chunk_index = 0)
     AND d.chunk_index <= ($3 - 1) / (SELECT greatest(f.element_count, 1) FROM @store@.tensor_data f WHERE f.tensor_id = $1 AND f.chunk_index = 0)"
}

/// Returns the pieces of a tensor that contain elements `first..end`, in order; an error if there is a gap.
pub fn pieces(
    store: &Store,
    tensor: &StoredTensor,
    first: u64,
    end: u64,
) -> Result<Vec<StoredPiece>> {
    let pieces = store.rows(
        &format!(
            "SELECT d.chunk_hash, d.first_element, d.element_count FROM @store@.tensor_data d WHERE {} ORDER BY d.chunk_index",
            within(tensor)
        ),
        &[uuid(tensor.id), (first as i64).into(), (end as i64).into()],
        read_piece,
    )?;
    let mut coverage = Coverage::new(&tensor.label, first..end);
    pieces.iter().try_for_each(|piece| coverage.add(piece))?;
    coverage.finish()?;
    Ok(pieces)
}

/// Returns the chunks of several tensors, tensor after tensor, each with the index of its tensor in the list.
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

/// Returns all pieces of a tensor.
pub fn all_pieces(store: &Store, tensor: &StoredTensor) -> Result<Vec<StoredPiece>> {
    pieces(store, tensor, 0, tensor.shape.elements())
}
