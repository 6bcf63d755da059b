//! Which checkpoints are kept.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::registry::models;
use crate::store::Store;
use crate::store::arguments::{from_sql_uuid, text, uuid};
use crate::training::latest::{METRIC, check_mode};
use modelstore_training::retention::{self, Checkpoint, Reason, Retention};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

type Decision = (SqlUuid, i64, Option<f64>, bool, Vec<String>);

/// Removes the checkpoints of a model that no rule keeps; `gc` frees their bytes. One row each, also of those kept, with
/// the rules that keep it: last, every, best, pinned.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn prune_checkpoints(
    model_id: Option<SqlUuid>,
    keep_last: default!(Option<i32>, "3"),
    keep_every: default!(Option<i64>, "NULL"),
    keep_best: default!(Option<i32>, "1"),
    dry_run: default!(bool, false),
    metric: default!(&str, "'loss'"),
    mode: default!(&str, "'min'"),
) -> TableIterator<
    'static,
    (
        name!(checkpoint_id, SqlUuid),
        name!(step, i64),
        name!(epoch, Option<f64>),
        name!(kept, bool),
        name!(reasons, Vec<String>),
    ),
> {
    TableIterator::new(or_raise((|| {
        let retention = Retention {
            keep_last: count(keep_last, "keep_last")?,
            keep_every,
            keep_best: count(keep_best, "keep_best")?,
            mode: check_mode(mode)?,
        };
        let model = from_sql_uuid(required(model_id, "model_id")?);
        prune(model, &retention, dry_run, metric)
    })()))
}

fn prune(model: Uuid, retention: &Retention, dry_run: bool, metric: &str) -> Result<Vec<Decision>> {
    let store = Store::current()?;
    models::require(&store, model)?;
    // In the order by which get_latest_checkpoint finds the last.
    let rows = store.rows(
        &format!(
            "SELECT checkpoint_id, step, epoch, pinned, {METRIC} FROM @store@.model_checkpoints
             WHERE model_id = $1 ORDER BY step, epoch NULLS FIRST, sequence"
        ),
        &[uuid(model), text(metric)],
        |row| {
            let checkpoint = Checkpoint {
                step: row.get(2)?,
                metric: row.opt(5)?,
                pinned: row.get(4)?,
            };
            Ok((row.get::<SqlUuid>(1)?, row.opt::<f64>(3)?, checkpoint))
        },
    )?;
    let checkpoints: Vec<Checkpoint> = rows.iter().map(|(.., checkpoint)| *checkpoint).collect();
    let reasons = retention::reasons_to_keep(&checkpoints, retention)?;
    let mut decisions = Vec::with_capacity(rows.len());
    for ((id, epoch, checkpoint), reasons) in rows.into_iter().zip(reasons) {
        if reasons.is_empty() && !dry_run {
            store.execute(
                "DELETE FROM @store@.model_checkpoints WHERE checkpoint_id = $1 AND NOT pinned",
                &[id.into()],
            )?;
        }
        let names = reasons.iter().map(|reason| name(*reason).to_owned());
        decisions.push((
            id,
            checkpoint.step,
            epoch,
            !reasons.is_empty(),
            names.collect(),
        ));
        pgrx::check_for_interrupts!();
    }
    Ok(decisions)
}

fn name(reason: Reason) -> &'static str {
    match reason {
        Reason::Last => "last",
        Reason::Every => "every",
        Reason::Best => "best",
        Reason::Pinned => "pinned",
    }
}

/// NULL keeps none by that rule.
fn count(n: Option<i32>, argument: &str) -> Result<usize> {
    let n = n.unwrap_or(0);
    usize::try_from(n).map_err(|_| {
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{argument} {n} is negative"),
        )
    })
}
