//! Rows of an embedding by id.

use crate::error::{Code, Failure, Result, or_raise};
use crate::model::models;
use crate::pg::arguments::{from_sql_uuid, text, uuid};
use crate::store::Store;
use crate::tensor::datum::TensorOut;
use crate::tensor::shape::group_bytes;
use crate::tensor_storage::locate;
use crate::tensor_storage::partial::PartialReader;
use modelstore_tensor::Shape;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::ops::Range;
use uuid::Uuid;

/// One row for each id, in the order given: a tensor of shape (ids, dim).
#[pg_extern(stable, strict, parallel_restricted, cost = 1000, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn embedding(model_id: SqlUuid, kind: &str, ids: Vec<Option<i64>>) -> TensorOut {
    or_raise(rows(from_sql_uuid(model_id), kind, &ids))
}

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
    let row_bytes = group_bytes(tensor.dtype, dim)?;
    if row_bytes == 0 || ids.is_empty() {
        return Ok(out);
    }
    // Ids in the order of the rows, so that neighbours are read together.
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_unstable_by_key(|&i| ids[i]);
    let (first, last) = (ids[order[0]], ids[order[order.len() - 1]]);
    let pieces = locate::pieces(&store, &tensor, first * dim, (last + 1) * dim)?;
    let reader = PartialReader::new(&store, &tensor);
    let elements = out.elements_mut(2);
    let mut next = 0;
    for span in spans(&order, &ids) {
        let rows = ids[order[span.start]]..ids[order[span.end - 1]] + 1;
        let mut raw = Vec::with_capacity(row_bytes * (rows.end - rows.start) as usize);
        let wanted = rows.start * dim..rows.end * dim;
        while pieces[next].first_element + pieces[next].element_count <= wanted.start {
            next += 1;
        }
        for piece in pieces[next..]
            .iter()
            .take_while(|p| p.first_element < wanted.end)
        {
            let piece_end = piece.first_element + piece.element_count;
            let range = wanted.start.max(piece.first_element)..wanted.end.min(piece_end);
            raw.extend_from_slice(&reader.elements(piece, range)?);
        }
        for &i in &order[span] {
            let from = (ids[i] - rows.start) as usize * row_bytes;
            elements[i * row_bytes..(i + 1) * row_bytes]
                .copy_from_slice(&raw[from..from + row_bytes]);
        }
        pgrx::check_for_interrupts!();
    }
    Ok(out)
}

/// Ids that lie close enough to be read in one go: reading a few rows in between costs less than another look-up.
fn spans(order: &[usize], ids: &[u64]) -> Vec<Range<usize>> {
    const GAP: u64 = 32;
    const MOST: u64 = 4096;
    let mut spans: Vec<Range<usize>> = Vec::new();
    for place in 0..order.len() {
        let id = ids[order[place]];
        match spans.last_mut() {
            Some(span)
                if id - ids[order[span.end - 1]] <= GAP && id - ids[order[span.start]] <= MOST =>
            {
                span.end = place + 1;
            }
            _ => spans.push(place..place + 1),
        }
    }
    spans
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
