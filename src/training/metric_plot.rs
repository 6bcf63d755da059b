//! Plots of metrics: SVG for a browser, a line of block characters for psql.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::pg::arguments::{from_sql_uuid, text, uuid};
use crate::store::Store;
use crate::training::sessions;
use modelstore_plot::line_plot::{LinePlot, Series};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn metric_plot(
    session_id: Option<SqlUuid>,
    metric: Option<&str>,
    log_scale: default!(Option<bool>, false),
    width: default!(Option<i32>, 800),
    height: default!(Option<i32>, 400),
) -> String {
    or_raise((|| {
        let sessions = [from_sql_uuid(required(session_id, "session_id")?)];
        let metrics = [required(metric, "metric")?.to_owned()];
        let log_scale = required(log_scale, "log_scale")?;
        let (width, height) = (required(width, "width")?, required(height, "height")?);
        draw(&sessions, &metrics, log_scale, width, height)
    })())
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn metric_plots(
    session_ids: Option<Vec<Option<SqlUuid>>>,
    metrics: Option<Vec<Option<String>>>,
    log_scale: default!(Option<bool>, false),
    width: default!(Option<i32>, 800),
    height: default!(Option<i32>, 400),
) -> String {
    or_raise((|| {
        let sessions: Vec<Uuid> = required(session_ids, "session_ids")?
            .into_iter()
            .flatten()
            .map(from_sql_uuid)
            .collect();
        let metrics: Vec<String> = required(metrics, "metrics")?
            .into_iter()
            .flatten()
            .collect();
        if sessions.is_empty() || metrics.is_empty() {
            return Err(
                Failure::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, "nothing to plot")
                    .detail("Expected at least one run and one metric."),
            );
        }
        let log_scale = required(log_scale, "log_scale")?;
        let (width, height) = (required(width, "width")?, required(height, "height")?);
        draw(&sessions, &metrics, log_scale, width, height)
    })())
}

#[pg_extern(immutable, parallel_safe)]
fn sparkline(
    values: Option<Vec<Option<f64>>>,
    width: default!(Option<i32>, "NULL"),
) -> Option<String> {
    let values: Vec<f64> = values?.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect();
    let width =
        width.map(|width| {
            or_raise(
                usize::try_from(width)
                    .ok()
                    .filter(|&n| n > 0)
                    .ok_or_else(|| {
                        Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("sparkline of {width} characters is out of range"),
            )
            .detail("Expected a positive number of characters, or NULL for one for each value.")
                    }),
            )
        });
    Some(modelstore_plot::sparkline::sparkline(&values, width))
}

/// The data of one line.
struct Line {
    run: String,
    model: String,
    metric: String,
    points: Vec<(f64, f64)>,
}

/// Runs one query per run and metric, and keeps all their points in memory.
fn draw(
    sessions: &[Uuid],
    metrics: &[String],
    log_y: bool,
    width: i32,
    height: i32,
) -> Result<String> {
    let store = Store::for_reading()?;
    let mut lines = Vec::new();
    for session in sessions {
        for metric in metrics {
            lines.push(line(&store, *session, metric)?);
        }
    }
    let names: Vec<String> = lines
        .iter()
        .map(|line| match (sessions.len() > 1, metrics.len() > 1) {
            (true, true) => format!("{}: {}", line.run, line.metric),
            (true, false) => line.run.clone(),
            _ => line.metric.clone(),
        })
        .collect();
    let series: Vec<Series<'_>> = lines
        .iter()
        .zip(&names)
        .map(|(line, name)| Series {
            name,
            points: &line.points,
        })
        .collect();
    let first = &lines[0];
    let plot = LinePlot {
        title: &if sessions.len() == 1 {
            format!("{}, {}", first.model, first.run)
        } else {
            first.model.clone()
        },
        x_label: "step",
        y_label: if metrics.len() == 1 {
            &first.metric
        } else {
            ""
        },
        series: &series,
        log_y,
        width: u32::try_from(width).unwrap_or(0),
        height: u32::try_from(height).unwrap_or(0),
    };
    Ok(plot.svg()?)
}

/// Returns the points of a metric. For a step recorded twice, the later record counts; of records of the same
/// microsecond, the larger value, as in v_training_progress.
fn line(store: &Store, session: Uuid, metric: &str) -> Result<Line> {
    sessions::require(store, session)?;
    let named = store.row(
        "SELECT coalesce(s.session_name, 'run ' || left(s.session_id::text, 8) || '…' || right(s.session_id::text, 4)),
                m.model_name || ' ' || m.version
         FROM @store@.training_sessions s JOIN @store@.models m USING (model_id) WHERE s.session_id = $1",
        &[uuid(session)],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)),
    )?;
    let points = store.rows(
        "SELECT DISTINCT ON (step) step::double precision, value FROM @store@.training_metrics
         WHERE session_id = $1 AND metric_name = $2 ORDER BY step, recorded_at DESC, value DESC",
        &[uuid(session), text(metric)],
        |row| Ok((row.get::<f64>(1)?, row.get::<f64>(2)?)),
    )?;
    if points.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("training session {session} has no metric \"{metric}\""),
        )
        .hint(store.sql(&format!(
            "SELECT DISTINCT metric_name FROM @store@.training_metrics WHERE session_id = '{session}';"
        ))));
    }
    let (run, model) = named.unwrap_or_default();
    Ok(Line {
        run,
        model,
        metric: metric.to_owned(),
        points,
    })
}
