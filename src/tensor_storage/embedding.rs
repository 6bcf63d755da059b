//! Rows of an embedding by ID.

use crate::error::{Code, Failure, Result, or_raise};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::{text, uuid};
use crate::store::Store;
use crate::tensor::datum::TensorOut;
use crate::tensor_storage::locate;
use crate::tensor_storage::partial::gather;
use modelstore_chunk::read::Run;
use modelstore_tensor::Shape;
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(stable, strict, parallel_restricted, cost = 1000, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn embedding(model: Regmodel, ids: Vec<Option<i64>>, kind: default!(&str, "'token'")) -> TensorOut {
    or_raise(rows(model.0, kind, &ids))
}

// As for get_tensor_slice, whose statement and plan it shares.
pgrx::extension_sql!(
    "ALTER FUNCTION modelstore.embedding(modelstore.regmodel, bigint[], text) SET enable_seqscan = off;",
    name = "embedding_by_key",
    requires = [embedding]
);

fn rows(model: Uuid, kind: &str, ids: &[Option<i64>]) -> Result<TensorOut> {
    let store = Store::for_reading()?;
    let tensor = locate::weight(&store, model, &weight_of(&store, model, kind)?)?;
    let [row_count, dim] = *tensor.shape.dims() else {
        return Err(Failure::new(
            Code::ERRCODE_WRONG_OBJECT_TYPE,
            format!(
                "embedding \"{}\" of shape {} is not a matrix",
                tensor.label, tensor.shape
            ),
        ));
    };
    let ids: Vec<u64> = ids
        .iter()
        .map(|id| check(*id, row_count, &tensor.label))
        .collect::<Result<_>>()?;
    let mut out = TensorOut::zeroed(tensor.dtype, &Shape::new(&[ids.len() as u64, dim])?)?;
    let row_bytes = tensor.dtype.group_bytes(dim)?;
    // In the order of rows, so that each block is decoded once: O(ids · log ids).
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_unstable_by_key(|&i| ids[i]);
    let (Some(first), Some(last)) = (order.first(), order.last()) else {
        return Ok(out);
    };
    if row_bytes == 0 {
        return Ok(out);
    }
    let wanted = ids[*first] * dim..(ids[*last] + 1) * dim;
    let runs = order.iter().map(|&i| Run {
        start: ids[i] * dim,
        count: dim,
        to: i * row_bytes,
    });
    gather(&store, &tensor, wanted, runs, out.elements_mut(2))?;
    Ok(out)
}

fn check(id: Option<i64>, rows: u64, name: &str) -> Result<u64> {
    let id = id.ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "ids must not contain nulls",
        )
    })?;
    u64::try_from(id)
        .ok()
        .filter(|&id| id < rows)
        .ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_ARRAY_ELEMENT_ERROR,
                format!("id {id} is out of range for embedding \"{name}\""),
            )
            .detail(format!("It has {rows} rows, from 0."))
        })
}

fn weight_of(store: &Store, model: Uuid, kind: &str) -> Result<String> {
    let found = store.row(
        "SELECT weight_name FROM @store@.embeddings WHERE model_id = $1 AND kind = $2",
        &[uuid(model), text(kind)],
        |row| row.get(1),
    )?;
    match found {
        Some(name) => Ok(name),
        None => {
            models::require(store, model)?;
            Err(Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("model {model} has no embedding of kind \"{kind}\""),
            )
            .detail(
                "Kinds are token, position and segment, where the names of the weights show them.",
            )
            .hint(store.sql(&format!(
                "SELECT kind, weight_name FROM @store@.embeddings WHERE model_id = '{model}';"
            ))))
        }
    }
}
