//! Copies the runs of a model, their metrics, and the checkpoints.

use crate::error::{Code, Failure, Result};
use crate::model::content_hash::content_hash;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{bytes, from_sql_uuid, maybe_bytes, maybe_uuid, text, uuid};
use crate::store::Store;
use crate::transfer::copy::key;
use crate::transfer::copy_weights::{Tensors, copy_files};
use crate::transfer::plan::plan;
use pgrx::JsonB;
use pgrx::datum::Uuid as SqlUuid;
use serde_json::json;
use std::collections::HashMap;
use uuid::Uuid;

/// Keys where rows come from, with those that they get.
type Keys = HashMap<Uuid, Uuid>;

/// Copies all runs and checkpoints of a model. What continues a checkpoint of another model begins anew in another store.
pub fn copy(from: &Store, to: &Store, source: Uuid, target: Uuid, tensors: &Tensors) -> Result<()> {
    let (runs, resumed) = copy_runs(from, to, source, target)?;
    let mut checkpoints = Keys::new();
    let all = from.rows(
        "SELECT checkpoint_id, session_id, parent_checkpoint_id, content_hash IS NOT NULL,
                (to_jsonb(k) - 'rng_state')::text, rng_state, epoch
         FROM @store@.model_checkpoints k WHERE model_id = $1 ORDER BY sequence",
        &[uuid(source)],
        |row| {
            Ok((
                from_sql_uuid(row.get::<SqlUuid>(1)?),
                key(row, 2)?,
                key(row, 3)?,
                row.get::<bool>(4)?,
                row.get::<String>(5)?,
                row.opt::<Vec<u8>>(6)?,
                row.opt::<f64>(7)?,
            ))
        },
    )?;
    for (old, run, parent, is_hashed, row, rng_state, epoch) in all {
        pgrx::check_for_interrupts!();
        let new = Uuid::now_v7();
        let run = run.and_then(|run| runs.get(&run)).copied();
        to.execute(
            "INSERT INTO @store@.model_checkpoints (checkpoint_id, model_id, session_id, step, epoch, sequence, parent_checkpoint_id,
                                                    metrics, rng_state, param_groups, metadata, pinned, created_at)
             SELECT $1, $2, $3, r.step, $7, r.sequence, $4, r.metrics, $5, r.param_groups, r.metadata, r.pinned, r.created_at
             FROM jsonb_to_record($6::jsonb) AS r(step bigint, sequence bigint, metrics jsonb,
                                                  param_groups jsonb, metadata jsonb, pinned boolean, created_at timestamptz)",
            &[
                uuid(new),
                uuid(target),
                maybe_uuid(run),
                maybe_uuid(continued(from, to, &checkpoints, parent)),
                maybe_bytes(rng_state.as_deref()),
                text(&row),
                // Not from the JSON, where extra_float_digits says how many digits it has.
                epoch.into(),
            ],
        )?;
        checkpoints.insert(old, new);
        let (of_old, of_new) = (StateDict::Checkpoint(old), StateDict::Checkpoint(new));
        copy_files(from, to, of_old, of_new, tensors)?;
        copy_states(from, to, old, new, tensors)?;
        if is_hashed {
            let hash = content_hash(to, of_new)?;
            to.execute(
                "UPDATE @store@.model_checkpoints SET content_hash = $2 WHERE checkpoint_id = $1",
                &[uuid(new), bytes(hash.as_bytes())],
            )?;
        }
    }
    for (run, checkpoint) in resumed {
        to.execute(
            "UPDATE @store@.training_sessions SET resumed_from_checkpoint_id = $2 WHERE session_id = $1",
            &[
                uuid(run),
                maybe_uuid(continued(from, to, &checkpoints, Some(checkpoint))),
            ],
        )?;
    }
    Ok(())
}

/// Returns the checkpoint that takes the place of one that is continued.
fn continued(from: &Store, to: &Store, copied: &Keys, of: Option<Uuid>) -> Option<Uuid> {
    let of = of?;
    let same = (from.name() == to.name()).then_some(of);
    copied.get(&of).copied().or(same)
}

/// Copies runs and metrics. Returns the new keys, and those of runs that continue a checkpoint.
fn copy_runs(
    from: &Store,
    to: &Store,
    source: Uuid,
    target: Uuid,
) -> Result<(Keys, Vec<(Uuid, Uuid)>)> {
    let runs = from.rows(
        "SELECT s.session_id, to_jsonb(s)::text, s.resumed_from_checkpoint_id,
                (SELECT count(*) FROM @store@.training_metrics t WHERE t.session_id = s.session_id)
         FROM @store@.training_sessions s WHERE s.model_id = $1 ORDER BY s.created_at, s.session_id",
        &[uuid(source)],
        |row| {
            let old = from_sql_uuid(row.get::<SqlUuid>(1)?);
            Ok((old, row.get::<String>(2)?, key(row, 3)?, row.get::<i64>(4)?))
        },
    )?;
    let (mut keys, mut resumed) = (Keys::new(), Vec::new());
    for (old, row, checkpoint, metrics) in runs {
        let new = Uuid::now_v7();
        to.execute(
            "INSERT INTO @store@.training_sessions (session_id, model_id, session_name, status, config, total_steps, loss_metric,
                                                    host, error, created_at, started_at, ended_at)
             SELECT $1, $2, r.session_name, r.status, r.config, r.total_steps, r.loss_metric, r.host, r.error, r.created_at,
                    r.started_at, r.ended_at
             FROM jsonb_to_record($3::jsonb) AS r(session_name text, status text, config jsonb, total_steps bigint, loss_metric text,
                                                  host text, error text, created_at timestamptz, started_at timestamptz,
                                                  ended_at timestamptz)",
            &[uuid(new), uuid(target), text(&row)],
        )?;
        copy_metrics(from, to, old, new, metrics)?;
        copy_plan(from, to, old, new)?;
        resumed.extend(checkpoint.map(|checkpoint| (new, checkpoint)));
        keys.insert(old, new);
    }
    Ok((keys, resumed))
}

/// Copies the metrics of a run in one statement: there can be millions. It sees what was committed since, too.
fn copy_metrics(from: &Store, to: &Store, old: Uuid, new: Uuid, expected: i64) -> Result<()> {
    let copied = to.execute_from(
        from,
        "WITH m AS MATERIALIZED (
             SELECT step, epoch, metric_name, value, recorded_at,
                    coalesce(value <= min(value) OVER (PARTITION BY metric_name ORDER BY recorded_at, step
                                                       ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true)
             FROM @from@.training_metrics WHERE session_id = $1)
         INSERT INTO @store@.training_metrics (session_id, step, epoch, metric_name, value, recorded_at, may_be_lowest)
         SELECT $2, m.* FROM m",
        &[uuid(old), uuid(new)],
    )?;
    if copied as i64 >= expected {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
        format!("another session has deleted metrics of training session {old}"),
    )
    .detail("Retry the transaction."))
}

fn copy_plan(from: &Store, to: &Store, old: Uuid, new: Uuid) -> Result<()> {
    let Some(plan) = plan(from, old)? else {
        return Ok(());
    };
    to.execute(
        "INSERT INTO @store@.gradient_checkpoints (session_id, layer_index, policy, segment, kept_bytes, recompute_flops)
         SELECT $1, r.layer_index, r.policy, r.segment, r.kept_bytes, r.recompute_flops
         FROM jsonb_to_recordset($2::jsonb) AS r(layer_index integer, policy text, segment integer, kept_bytes bigint,
                                                 recompute_flops double precision)",
        &[uuid(new), text(&plan)],
    )?;
    Ok(())
}

/// Copies the rows of a checkpoint's weights and of its optimizer state.
fn copy_states(from: &Store, to: &Store, old: Uuid, new: Uuid, tensors: &Tensors) -> Result<()> {
    let weights = from.rows(
        "SELECT weight_name, tensor_id, file_name, file_offset FROM @store@.checkpoint_weights
         WHERE checkpoint_id = $1 ORDER BY weight_name",
        &[uuid(old)],
        |row| {
            Ok(json!({
                "name": row.get::<String>(1)?,
                "tensor": tensors.json(key(row, 2)?)?,
                "file": row.get::<String>(3)?,
                "at": row.get::<i64>(4)?,
            }))
        },
    )?;
    to.execute(
        "INSERT INTO @store@.checkpoint_weights (checkpoint_id, weight_name, tensor_id, file_name, file_offset)
         SELECT $1, r.name, r.tensor, r.file, r.at FROM jsonb_to_recordset($2) AS r(name text, tensor uuid, file text, at bigint)",
        &[uuid(new), JsonB(weights.into()).into()],
    )?;
    let states = from.rows(
        "SELECT parameter_name, state_name, tensor_id, file_name, file_offset FROM @store@.optimizer_state
         WHERE checkpoint_id = $1 ORDER BY parameter_name, state_name",
        &[uuid(old)],
        |row| {
            Ok(json!({
                "name": row.get::<String>(1)?,
                "state": row.get::<String>(2)?,
                "tensor": tensors.json(key(row, 3)?)?,
                "file": row.opt::<String>(4)?,
                "at": row.opt::<i64>(5)?,
            }))
        },
    )?;
    to.execute(
        "INSERT INTO @store@.optimizer_state (checkpoint_id, parameter_name, state_name, tensor_id, file_name, file_offset)
         SELECT $1, r.name, r.state, r.tensor, r.file, r.at
         FROM jsonb_to_recordset($2) AS r(name text, state text, tensor uuid, file text, at bigint)",
        &[uuid(new), JsonB(states.into()).into()],
    )?;
    Ok(())
}
