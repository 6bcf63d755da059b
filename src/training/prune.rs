//! Retention of checkpoints.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::{from_sql_uuid, maybe_uuid, text, uuid};
use crate::store::Store;
use crate::training::latest::{METRIC, check_mode};
use crate::training::{checkpoint, delete, sessions};
use modelstore_training::retention::{self, Checkpoint, Reason, Retention};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::collections::HashMap;
use uuid::Uuid;

type Decision = (
    SqlUuid,
    Option<SqlUuid>,
    i64,
    Option<f64>,
    bool,
    Vec<String>,
);

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn prune_checkpoints(
    model: Option<Regmodel>,
    keep_last: default!(Option<i32>, "3"),
    keep_every: default!(Option<i64>, "NULL"),
    keep_best: default!(Option<i32>, "1"),
    dry_run: default!(Option<bool>, true),
    metric: default!(Option<&str>, "'loss'"),
    mode: default!(Option<&str>, "'min'"),
    session_id: default!(Option<SqlUuid>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(checkpoint_id, SqlUuid),
        name!(session_id, Option<SqlUuid>),
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
            mode: check_mode(required(mode, "mode")?)?,
        };
        let model = required(model, "model")?.0;
        let metric = required(metric, "metric")?;
        let dry_run = required(dry_run, "dry_run")?;
        let session = session_id.map(from_sql_uuid);
        prune(model, session, &retention, dry_run, metric)
    })()))
}

fn prune(
    model: Uuid,
    session: Option<Uuid>,
    retention: &Retention,
    dry_run: bool,
    metric: &str,
) -> Result<Vec<Decision>> {
    let store = Store::current()?;
    models::require(&store, model)?;
    if let Some(session) = session {
        sessions::require_of_model(&store, session, model)?;
    }
    if !dry_run {
        // Waits for checkpoints being created, and for whatever is about to continue one of these.
        checkpoint::lock(&store, model)?;
        store.execute(
            "SELECT 1 FROM @store@.model_checkpoints WHERE model_id = $1 AND ($2 IS NULL OR session_id = $2)
             ORDER BY sequence FOR UPDATE",
            &[uuid(model), maybe_uuid(session)],
        )?;
    }
    let mut runs: HashMap<Uuid, usize> = HashMap::new();
    // In the order in which get_latest_checkpoint finds the last.
    let rows = store.rows(
        &format!(
            "SELECT c.checkpoint_id, c.session_id, c.step, c.epoch, c.pinned, {METRIC}, c.sequence,
                    coalesce(r.status IN ('pending', 'running'), false),
                    EXISTS (SELECT FROM @store@.model_checkpoints k
                            WHERE k.parent_checkpoint_id = c.checkpoint_id AND k.session_id IS DISTINCT FROM c.session_id)
                 OR (c.session_id IS NULL AND 1 < (SELECT count(*) FROM @store@.model_checkpoints k
                                                   WHERE k.parent_checkpoint_id = c.checkpoint_id))
                 OR EXISTS (SELECT FROM @store@.training_sessions s
                            WHERE s.resumed_from_checkpoint_id = c.checkpoint_id AND s.session_id IS DISTINCT FROM c.session_id)
                 OR EXISTS (SELECT FROM @store@.models m WHERE m.restored_checkpoint_id = c.checkpoint_id)
             FROM @store@.model_checkpoints c LEFT JOIN @store@.training_sessions r USING (session_id)
             WHERE c.model_id = $1 AND ($3 IS NULL OR c.session_id = $3)
             ORDER BY c.step, c.epoch NULLS FIRST, c.sequence"
        ),
        &[uuid(model), text(metric), maybe_uuid(session)],
        |row| {
            let session: Option<SqlUuid> = row.opt(2)?;
            let next = runs.len();
            let checkpoint = Checkpoint {
                step: row.get(3)?,
                metric: row.opt(6)?,
                pinned: row.get(5)?,
                run: session.map(|run| *runs.entry(from_sql_uuid(run)).or_insert(next)),
                made: row.get(7)?,
                running: row.get(8)?,
                continued: row.get(9)?,
            };
            Ok((row.get::<SqlUuid>(1)?, session, row.opt::<f64>(4)?, checkpoint))
        },
    )?;
    let checkpoints: Vec<Checkpoint> = rows.iter().map(|(.., checkpoint)| *checkpoint).collect();
    let reasons = retention::reasons_to_keep(&checkpoints, retention)?;
    let mut decisions = Vec::with_capacity(rows.len());
    for ((id, session, epoch, checkpoint), reasons) in rows.into_iter().zip(reasons) {
        if reasons.is_empty() && !dry_run {
            delete::remove(&store, from_sql_uuid(id))?;
        }
        let names = reasons.iter().map(|reason| name(*reason).to_owned());
        decisions.push((
            id,
            session,
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
        Reason::Running => "running",
        Reason::Branch => "branch",
    }
}

/// Returns the limit of a rule; NULL turns the rule off.
fn count(n: Option<i32>, argument: &str) -> Result<usize> {
    let n = n.unwrap_or(0);
    usize::try_from(n).map_err(|_| {
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{argument} {n} is negative"),
        )
    })
}
