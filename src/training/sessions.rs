//! Training runs: started, finished.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::jsonb::Jsonb;
use crate::names;
use crate::registry::models;
use crate::store::Store;
use crate::store::arguments::{from_sql_uuid, maybe_jsonb, maybe_text, text, to_sql_uuid, uuid};
use pgrx::datum::{Interval, Uuid as SqlUuid};
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn start_training(
    model_id: Option<SqlUuid>,
    config: default!(Option<Jsonb<'_>>, "NULL"),
    session_name: default!(Option<&str>, "NULL"),
    total_steps: default!(Option<i64>, "NULL"),
    loss_metric: default!(&str, "'loss'"),
    host: default!(Option<&str>, "NULL"),
) -> SqlUuid {
    or_raise((|| {
        let store = Store::current()?;
        let model = from_sql_uuid(required(model_id, "model_id")?);
        models::require(&store, model)?;
        if let Some(steps) = total_steps.filter(|&n| n < 1) {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("total steps {steps} is not positive"),
            ));
        }
        names::check("loss metric", loss_metric)?;
        session_name
            .map(|name| names::check("session name", name))
            .transpose()?;
        let id = Uuid::now_v7();
        store.execute(
            "INSERT INTO @store@.training_sessions (session_id, model_id, session_name, config, total_steps, loss_metric, host, started_at)
             VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, host(inet_client_addr())), clock_timestamp())",
            &[
                uuid(id),
                uuid(model),
                maybe_text(session_name),
                maybe_jsonb(config.as_ref()),
                total_steps.into(),
                text(loss_metric),
                maybe_text(host),
            ],
        )?;
        Ok(to_sql_uuid(id))
    })())
}

/// Ends a run and returns how long it took.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn finish_training(
    session_id: Option<SqlUuid>,
    status: default!(&str, "'completed'"),
    error: default!(Option<&str>, "NULL"),
) -> Option<Interval> {
    or_raise((|| {
        let session = from_sql_uuid(required(session_id, "session_id")?);
        finish(&Store::current()?, session, status, error)
    })())
}

fn finish(
    store: &Store,
    session: Uuid,
    status: &str,
    error: Option<&str>,
) -> Result<Option<Interval>> {
    if !matches!(status, "completed" | "failed" | "cancelled") {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("training cannot end as \"{status}\""),
        )
        .detail("A run ends as completed, failed or cancelled."));
    }
    let finished = store.write(
        "UPDATE @store@.training_sessions SET status = $2, error = $3, ended_at = clock_timestamp()
         WHERE session_id = $1 AND status IN ('pending', 'running') RETURNING ended_at - started_at",
        &[uuid(session), text(status), maybe_text(error)],
        |row| row.opt::<Interval>(1),
    )?;
    if let Some(took) = finished.into_iter().next() {
        return Ok(took);
    }
    let ended = require(store, session)?;
    Err(Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("training session {session} has already ended"),
    )
    .detail(format!("Its status is {ended}."))
    .hint(store.sql(&format!(
        "SELECT status, ended_at, error FROM @store@.training_sessions WHERE session_id = '{session}';"
    ))))
}

/// The status of a run; 42704 when it does not exist.
pub fn require(store: &Store, session: Uuid) -> Result<String> {
    store
        .row(
            "SELECT status FROM @store@.training_sessions WHERE session_id = $1",
            &[uuid(session)],
            |row| row.get(1),
        )?
        .ok_or_else(|| unknown(store, session))
}

/// The model of a run; 42704 when it does not exist.
pub fn model_of(store: &Store, session: Uuid) -> Result<Uuid> {
    let found = store.row(
        "SELECT model_id FROM @store@.training_sessions WHERE session_id = $1",
        &[uuid(session)],
        |row| row.get::<SqlUuid>(1),
    )?;
    Ok(from_sql_uuid(found.ok_or_else(|| unknown(store, session))?))
}

/// An error unless the run exists and is one of the model.
pub fn require_of_model(store: &Store, session: Uuid, model: Uuid) -> Result<()> {
    let trained = model_of(store, session)?;
    if trained == model {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("training session {session} is not one of model {model}"),
    )
    .detail(format!("It trains model {trained}.")))
}

fn unknown(store: &Store, session: Uuid) -> Failure {
    Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("training session {session} does not exist"),
    )
    .detail(format!("Store \"{}\" has no such session.", store.name()))
    .hint(store.sql("SELECT session_id, model_id, status FROM @store@.training_sessions;"))
}
