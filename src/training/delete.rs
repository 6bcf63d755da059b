//! Deletes a checkpoint or a whole run; with `cascade` also what others need or what is pinned.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::Regcheckpoint;
use crate::model::state_dict::missing_checkpoint;
use crate::pg::arguments::{from_sql_uuid, maybe_uuid, uuid};
use crate::store::Store;
use crate::training::{checkpoint, sessions};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn delete_checkpoint(
    checkpoint: Option<Regcheckpoint>,
    cascade: default!(Option<bool>, false),
) -> TableIterator<
    'static,
    (
        name!(files, i64),
        name!(weights, i64),
        name!(optimizer_states, i64),
    ),
> {
    TableIterator::once(or_raise((|| {
        let store = Store::current()?;
        let checkpoint = required(checkpoint, "checkpoint")?.0;
        let cascade = required(cascade, "cascade")?;
        delete_one(&store, checkpoint, cascade)
    })()))
}

fn delete_one(store: &Store, id: Uuid, cascade: bool) -> Result<(i64, i64, i64)> {
    let model = store
        .row(
            "SELECT model_id FROM @store@.model_checkpoints WHERE checkpoint_id = $1",
            &[uuid(id)],
            |row| row.get::<SqlUuid>(1),
        )?
        .ok_or_else(|| missing_checkpoint(store, id))?;
    checkpoint::lock(store, from_sql_uuid(model))?;
    let locked = store.write(
        "SELECT pinned FROM @store@.model_checkpoints WHERE checkpoint_id = $1 FOR UPDATE",
        &[uuid(id)],
        |row| row.get::<bool>(1),
    )?;
    let pinned = *locked
        .first()
        .ok_or_else(|| missing_checkpoint(store, id))?;
    let counts = store.write(
        "SELECT (SELECT count(*) FROM @store@.model_checkpoints WHERE parent_checkpoint_id = $1),
                (SELECT count(*) FROM @store@.training_sessions WHERE resumed_from_checkpoint_id = $1),
                (SELECT count(*) FROM @store@.models WHERE restored_checkpoint_id = $1),
                (SELECT count(*) FROM @store@.checkpoint_files WHERE checkpoint_id = $1),
                (SELECT count(*) FROM @store@.checkpoint_weights WHERE checkpoint_id = $1),
                (SELECT count(*) FROM @store@.optimizer_state WHERE checkpoint_id = $1)",
        &[uuid(id)],
        |row| {
            let dependents: [i64; 3] = [row.get(1)?, row.get(2)?, row.get(3)?];
            Ok((dependents, (row.get(4)?, row.get(5)?, row.get(6)?)))
        },
    )?;
    let (dependents, deleted) = counts.into_iter().next().unwrap_or_default();
    let [children, resumed, restored] = dependents;
    if !cascade && (pinned || children + resumed + restored > 0) {
        let message = format!(
            "cannot delete checkpoint {id} because {}",
            if pinned {
                "it is pinned"
            } else {
                "checkpoints, runs or models continue it"
            }
        );
        return Err(Failure::new(Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST, message)
            .detail(format!(
                "Checkpoints that continue it: {children}; training sessions resumed from it: {resumed}; models restored from it: {restored}."
            ))
            .hint(format!("SELECT * FROM modelstore.delete_checkpoint('{id}', cascade => true);")));
    }
    remove(store, id)?;
    Ok(deleted)
}

/// Deletes the row of a checkpoint and, through foreign keys, everything in it. Its children get its parent as parent,
/// so that it stays known where a run has branched.
pub fn remove(store: &Store, id: Uuid) -> Result<()> {
    let parent = store.write(
        "SELECT parent_checkpoint_id FROM @store@.model_checkpoints WHERE checkpoint_id = $1",
        &[uuid(id)],
        |row| row.opt::<SqlUuid>(1),
    )?;
    let parent = parent.into_iter().next().flatten().map(from_sql_uuid);
    store.execute(
        "UPDATE @store@.model_checkpoints SET parent_checkpoint_id = $2 WHERE parent_checkpoint_id = $1",
        &[uuid(id), maybe_uuid(parent)],
    )?;
    store.execute(
        "DELETE FROM @store@.model_checkpoints WHERE checkpoint_id = $1",
        &[uuid(id)],
    )?;
    Ok(())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn delete_training(
    session_id: Option<SqlUuid>,
    cascade: default!(Option<bool>, false),
) -> TableIterator<
    'static,
    (
        name!(checkpoints, i64),
        name!(metrics, i64),
        name!(gradient_checkpoints, i64),
    ),
> {
    TableIterator::once(or_raise((|| {
        let store = Store::current()?;
        let session = from_sql_uuid(required(session_id, "session_id")?);
        let cascade = required(cascade, "cascade")?;
        delete_run(&store, session, cascade)
    })()))
}

fn delete_run(store: &Store, session: Uuid, cascade: bool) -> Result<(i64, i64, i64)> {
    checkpoint::lock(store, sessions::model_of(store, session)?)?;
    store.execute(
        "SELECT 1 FROM @store@.training_sessions WHERE session_id = $1 FOR UPDATE",
        &[uuid(session)],
    )?;
    let checkpoints = store.write(
        "SELECT checkpoint_id FROM @store@.model_checkpoints WHERE session_id = $1 ORDER BY sequence FOR UPDATE",
        &[uuid(session)],
        |row| row.get::<SqlUuid>(1),
    )?;
    let counts = store.write(
        "SELECT (SELECT count(*) FROM @store@.training_metrics WHERE session_id = $1),
                (SELECT count(*) FROM @store@.gradient_checkpoints WHERE session_id = $1),
                (SELECT count(*) FROM @store@.model_checkpoints WHERE session_id = $1 AND pinned),
                (SELECT count(*) FROM @store@.model_checkpoints c WHERE c.session_id = $1
                 AND (EXISTS (SELECT FROM @store@.model_checkpoints k
                              WHERE k.parent_checkpoint_id = c.checkpoint_id AND k.session_id IS DISTINCT FROM $1)
                   OR EXISTS (SELECT FROM @store@.training_sessions s
                              WHERE s.resumed_from_checkpoint_id = c.checkpoint_id AND s.session_id <> $1)
                   OR EXISTS (SELECT FROM @store@.models m WHERE m.restored_checkpoint_id = c.checkpoint_id)))",
        &[uuid(session)],
        |row| {
            Ok((
                row.get::<i64>(1)?,
                row.get::<i64>(2)?,
                row.get::<i64>(3)?,
                row.get::<i64>(4)?,
            ))
        },
    )?;
    let (metrics, plans, pinned, branches) = counts.into_iter().next().unwrap_or_default();
    let made = checkpoints.len() as i64;
    if !cascade && made + metrics > 0 {
        return Err(Failure::new(
            Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot delete training session {session} because it is not empty"),
        )
        .detail(format!(
            "Checkpoints: {made} ({pinned} pinned, {branches} continued by other runs or models); metrics: {metrics}."
        ))
        .hint(format!(
            "SELECT * FROM modelstore.delete_training('{session}', cascade => true);"
        )));
    }
    for id in checkpoints {
        remove(store, from_sql_uuid(id))?;
        pgrx::check_for_interrupts!();
    }
    store.execute(
        "DELETE FROM @store@.training_sessions WHERE session_id = $1",
        &[uuid(session)],
    )?;
    Ok((made, metrics, plans))
}
