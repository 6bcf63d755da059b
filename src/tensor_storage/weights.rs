//! Attributes of weights: trainable or not, gradients; and which weights share a tensor.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::architecture::unknown_weight;
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::{maybe_uuid, text, to_sql_uuid, uuid};
use crate::store::Store;
use crate::tensor::datum::TensorIn;
use crate::tensor_storage::locate;
use crate::tensor_storage::write::write_value;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

type Shared = (SqlUuid, String, Vec<i64>, i64, Vec<String>);

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_trainable(model: Option<Regmodel>, pattern: Option<&str>, trainable: Option<bool>) -> i64 {
    or_raise((|| {
        let model = required(model, "model")?.0;
        let pattern = required(pattern, "pattern")?;
        let trainable = required(trainable, "trainable")?;
        let store = Store::current()?;
        models::require(&store, model)?;
        let set = store.execute(
            "UPDATE @store@.model_weights SET trainable = $3 WHERE model_id = $1 AND weight_name LIKE $2",
            &[uuid(model), text(pattern), trainable.into()],
        )?;
        Ok(set as i64)
    })())
}

#[pg_extern(volatile, parallel_unsafe, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn put_gradient(
    model: Option<Regmodel>,
    weight_name: Option<&str>,
    gradient: Option<TensorIn<'_>>,
) -> Option<SqlUuid> {
    or_raise((|| {
        let model = required(model, "model")?.0;
        let name = required(weight_name, "weight_name")?;
        put(model, name, gradient.as_ref())
    })())
}

/// NULL removes the gradient.
fn put(model: uuid::Uuid, name: &str, gradient: Option<&TensorIn<'_>>) -> Result<Option<SqlUuid>> {
    let store = Store::current()?;
    let weight = locate::weight(&store, model, name)?;
    let stored = match gradient {
        None => None,
        Some(gradient) => {
            let view = gradient.view()?;
            if *view.shape() != weight.shape {
                return Err(Failure::new(
                    Code::ERRCODE_DATA_EXCEPTION,
                    format!(
                        "gradient of shape {} does not fit weight \"{name}\" of shape {}",
                        view.shape(),
                        weight.shape
                    ),
                )
                .detail("A gradient has the shape of its weight; its dtype may differ."));
            }
            Some(write_value(&store, name, &view, None)?)
        }
    };
    let set = store.execute(
        "UPDATE @store@.model_weights SET gradient_tensor_id = $3 WHERE model_id = $1 AND weight_name = $2",
        &[uuid(model), text(name), maybe_uuid(stored)],
    )?;
    match set {
        // Deleted meanwhile, or hidden from an UPDATE by a policy.
        0 => Err(unknown_weight(&store, model, name)),
        _ => Ok(stored.map(to_sql_uuid)),
    }
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn duplicates() -> TableIterator<
    'static,
    (
        name!(tensor_id, SqlUuid),
        name!(dtype, String),
        name!(shape, Vec<i64>),
        name!(raw_bytes, i64),
        name!(weights, Vec<String>),
    ),
> {
    TableIterator::new(or_raise(shared()))
}

fn shared() -> Result<Vec<Shared>> {
    Store::for_reading()?.rows(
        "SELECT t.tensor_id, t.dtype, t.shape, t.raw_bytes, w.weights
         FROM (SELECT mw.tensor_id,
                      array_agg(m.model_name || ':' || m.version || ' ' || mw.weight_name
                                ORDER BY m.model_name, m.created_at, m.model_id, mw.weight_name) AS weights
               FROM @store@.model_weights mw JOIN @store@.models m USING (model_id)
               GROUP BY mw.tensor_id HAVING count(*) > 1) w
         JOIN @store@.tensor_metadata t USING (tensor_id)
         ORDER BY t.raw_bytes * (cardinality(w.weights) - 1) DESC, t.tensor_id",
        &[],
        |row| {
            Ok((
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
            ))
        },
    )
}
