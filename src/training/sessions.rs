//! Training runs: start, find by name, finish, reopen.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::{Regcheckpoint, Regmodel};
use crate::model::models;
use crate::model::state_dict::StateDict;
use crate::names;
use crate::pg::arguments::{
    from_sql_uuid, maybe_jsonb, maybe_text, maybe_uuid, now, text, to_sql_uuid, uuid,
};
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use pgrx::datum::{Interval, Uuid as SqlUuid};
use pgrx::prelude::*;
use uuid::Uuid;

/// Arguments of a new run.
struct NewSession<'a> {
    model: Uuid,
    config: Option<&'a Jsonb<'a>>,
    name: Option<&'a str>,
    total_steps: Option<i64>,
    loss_metric: &'a str,
    host: Option<&'a str>,
    resume_from: Option<Uuid>,
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn start_training(
    model: Option<Regmodel>,
    config: default!(Option<Jsonb<'_>>, "NULL"),
    session_name: default!(Option<&str>, "NULL"),
    total_steps: default!(Option<i64>, "NULL"),
    loss_metric: default!(Option<&str>, "'loss'"),
    host: default!(Option<&str>, "NULL"),
    resume_from: default!(Option<Regcheckpoint>, "NULL"),
) -> SqlUuid {
    or_raise((|| {
        let store = Store::current()?;
        let new = NewSession {
            model: required(model, "model")?.0,
            config: config.as_ref(),
            name: session_name,
            total_steps,
            loss_metric: required(loss_metric, "loss_metric")?,
            host,
            resume_from: resume_from.map(|checkpoint| checkpoint.0),
        };
        match (insert(&store, &new)?, new.name) {
            (Some(session), _) => Ok(to_sql_uuid(session)),
            (None, name) => Err(taken(new.model, name.unwrap_or_default())),
        }
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn find_or_start_training(
    model: Option<Regmodel>,
    session_name: Option<&str>,
    config: default!(Option<Jsonb<'_>>, "NULL"),
    total_steps: default!(Option<i64>, "NULL"),
    loss_metric: default!(Option<&str>, "'loss'"),
    host: default!(Option<&str>, "NULL"),
    resume_from: default!(Option<Regcheckpoint>, "NULL"),
) -> SqlUuid {
    or_raise((|| {
        let store = Store::current()?;
        let name = required(session_name, "session_name")?;
        let new = NewSession {
            model: required(model, "model")?.0,
            config: config.as_ref(),
            name: Some(name),
            total_steps,
            loss_metric: required(loss_metric, "loss_metric")?,
            host,
            resume_from: resume_from.map(|checkpoint| checkpoint.0),
        };
        if let Some(session) = find(&store, new.model, name)? {
            return Ok(to_sql_uuid(session));
        }
        if let Some(session) = insert(&store, &new)? {
            return Ok(to_sql_uuid(session));
        }
        // Another session has started it meanwhile.
        let session = find(&store, new.model, name)?;
        session
            .map(to_sql_uuid)
            .ok_or_else(|| taken(new.model, name))
    })())
}

/// Reads with its own snapshot, so that it finds a run that another session has just committed.
fn find(store: &Store, model: Uuid, name: &str) -> Result<Option<Uuid>> {
    let found = store.write(
        "SELECT session_id FROM @store@.training_sessions WHERE model_id = $1 AND session_name = $2",
        &[uuid(model), text(name)],
        |row| row.get::<SqlUuid>(1),
    )?;
    Ok(found.into_iter().next().map(from_sql_uuid))
}

/// Inserts a run and returns its key; `None` if the model has one of that name.
fn insert(store: &Store, new: &NewSession<'_>) -> Result<Option<Uuid>> {
    models::require(store, new.model)?;
    let invalid = |message: String| Failure::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message);
    if let Some(steps) = new.total_steps.filter(|&n| n < 1) {
        return Err(invalid(format!("total steps {steps} is not positive")));
    }
    names::check("loss metric", new.loss_metric)?;
    new.name
        .map(|name| names::check("session name", name))
        .transpose()?;
    if let Some(checkpoint) = new.resume_from {
        StateDict::Checkpoint(checkpoint).require(store)?;
    }
    let id = Uuid::now_v7();
    let inserted = store.execute(
        "INSERT INTO @store@.training_sessions (session_id, model_id, session_name, config, total_steps, loss_metric, host,
                                                resumed_from_checkpoint_id, started_at)
         VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, host(inet_client_addr())), $8, clock_timestamp())
         ON CONFLICT (model_id, session_name) DO NOTHING",
        &[
            uuid(id),
            uuid(new.model),
            maybe_text(new.name),
            maybe_jsonb(new.config),
            new.total_steps.into(),
            text(new.loss_metric),
            maybe_text(new.host),
            maybe_uuid(new.resume_from),
        ],
    )?;
    Ok((inserted == 1).then_some(id))
}

fn taken(model: Uuid, name: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_UNIQUE_VIOLATION,
        format!("model {model} already has a training session \"{name}\""),
    )
    .detail("The name of a run is unique among the runs of a model.")
    .hint(format!(
        "SELECT modelstore.find_or_start_training('{model}', {});",
        pgrx::spi::quote_literal(name)
    ))
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn finish_training(
    session_id: Option<SqlUuid>,
    status: default!(Option<&str>, "'completed'"),
    error: default!(Option<&str>, "NULL"),
) -> Option<Interval> {
    or_raise((|| {
        let session = from_sql_uuid(required(session_id, "session_id")?);
        let status = required(status, "status")?;
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
        "UPDATE @store@.training_sessions SET status = $2, error = $3, ended_at = $4
         WHERE session_id = $1 AND status IN ('pending', 'running') RETURNING ended_at - started_at",
        &[uuid(session), text(status), maybe_text(error), now()],
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

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn reopen_training(session_id: Option<SqlUuid>) -> bool {
    or_raise((|| {
        let store = Store::current()?;
        let session = from_sql_uuid(required(session_id, "session_id")?);
        let reopened = store.write(
            "UPDATE @store@.training_sessions SET status = 'running', error = NULL, ended_at = NULL
             WHERE session_id = $1 AND status IN ('completed', 'failed', 'cancelled') RETURNING session_id",
            &[uuid(session)],
            |_| Ok(()),
        )?;
        if reopened.is_empty() {
            require(&store, session)?;
        }
        Ok(!reopened.is_empty())
    })())
}

/// Returns the status of a run; 42704 if it does not exist.
pub fn require(store: &Store, session: Uuid) -> Result<String> {
    store
        .row(
            "SELECT status FROM @store@.training_sessions WHERE session_id = $1",
            &[uuid(session)],
            |row| row.get(1),
        )?
        .ok_or_else(|| unknown(store, session))
}

/// Raises an error unless the run accepts metrics and checkpoints: 42704 if it does not exist, 55000 if it has ended.
pub fn require_open(store: &Store, session: Uuid) -> Result<()> {
    let status = require(store, session)?;
    if matches!(status.as_str(), "pending" | "running") {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("training session {session} has ended"),
    )
    .detail(format!(
        "Its status is {status}. A training session that has ended accepts no metrics or checkpoints."
    ))
    .hint(format!("SELECT modelstore.reopen_training('{session}');")))
}

/// Returns the model of a run; 42704 if it does not exist.
pub fn model_of(store: &Store, session: Uuid) -> Result<Uuid> {
    let found = store.row(
        "SELECT model_id FROM @store@.training_sessions WHERE session_id = $1",
        &[uuid(session)],
        |row| row.get::<SqlUuid>(1),
    )?;
    Ok(from_sql_uuid(found.ok_or_else(|| unknown(store, session))?))
}

/// Raises an error unless the run exists and belongs to the model.
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
