//! Metrics of runs: many figures in one call.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::store::Store;
use crate::store::arguments::{from_sql_uuid, text, uuid};
use crate::training::sessions;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use serde_json::Value;
use uuid::Uuid;

/// Records the figures of one step and returns how many there were.
#[pg_extern(name = "log_metrics", volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn log_metrics_of_step(
    session_id: Option<SqlUuid>,
    step: Option<i64>,
    metrics: Option<pgrx::JsonB>,
    epoch: default!(Option<f64>, "NULL"),
) -> i64 {
    or_raise((|| {
        let session = from_sql_uuid(required(session_id, "session_id")?);
        let step = required(step, "step")?;
        let (names, values) = figures(&required(metrics, "metrics")?.0)?;
        let store = Store::current()?;
        insert(
            &store,
            session,
            "INSERT INTO @store@.training_metrics (session_id, step, epoch, metric_name, value)
             SELECT s.session_id, $2, $3, m.name, m.value
             FROM @store@.training_sessions s, unnest($4, $5) AS m(name, value) WHERE s.session_id = $1",
            &[
                uuid(session),
                step.into(),
                epoch.into(),
                names.into(),
                values.clone().into(),
            ],
            values.len(),
        )
    })())
}

/// Records one metric at many steps and returns how many there were.
#[pg_extern(name = "log_metrics", volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn log_metrics_of_name(
    session_id: Option<SqlUuid>,
    metric_name: Option<&str>,
    steps: Option<Vec<Option<i64>>>,
    metric_values: Option<Vec<Option<f64>>>,
) -> i64 {
    or_raise((|| {
        let session = from_sql_uuid(required(session_id, "session_id")?);
        let name = check_name(required(metric_name, "metric_name")?)?;
        let steps = without_nulls(required(steps, "steps")?, "steps")?;
        let values = without_nulls(required(metric_values, "metric_values")?, "metric_values")?;
        if steps.len() != values.len() {
            return Err(Failure::new(
                Code::ERRCODE_ARRAY_ELEMENT_ERROR,
                format!(
                    "{} steps do not match {} metric values",
                    steps.len(),
                    values.len()
                ),
            )
            .detail("Each value belongs to one step."));
        }
        let store = Store::current()?;
        let count = values.len();
        insert(
            &store,
            session,
            "INSERT INTO @store@.training_metrics (session_id, step, metric_name, value)
             SELECT s.session_id, m.step, $2, m.value
             FROM @store@.training_sessions s, unnest($3, $4) AS m(step, value) WHERE s.session_id = $1",
            &[uuid(session), text(name), steps.into(), values.into()],
            count,
        )
    })())
}

/// Removes the metrics of a run and returns how many there were. The run itself stays.
#[pg_extern(volatile, strict, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn drop_metrics(session_id: SqlUuid) -> i64 {
    or_raise((|| {
        let (store, session) = (Store::current()?, from_sql_uuid(session_id));
        sessions::require(&store, session)?;
        let removed = store.execute(
            "DELETE FROM @store@.training_metrics WHERE session_id = $1",
            &[uuid(session)],
        )?;
        Ok(removed as i64)
    })())
}

fn insert(
    store: &Store,
    session: Uuid,
    sql: &str,
    arguments: &[pgrx::datum::DatumWithOid<'_>],
    expected: usize,
) -> Result<i64> {
    let inserted = store.execute(sql, arguments)?;
    if inserted < expected {
        sessions::require(store, session)?;
    }
    Ok(inserted as i64)
}

/// Names and values of an object of numbers. JSON has no NaN and no infinities: they come as the strings that
/// PostgreSQL reads for them.
fn figures(metrics: &Value) -> Result<(Vec<String>, Vec<f64>)> {
    let Value::Object(metrics) = metrics else {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "metrics must be a JSON object",
        )
        .detail("Expected names and numbers, such as {\"loss\": 0.7, \"lr\": 1e-4}."));
    };
    metrics
        .iter()
        .map(|(name, value)| Ok((check_name(name)?.to_owned(), figure(name, value)?)))
        .collect::<Result<Vec<_>>>()
        .map(|figures| figures.into_iter().unzip())
}

fn figure(name: &str, value: &Value) -> Result<f64> {
    let number = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => match s.to_ascii_lowercase().as_str() {
            "nan" => Some(f64::NAN),
            "infinity" | "inf" | "+infinity" | "+inf" => Some(f64::INFINITY),
            "-infinity" | "-inf" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        _ => None,
    };
    number.ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("metric \"{name}\" is not a number: {value}"),
        )
        .detail(
            "Expected a number, true or false, or one of \"NaN\", \"Infinity\" and \"-Infinity\".",
        )
    })
}

fn check_name(name: &str) -> Result<&str> {
    if name.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "metric name must not be empty",
        ));
    }
    Ok(name)
}

fn without_nulls<T>(items: Vec<Option<T>>, argument: &str) -> Result<Vec<T>> {
    items
        .into_iter()
        .collect::<Option<Vec<T>>>()
        .ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                format!("{argument} must not contain nulls"),
            )
        })
}
