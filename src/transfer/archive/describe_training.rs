//! Runs and checkpoints of a model, as the manifest of an archive has them.

use crate::error::Result;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{from_sql_uuid, uuid};
use crate::store::Store;
use crate::transfer::archive::describe::{files, raw, utc};
use crate::transfer::archive::loose;
use crate::transfer::archive::metrics;
use crate::transfer::copy::key;
use crate::transfer::plan::plan;
use modelstore_archive::{Checkpoint, Run, layout};
use pgrx::datum::Uuid as SqlUuid;
use uuid::Uuid;

/// Keys of runs and checkpoints, by their places in the manifest.
#[derive(Default)]
pub struct Ids {
    pub runs: Vec<Uuid>,
    pub checkpoints: Vec<Uuid>,
}

fn place(ids: &[Uuid], id: Option<Uuid>) -> Option<usize> {
    let id = id?;
    ids.iter().position(|other| *other == id)
}

/// Describes runs and checkpoints. What they continue is left out if it is none of the model's.
pub fn describe_training(store: &Store, model: Uuid) -> Result<(Vec<Run>, Vec<Checkpoint>, Ids)> {
    let ids_of = |sql: &str| {
        store.rows(sql, &[uuid(model)], |row| {
            Ok(from_sql_uuid(row.get::<SqlUuid>(1)?))
        })
    };
    let ids = Ids {
        runs: ids_of(
            "SELECT session_id FROM @store@.training_sessions WHERE model_id = $1 ORDER BY created_at, session_id",
        )?,
        checkpoints: ids_of(
            "SELECT checkpoint_id FROM @store@.model_checkpoints WHERE model_id = $1 ORDER BY sequence",
        )?,
    };
    let (mut runs, mut checkpoints) = (Vec::new(), Vec::new());
    for id in &ids.runs {
        pgrx::check_for_interrupts!();
        runs.extend(run(store, *id, &ids)?);
    }
    for (number, id) in ids.checkpoints.iter().enumerate() {
        pgrx::check_for_interrupts!();
        checkpoints.extend(checkpoint(store, number, *id, &ids)?);
    }
    Ok((runs, checkpoints, ids))
}

fn run(store: &Store, id: Uuid, ids: &Ids) -> Result<Option<Run>> {
    let described = store.row(
        concat!(
            "SELECT session_name, status, config::text, total_steps, loss_metric, host, error, ",
            utc!("created_at"),
            ", ",
            utc!("started_at"),
            ", ",
            utc!("ended_at"),
            ", resumed_from_checkpoint_id FROM @store@.training_sessions WHERE session_id = $1"
        ),
        &[uuid(id)],
        |row| {
            Ok(Run {
                name: row.opt(1)?,
                status: row.get(2)?,
                config: raw(row.opt(3)?)?,
                total_steps: row.opt(4)?,
                loss_metric: row.get(5)?,
                host: row.opt(6)?,
                error: row.opt(7)?,
                created_at: row.get(8)?,
                started_at: row.opt(9)?,
                ended_at: row.opt(10)?,
                resumed_from: place(&ids.checkpoints, key(row, 11)?),
                gradient_checkpoints: None,
                metrics_bytes: None,
            })
        },
    )?;
    let Some(run) = described else {
        return Ok(None);
    };
    // The header of the entry comes before its lines.
    let bytes = metrics::bytes(store, id)?;
    Ok(Some(Run {
        gradient_checkpoints: raw(plan(store, id)?)?,
        metrics_bytes: (bytes > 0).then_some(bytes),
        ..run
    }))
}

fn checkpoint(store: &Store, number: usize, id: Uuid, ids: &Ids) -> Result<Option<Checkpoint>> {
    let described = store.row(
        concat!(
            "SELECT session_id, step, epoch, parent_checkpoint_id, metrics::text, encode(rng_state, 'hex'), param_groups::text,
                    metadata::text, pinned, encode(content_hash, 'hex'), ",
            utc!("created_at"),
            " FROM @store@.model_checkpoints WHERE checkpoint_id = $1"
        ),
        &[uuid(id)],
        |row| {
            let step = row.get(2)?;
            Ok(Checkpoint {
                folder: layout::checkpoint_folder(number, step),
                run: place(&ids.runs, key(row, 1)?),
                step,
                epoch: row.opt(3)?,
                // One that comes after it would not be there yet.
                parent: place(&ids.checkpoints, key(row, 4)?).filter(|parent| *parent < number),
                metrics: raw(row.opt(5)?)?,
                rng_state: row.opt(6)?,
                param_groups: raw(row.opt(7)?)?,
                metadata: raw(row.opt(8)?)?,
                pinned: row.get(9)?,
                content_hash: row.opt(10)?,
                created_at: row.get(11)?,
                files: Vec::new(),
                added_optimizer_bytes: None,
            })
        },
    )?;
    let Some(checkpoint) = described else {
        return Ok(None);
    };
    Ok(Some(Checkpoint {
        files: files(store, StateDict::Checkpoint(id))?,
        added_optimizer_bytes: loose::bytes(store, loose::Of::Optimizer(id))?,
        ..checkpoint
    }))
}
