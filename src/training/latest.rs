//! Finds the newest or the best checkpoint, and lists its weights.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::{Regcheckpoint, Regmodel};
use crate::model::models;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{from_sql_uuid, maybe_uuid, text, to_sql_uuid, uuid};
use crate::store::Store;
use crate::training::sessions;
use modelstore_training::retention::Mode;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn get_latest_checkpoint(
    model: Option<Regmodel>,
    session_id: default!(Option<SqlUuid>, "NULL"),
) -> Option<SqlUuid> {
    or_raise((|| {
        let model = required(model, "model")?.0;
        let store = Store::for_reading()?;
        newest(&store, model, session_id.map(from_sql_uuid))
    })())
    .map(to_sql_uuid)
}

/// Implements `get_latest_checkpoint`.
pub fn newest(store: &Store, model: Uuid, session: Option<Uuid>) -> Result<Option<Uuid>> {
    require(store, model, session)?;
    let found = store.row(
        "SELECT coalesce(
             (SELECT c.checkpoint_id FROM @store@.model_checkpoints c
              WHERE c.model_id = $1 AND ($2 IS NULL OR c.session_id = $2)
              ORDER BY c.step DESC, c.epoch DESC NULLS LAST, c.sequence DESC LIMIT 1),
             (SELECT s.resumed_from_checkpoint_id FROM @store@.training_sessions s WHERE s.session_id = $2),
             (SELECT m.restored_checkpoint_id FROM @store@.models m WHERE m.model_id = $1))",
        &[uuid(model), maybe_uuid(session)],
        |row| row.opt::<SqlUuid>(1),
    )?;
    Ok(found.flatten().map(from_sql_uuid))
}

/// Finds the newest checkpoint of the model itself, not the one that it was restored from.
pub fn own(store: &Store, model: Uuid) -> Result<Option<Uuid>> {
    models::require(store, model)?;
    let found = store.row(
        "SELECT checkpoint_id FROM @store@.model_checkpoints WHERE model_id = $1
         ORDER BY step DESC, epoch DESC NULLS LAST, sequence DESC LIMIT 1",
        &[uuid(model)],
        |row| row.get::<SqlUuid>(1),
    )?;
    Ok(found.map(from_sql_uuid))
}

/// Requires that the model exists, and that the run belongs to it.
fn require(store: &Store, model: Uuid, session: Option<Uuid>) -> Result<()> {
    models::require(store, model)?;
    match session {
        Some(session) => sessions::require_of_model(store, session, model),
        None => Ok(()),
    }
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn get_best_checkpoint(
    model: Option<Regmodel>,
    metric: default!(Option<&str>, "'loss'"),
    mode: default!(Option<&str>, "'min'"),
    session_id: default!(Option<SqlUuid>, "NULL"),
) -> Option<SqlUuid> {
    or_raise((|| {
        let model = required(model, "model")?.0;
        let (metric, mode) = (required(metric, "metric")?, required(mode, "mode")?);
        let (store, mode) = (Store::for_reading()?, check_mode(mode)?);
        best(&store, model, metric, mode, session_id.map(from_sql_uuid))
    })())
    .map(to_sql_uuid)
}

/// Implements `get_best_checkpoint`.
pub fn best(
    store: &Store,
    model: Uuid,
    metric: &str,
    mode: Mode,
    session: Option<Uuid>,
) -> Result<Option<Uuid>> {
    require(store, model, session)?;
    let direction = match mode {
        Mode::Min => "ASC",
        Mode::Max => "DESC",
    };
    store.row(
        &format!(
            "SELECT checkpoint_id FROM (
                 SELECT checkpoint_id, step, epoch, sequence, {METRIC} AS figure
                 FROM @store@.model_checkpoints WHERE model_id = $1 AND ($3 IS NULL OR session_id = $3)
             ) c
             WHERE figure IS NOT NULL AND figure <> 'NaN'
             ORDER BY figure {direction}, step DESC, epoch DESC NULLS LAST, sequence DESC LIMIT 1"
        ),
        &[uuid(model), text(metric), maybe_uuid(session)],
        |row| Ok(from_sql_uuid(row.get::<SqlUuid>(1)?)),
    )
}

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn checkpoint_weights_at(
    checkpoint: Regcheckpoint,
) -> TableIterator<
    'static,
    (
        name!(weight_name, String),
        name!(tensor_id, SqlUuid),
        name!(dtype, String),
        name!(shape, Vec<i64>),
        name!(raw_bytes, i64),
    ),
> {
    TableIterator::new(or_raise((|| {
        let (store, checkpoint) = (Store::for_reading()?, checkpoint.0);
        StateDict::Checkpoint(checkpoint).require(&store)?;
        store.rows(
            "SELECT w.weight_name, t.tensor_id, t.dtype, t.shape, t.raw_bytes
             FROM @store@.checkpoint_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
             WHERE w.checkpoint_id = $1 ORDER BY w.weight_name",
            &[uuid(checkpoint)],
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
    })()))
}

/// The metric named `$2` of a checkpoint, or NULL if it is not a number. Strings represent the numbers that JSON lacks;
/// true and false are 1 and 0.
pub const METRIC: &str = "CASE WHEN jsonb_typeof(metrics -> $2) = 'boolean' THEN (metrics ->> $2)::boolean::integer::double precision
     WHEN jsonb_typeof(metrics -> $2) = 'number'
       OR lower(metrics ->> $2) IN ('nan', 'inf', '+inf', '-inf', 'infinity', '+infinity', '-infinity')
     THEN (metrics ->> $2)::double precision END";

/// Parses `min` or `max`.
pub fn check_mode(mode: &str) -> Result<Mode> {
    match mode {
        "min" => Ok(Mode::Min),
        "max" => Ok(Mode::Max),
        _ => Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("invalid mode \"{mode}\""),
        )
        .detail("Expected min or max.")),
    }
}
