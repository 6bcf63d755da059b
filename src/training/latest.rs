//! Finding a checkpoint, the newest or the best, and what it has.

use crate::error::{Code, Failure, Result, or_raise};
use crate::registry::models;
use crate::store::Store;
use crate::store::arguments::{from_sql_uuid, text, to_sql_uuid, uuid};
use crate::tensor_storage::state_dict::StateDict;
use modelstore_training::retention::Mode;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

/// The checkpoint of the highest step, then epoch, then the one made last, whatever the clock said; NULL when the model
/// has none.
#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn get_latest_checkpoint(model_id: SqlUuid) -> Option<SqlUuid> {
    or_raise(newest(from_sql_uuid(model_id))).map(to_sql_uuid)
}

fn newest(model: Uuid) -> Result<Option<Uuid>> {
    let store = Store::for_reading()?;
    models::require(&store, model)?;
    store.row(
        "SELECT checkpoint_id FROM @store@.model_checkpoints WHERE model_id = $1
         ORDER BY step DESC, epoch DESC NULLS LAST, sequence DESC LIMIT 1",
        &[uuid(model)],
        |row| Ok(from_sql_uuid(row.get::<SqlUuid>(1)?)),
    )
}

/// The checkpoint whose own metrics have the smallest or largest figure of that name; of equal ones the newest. NaN is
/// never best; NULL when no checkpoint has the figure.
#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn get_best_checkpoint(
    model_id: SqlUuid,
    metric: default!(&str, "'loss'"),
    mode: default!(&str, "'min'"),
) -> Option<SqlUuid> {
    or_raise(best(from_sql_uuid(model_id), metric, mode)).map(to_sql_uuid)
}

fn best(model: Uuid, metric: &str, mode: &str) -> Result<Option<Uuid>> {
    let store = Store::for_reading()?;
    models::require(&store, model)?;
    let direction = match check_mode(mode)? {
        Mode::Min => "ASC",
        Mode::Max => "DESC",
    };
    store.row(
        &format!(
            "SELECT checkpoint_id FROM (
                 SELECT checkpoint_id, step, epoch, sequence, {METRIC} AS figure
                 FROM @store@.model_checkpoints WHERE model_id = $1
             ) c
             WHERE figure IS NOT NULL AND figure <> 'NaN'
             ORDER BY figure {direction}, step DESC, epoch DESC NULLS LAST, sequence DESC LIMIT 1"
        ),
        &[uuid(model), text(metric)],
        |row| Ok(from_sql_uuid(row.get::<SqlUuid>(1)?)),
    )
}

/// The weights of a checkpoint by name.
#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn checkpoint_weights_at(
    checkpoint_id: SqlUuid,
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
        let (store, checkpoint) = (Store::for_reading()?, from_sql_uuid(checkpoint_id));
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

/// The figure named `$2` of a checkpoint's metrics, or NULL where it is no number. Strings are those that stand for the
/// numbers JSON lacks.
pub const METRIC: &str = "CASE WHEN jsonb_typeof(metrics -> $2) = 'number'
       OR lower(metrics ->> $2) IN ('nan', 'inf', '+inf', '-inf', 'infinity', '+infinity', '-infinity')
     THEN (metrics ->> $2)::double precision END";

/// `min` or `max`.
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
