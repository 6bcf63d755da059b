//! Metrics of runs, many per call.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::names;
use crate::pg::arguments::{from_sql_uuid, text, uuid};
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use crate::training::sessions;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use uuid::Uuid;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn log_metrics(
    session_id: Option<SqlUuid>,
    step: Option<i64>,
    metrics: Option<Jsonb<'_>>,
    epoch: default!(Option<f64>, "NULL"),
) -> i64 {
    or_raise((|| {
        let session = from_sql_uuid(required(session_id, "session_id")?);
        let step = required(step, "step")?;
        let (names, values) = figures(&required(metrics, "metrics")?)?;
        let store = Store::current()?;
        insert(
            &store,
            session,
            "INSERT INTO @store@.training_metrics (session_id, step, epoch, metric_name, value, may_be_lowest)
             SELECT s.session_id, $2, $3, m.name, m.value, l.value IS NULL OR (l.value, l.step) > (m.value, $2)
             FROM @store@.training_sessions s
             CROSS JOIN unnest($4, $5) AS m(name, value)
             LEFT JOIN LATERAL (
                 SELECT l.value, l.step FROM @store@.training_metrics l
                 WHERE l.session_id = $1 AND l.metric_name = m.name AND l.may_be_lowest ORDER BY l.value, l.step LIMIT 1) l ON true
             WHERE s.session_id = $1 AND s.status IN ('pending', 'running')",
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

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn log_metric(
    session_id: Option<SqlUuid>,
    metric: Option<&str>,
    steps: Option<Vec<Option<i64>>>,
    metric_values: Option<Vec<Option<f64>>>,
) -> i64 {
    or_raise((|| {
        let session = from_sql_uuid(required(session_id, "session_id")?);
        let name = check_name(required(metric, "metric")?)?;
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
            .detail("Pass one step per value."));
        }
        let store = Store::current()?;
        let count = values.len();
        insert(
            &store,
            session,
            // Numbered in the order of the arrays, whatever the resolution of the clock: for a step given twice, the
            // later value counts.
            "INSERT INTO @store@.training_metrics (session_id, step, metric_name, value, recorded_at, may_be_lowest)
             SELECT s.session_id, m.step, $2, m.value, s.now + m.n * interval '1 microsecond',
                    (m.before IS NULL OR m.value <= m.before) AND (l.value IS NULL OR (l.value, l.step) > (m.value, m.step))
             FROM (SELECT session_id, status, clock_timestamp() AS now FROM @store@.training_sessions WHERE session_id = $1) s
             CROSS JOIN (
                 SELECT step, value, n, min(value) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                 FROM unnest($3, $4) WITH ORDINALITY AS u(step, value, n)) m
             LEFT JOIN (
                 SELECT l.value, l.step FROM @store@.training_metrics l
                 WHERE l.session_id = $1 AND l.metric_name = $2 AND l.may_be_lowest ORDER BY l.value, l.step LIMIT 1) l ON true
             WHERE s.status IN ('pending', 'running')",
            &[uuid(session), text(name), steps.into(), values.into()],
            count,
        )
    })())
}

#[pg_extern(volatile, strict, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn delete_metrics(session_id: SqlUuid) -> i64 {
    or_raise((|| {
        let (store, session) = (Store::current()?, from_sql_uuid(session_id));
        sessions::require(&store, session)?;
        let deleted = store.execute(
            "DELETE FROM @store@.training_metrics WHERE session_id = $1",
            &[uuid(session)],
        )?;
        Ok(deleted as i64)
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
    if inserted < expected || expected == 0 {
        sessions::require_open(store, session)?;
    }
    Ok(inserted as i64)
}

/// Returns names and values of an object of numbers. JSON lacks NaN and infinities, so the strings that PostgreSQL
/// accepts for them represent them.
pub fn figures(metrics: &Jsonb<'_>) -> Result<(Vec<String>, Vec<f64>)> {
    if !metrics.is_object() {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "metrics must be a JSON object",
        )
        .detail("Expected names and numbers, such as {\"loss\": 0.7, \"lr\": 1e-4}."));
    }
    let text = metrics.text()?;
    // Keep the digits, so that a number out of range for a double is our own error.
    let figures: BTreeMap<String, &RawValue> = serde_json::from_str(&text).map_err(|e| {
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("could not read metrics: {e}"),
        )
    })?;
    figures
        .into_iter()
        .map(|(name, value)| {
            let value = figure(check_name(&name)?, value.get())?;
            Ok((name, value))
        })
        .collect::<Result<Vec<_>>>()
        .map(|figures| figures.into_iter().unzip())
}

/// Parses a number from its JSON.
fn figure(name: &str, json: &str) -> Result<f64> {
    let word = json.trim_matches('"').to_ascii_lowercase();
    let number = match (json.starts_with('"'), word.as_str()) {
        (true, "nan") => Some(f64::NAN),
        (true, "infinity" | "inf" | "+infinity" | "+inf") => Some(f64::INFINITY),
        (true, "-infinity" | "-inf") => Some(f64::NEG_INFINITY),
        (false, "true") => Some(1.0),
        (false, "false") => Some(0.0),
        (false, digits) => digits.parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if number.is_infinite() && !json.starts_with('"') => Err(Failure::new(
            Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            format!("metric \"{name}\" is out of range: {json}"),
        )
        .detail("A metric must be in the range of double precision.")),
        Some(number) => Ok(number),
        None => Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("metric \"{name}\" is not a number: {json}"),
        )
        .detail(
            "Expected a number, true or false, or one of \"NaN\", \"Infinity\" and \"-Infinity\".",
        )),
    }
}

fn check_name(name: &str) -> Result<&str> {
    names::check("metric name", name)
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
