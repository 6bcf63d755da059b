//! The type `regcheckpoint`: reads names of checkpoints, as `regmodel` does for models.

use crate::error::{Code, Failure, Result, or_raise};
use crate::model::arguments::Regcheckpoint;
use crate::model::regmodel::{self, utf8};
use crate::model::state_dict::missing_checkpoint;
use crate::pg::arguments::{from_sql_uuid, to_sql_uuid, uuid};
use crate::pg::snapshot::with_active_snapshot;
use crate::pg::soft_error::ErrorSink;
use crate::store::Store;
use crate::training::latest;
use modelstore_names::{CheckpointReference, Step};
use modelstore_training::retention::Mode;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::ffi::CStr;
use uuid::Uuid;

/// Checkpoints or steps that an error lists.
const LISTED: i64 = 10;

/// The metric by which `#best` is the best: the lowest is.
const METRIC: &str = "loss";

#[pg_extern(stable, strict, parallel_restricted, sql = false)]
fn regcheckpoint_in(input: &CStr, errors: ErrorSink) -> Option<SqlUuid> {
    let found = utf8(input, "regcheckpoint").and_then(read);
    errors.or_save(found.map(to_sql_uuid))
}

/// As `regcheckpoint_in`, for the casts from text and varchar.
#[pg_extern(stable, strict, parallel_restricted, sql = false)]
fn to_regcheckpoint(name: &str) -> SqlUuid {
    or_raise(read(name).map(to_sql_uuid))
}

fn read(text: &str) -> Result<Uuid> {
    match CheckpointReference::parse(text)? {
        CheckpointReference::Id(id) => Ok(id),
        CheckpointReference::Of { model, step } => with_active_snapshot(|| {
            let store = Store::for_reading()?;
            let model = regmodel::resolve(&store, model)?;
            match step {
                Step::Number(step) => at_step(&store, model, step),
                Step::Latest => latest::own(&store, model)?
                    .ok_or_else(|| without(&store, model, "has no checkpoint")),
                Step::Best => {
                    latest::best(&store, model, METRIC, Mode::Min, None)?.ok_or_else(|| {
                        without(&store, model, "has no checkpoint with metric \"loss\"")
                    })
                }
            }
        }),
    }
}

/// Finds the only checkpoint of a model at a step.
fn at_step(store: &Store, model: Uuid, step: i64) -> Result<Uuid> {
    let found = store.rows(
        "SELECT checkpoint_id FROM @store@.model_checkpoints WHERE model_id = $1 AND step = $2
         ORDER BY created_at, checkpoint_id LIMIT $3",
        &[uuid(model), step.into(), (LISTED + 1).into()],
        |row| row.get::<SqlUuid>(1),
    )?;
    match found.as_slice() {
        [one] => Ok(from_sql_uuid(*one)),
        [] => {
            let label = regmodel::label(store, model)?;
            let failure = Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("model \"{label}\" has no checkpoint at step {step}"),
            );
            let near = store.rows(
                "SELECT step::text FROM (SELECT DISTINCT step FROM @store@.model_checkpoints WHERE model_id = $1) s
                 ORDER BY abs(step::numeric - $2), step LIMIT $3",
                &[uuid(model), step.into(), LISTED.into()],
                |row| row.get::<String>(1),
            )?;
            Err(failure
                .detail(match near.is_empty() {
                    true => "It has no checkpoints.".to_owned(),
                    false => format!("Nearest steps: {}.", near.join(", ")),
                })
                .hint(all_of(store, model)))
        }
        several => {
            let label = regmodel::label(store, model)?;
            let mut listed: Vec<String> = several
                .iter()
                .take(LISTED as usize)
                .map(|id| from_sql_uuid(*id).to_string())
                .collect();
            if several.len() > listed.len() {
                listed.push("…".to_owned());
            }
            Err(Failure::new(
                Code::ERRCODE_AMBIGUOUS_PARAMETER,
                format!("model \"{label}\" has several checkpoints at step {step}"),
            )
            .detail(format!("They are {}.", listed.join(", ")))
            .hint(store.sql(&format!(
                "SELECT checkpoint_id, session_id, created_at FROM @store@.model_checkpoints WHERE model_id = '{model}' AND step = {step};"
            ))))
        }
    }
}

fn without(store: &Store, model: Uuid, what: &str) -> Failure {
    match regmodel::label(store, model) {
        Ok(label) => Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("model \"{label}\" {what}"),
        )
        .hint(all_of(store, model)),
        Err(failure) => failure,
    }
}

fn all_of(store: &Store, model: Uuid) -> String {
    store.sql(&format!(
        "SELECT step, checkpoint_id, metrics FROM @store@.model_checkpoints WHERE model_id = '{model}' ORDER BY step;"
    ))
}

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn checkpoint_label(checkpoint: Regcheckpoint) -> String {
    or_raise((|| {
        let store = Store::for_reading()?;
        let found = store.row(
            "SELECT m.model_name || ':' || m.version || '#' || c.step
             FROM @store@.model_checkpoints c JOIN @store@.models m USING (model_id) WHERE c.checkpoint_id = $1",
            &[uuid(checkpoint.0)],
            |row| row.get::<String>(1),
        )?;
        found.ok_or_else(|| missing_checkpoint(&store, checkpoint.0))
    })())
}
