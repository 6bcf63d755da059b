//! Plots of metrics: SVG for a browser, a line of block characters for psql.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::pg::arguments::{from_sql_uuid, text, uuid};
use crate::store::Store;
use crate::training::latest::check_mode;
use crate::training::sessions;
use modelstore_plot::{LinePlot, Series, smooth};
use modelstore_training::retention::Mode;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

/// How lines are drawn, from the arguments common to both functions.
struct Look {
    log_scale: bool,
    width: i32,
    height: i32,
    x_axis: XAxis,
    smoothing: f64,
    limits: (Option<f64>, Option<f64>),
    best: Option<Mode>,
}

impl Look {
    /// Checks the arguments in the order of the signatures.
    fn new(
        log_scale: Option<bool>,
        size: (Option<i32>, Option<i32>),
        x_axis: Option<&str>,
        smoothing: Option<f64>,
        limits: (Option<f64>, Option<f64>),
        mark_best: Option<&str>,
    ) -> Result<Look> {
        Ok(Look {
            log_scale: required(log_scale, "log_scale")?,
            width: required(size.0, "width")?,
            height: required(size.1, "height")?,
            x_axis: XAxis::parse(required(x_axis, "x_axis")?)?,
            smoothing: required(smoothing, "smoothing")?,
            limits,
            best: mark_best.map(check_mode).transpose()?,
        })
    }
}

/// What is along the horizontal axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum XAxis {
    Step,
    Epoch,
    Time,
}

impl XAxis {
    fn parse(text: &str) -> Result<XAxis> {
        match text {
            "step" => Ok(XAxis::Step),
            "epoch" => Ok(XAxis::Epoch),
            "time" => Ok(XAxis::Time),
            _ => Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("invalid x_axis \"{text}\""),
            )
            .detail("Expected step, epoch or time.")),
        }
    }

    fn label(self) -> &'static str {
        match self {
            XAxis::Step => "step",
            XAxis::Epoch => "epoch",
            XAxis::Time => "hours since the start",
        }
    }

    /// The expression over `training_metrics` t and `training_sessions` s.
    fn sql(self) -> &'static str {
        match self {
            XAxis::Step => "t.step::double precision",
            XAxis::Epoch => "t.epoch",
            XAxis::Time => {
                "(extract(epoch FROM t.recorded_at - coalesce(s.started_at, s.created_at)) / 3600)::double precision"
            }
        }
    }
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn metric_plot(
    session_id: Option<SqlUuid>,
    metric: Option<&str>,
    log_scale: default!(Option<bool>, false),
    width: default!(Option<i32>, 800),
    height: default!(Option<i32>, 400),
    x_axis: default!(Option<&str>, "'step'"),
    smoothing: default!(Option<f64>, 0.0),
    y_min: default!(Option<f64>, "NULL"),
    y_max: default!(Option<f64>, "NULL"),
    mark_best: default!(Option<&str>, "NULL"),
) -> String {
    or_raise((|| {
        let sessions = [from_sql_uuid(required(session_id, "session_id")?)];
        let metrics = [required(metric, "metric")?.to_owned()];
        let size = (width, height);
        let look = Look::new(
            log_scale,
            size,
            x_axis,
            smoothing,
            (y_min, y_max),
            mark_best,
        )?;
        draw(&sessions, &metrics, &look)
    })())
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn metric_plots(
    session_ids: Option<Vec<Option<SqlUuid>>>,
    metrics: Option<Vec<Option<String>>>,
    log_scale: default!(Option<bool>, false),
    width: default!(Option<i32>, 800),
    height: default!(Option<i32>, 400),
    x_axis: default!(Option<&str>, "'step'"),
    smoothing: default!(Option<f64>, 0.0),
    y_min: default!(Option<f64>, "NULL"),
    y_max: default!(Option<f64>, "NULL"),
    mark_best: default!(Option<&str>, "NULL"),
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
        let size = (width, height);
        let look = Look::new(
            log_scale,
            size,
            x_axis,
            smoothing,
            (y_min, y_max),
            mark_best,
        )?;
        draw(&sessions, &metrics, &look)
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
    mark: Option<(f64, f64)>,
}

/// Runs one query per run and metric, and keeps all their points in memory. A pair without data is left out; all without
/// are an error.
fn draw(sessions: &[Uuid], metrics: &[String], look: &Look) -> Result<String> {
    let store = Store::for_reading()?;
    let mut lines = Vec::new();
    for session in sessions {
        sessions::require(&store, *session)?;
        for metric in metrics {
            lines.extend(line(&store, *session, metric, look)?);
        }
    }
    let Some(first) = lines.first() else {
        return Err(without_data(&store, sessions, metrics, look.x_axis));
    };
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
            mark: line.mark,
        })
        .collect();
    let plot = LinePlot {
        title: &if sessions.len() == 1 {
            format!("{}, {}", first.model, first.run)
        } else {
            first.model.clone()
        },
        x_label: look.x_axis.label(),
        y_label: if metrics.len() == 1 {
            &first.metric
        } else {
            ""
        },
        series: &series,
        log_y: look.log_scale,
        limits: look.limits,
        width: u32::try_from(look.width).unwrap_or(0),
        height: u32::try_from(look.height).unwrap_or(0),
    };
    Ok(plot.svg()?)
}

fn without_data(store: &Store, sessions: &[Uuid], metrics: &[String], x: XAxis) -> Failure {
    let [session] = sessions else {
        return Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!(
                "no training session has metric \"{}\"",
                metrics.join("\" or \"")
            ),
        )
        .hint(store.sql("SELECT DISTINCT session_id, metric_name FROM @store@.training_metrics;"));
    };
    let failure = Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!(
            "training session {session} has no metric \"{}\"",
            metrics.join("\" or \"")
        ),
    )
    .hint(store.sql(&format!(
        "SELECT DISTINCT metric_name FROM @store@.training_metrics WHERE session_id = '{session}';"
    )));
    match x {
        XAxis::Epoch => failure.detail("Only records with an epoch have a place on this axis."),
        _ => failure,
    }
}

/// Returns the points of a metric, or none if there are none. For a step recorded twice, the later record counts; of
/// records of the same microsecond, the larger value, as in v_training_progress.
fn line(store: &Store, session: Uuid, metric: &str, look: &Look) -> Result<Option<Line>> {
    let x = look.x_axis.sql();
    let mut points = store.rows(
        &format!(
            "SELECT x, value FROM (
                 SELECT DISTINCT ON (t.step) t.step, {x} AS x, t.value FROM @store@.training_metrics t
                 JOIN @store@.training_sessions s USING (session_id)
                 WHERE t.session_id = $1 AND t.metric_name = $2 ORDER BY t.step, t.recorded_at DESC, t.value DESC
             ) p WHERE x IS NOT NULL ORDER BY x, step"
        ),
        &[uuid(session), text(metric)],
        |row| Ok((row.get::<f64>(1)?, row.get::<f64>(2)?)),
    )?;
    if points.is_empty() {
        return Ok(None);
    }
    let named = store.row(
        "SELECT coalesce(s.session_name, 'run ' || left(s.session_id::text, 8) || '…' || right(s.session_id::text, 4)),
                m.model_name || ' ' || m.version
         FROM @store@.training_sessions s JOIN @store@.models m USING (model_id) WHERE s.session_id = $1",
        &[uuid(session)],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)),
    )?;
    smooth(&mut points, look.smoothing)?;
    let (run, model) = named.unwrap_or_default();
    Ok(Some(Line {
        run,
        model,
        metric: metric.to_owned(),
        mark: look.best.and_then(|mode| best(&points, mode)),
        points,
    }))
}

/// Returns the first of the lowest or highest points; NaN and infinities do not count.
fn best(points: &[(f64, f64)], mode: Mode) -> Option<(f64, f64)> {
    let finite = points.iter().copied().filter(|(_, y)| y.is_finite());
    finite.reduce(|best, point| {
        let is_better = match mode {
            Mode::Min => point.1 < best.1,
            Mode::Max => point.1 > best.1,
        };
        if is_better { point } else { best }
    })
}
