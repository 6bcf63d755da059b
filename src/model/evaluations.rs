//! Results of evaluations of a model, kept with it.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::names;
use crate::pg::arguments::{maybe_jsonb, text, uuid};
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn log_evaluation(
    model: Option<Regmodel>,
    dataset: Option<&str>,
    metrics: Option<Jsonb<'_>>,
) -> i32 {
    or_raise((|| {
        let model = required(model, "model")?.0;
        let dataset = required(dataset, "dataset")?;
        append(model, dataset, &required(metrics, "metrics")?)
    })())
}

/// Returns the number of evaluations that the model has now.
fn append(model: Uuid, dataset: &str, metrics: &Jsonb<'_>) -> Result<i32> {
    names::check("dataset", dataset)?;
    if !metrics.is_object() {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "metrics must be an object",
        )
        .detail("Its keys are names of metrics."));
    }
    let store = Store::current()?;
    let count = store.write(
        "UPDATE @store@.models SET evaluations = evaluations || jsonb_build_array(jsonb_build_object(
             'dataset', $2, 'metrics', $3, 'evaluated_at', now(), 'evaluated_by', current_user))
         WHERE model_id = $1 RETURNING jsonb_array_length(evaluations)",
        &[uuid(model), text(dataset), maybe_jsonb(Some(metrics))],
        |row| row.get::<i32>(1),
    )?;
    count
        .first()
        .copied()
        .ok_or_else(|| models::unknown(&store, model))
}
