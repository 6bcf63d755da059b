//! Finds anomalous weights, from the zone maps where these suffice.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::{from_sql_uuid, maybe_uuid};
use crate::store::Store;
use crate::tensor_storage::locate;
use crate::tensor_storage::stream::ChunkStream;
use modelstore_tensor::ZeroRows;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

type Found = (SqlUuid, String, i64);

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn find_weights_with(
    what: Option<&str>,
    model: default!(Option<Regmodel>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(weight_name, String),
        name!(count, i64),
    ),
> {
    TableIterator::new(or_raise(
        required(what, "what").and_then(|what| find(what, model.map(|model| model.0))),
    ))
}

fn find(what: &str, model: Option<Uuid>) -> Result<Vec<Found>> {
    let store = Store::for_reading()?;
    if let Some(model) = model {
        models::require(&store, model)?;
    }
    let (having, counted) = match what {
        "nan" => ("sum(d.nan_count) > 0", "sum(d.nan_count)"),
        "inf" => ("sum(d.inf_count) > 0", "sum(d.inf_count)"),
        "constant" => (
            "min(d.value_min) = max(d.value_max) AND sum(d.nan_count) = 0",
            "sum(d.element_count)",
        ),
        "dead_rows" => return dead_rows(&store, model),
        other => {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("cannot find weights with \"{other}\""),
            )
            .detail("Expected nan, inf, constant or dead_rows.")
            .hint("SELECT * FROM modelstore.find_weights_with('nan');"));
        }
    };
    store.rows(
        &format!(
            "SELECT w.model_id, w.weight_name, ({counted})::bigint
             FROM @store@.model_weights w JOIN @store@.tensor_data d USING (tensor_id)
             WHERE $1 IS NULL OR w.model_id = $1
             GROUP BY w.model_id, w.weight_name HAVING {having} ORDER BY 1, 2"
        ),
        &[maybe_uuid(model)],
        |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?)),
    )
}

/// Decodes only tensors with at least as many zeros as a row has elements.
fn dead_rows(store: &Store, model: Option<Uuid>) -> Result<Vec<Found>> {
    let candidates = store.rows(
        "SELECT w.model_id, w.weight_name, t.tensor_id
         FROM @store@.model_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
         WHERE ($1 IS NULL OR w.model_id = $1) AND cardinality(t.shape) >= 2 AND t.element_count > 0
           AND (SELECT sum(d.zero_count) FROM @store@.tensor_data d WHERE d.tensor_id = t.tensor_id) >= t.element_count / t.shape[1]
         ORDER BY 1, 2",
        &[maybe_uuid(model)],
        |row| Ok((row.get::<SqlUuid>(1)?, row.get::<String>(2)?, from_sql_uuid(row.get(3)?))),
    )?;
    let mut found = Vec::new();
    for (model, name, id) in candidates {
        let count = dead_rows_of(store, id)?;
        if count > 0 {
            found.push((model, name, count));
        }
    }
    Ok(found)
}

/// Counts rows whose elements all equal zero.
fn dead_rows_of(store: &Store, id: Uuid) -> Result<i64> {
    let tensor = locate::tensor(store, id)?;
    let mut zero = ZeroRows::new(tensor.dtype, tensor.shape.row_elements())?;
    let mut stream = ChunkStream::of_tensor(store, &tensor, locate::all_pieces(store, &tensor)?)?;
    while let Some(raw) = stream.next()? {
        zero.update(&raw);
        stream.recycle(raw);
    }
    Ok(zero.rows() as i64)
}
