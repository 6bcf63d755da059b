//! Stores the state of a model in training as a checkpoint, in one transaction.

use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::import::{FileIn, Imported, StoredFiles, store_files};
use crate::model::architecture::Weight;
use crate::model::content_hash::ContentHash;
use crate::model::models;
use crate::model::state_dict::{StateDict, missing_checkpoint};
use crate::pg::arguments::{
    bytes, from_sql_uuid, maybe_bytes, maybe_jsonb, maybe_uuid, text, to_sql_uuid, uuid,
};
use crate::pg::jsonb::Jsonb;
use crate::pg::query;
use crate::settings;
use crate::store::Store;
use crate::training::guard_rails::{self, Check};
use crate::training::{metrics, optimizer_state, sessions};
use modelstore_formats::safetensors::Header;
use pgrx::datum::{DatumWithOid, Uuid as SqlUuid};
use std::collections::HashMap;
use uuid::Uuid;

/// The file name of a checkpoint's weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The file name of its optimizer state.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// Channel that is notified of each checkpoint when its transaction commits.
const CHANNEL: &str = "modelstore_checkpoint";

/// Arguments of a new checkpoint.
pub struct NewCheckpoint<'a> {
    pub model: Uuid,
    pub session: Option<Uuid>,
    pub step: i64,
    pub epoch: Option<f64>,
    pub metrics: Option<&'a Jsonb<'a>>,
    pub rng_state: Option<&'a [u8]>,
    pub param_groups: Option<&'a Jsonb<'a>>,
    pub metadata: Option<&'a Jsonb<'a>>,
    pub parent: Option<Uuid>,
    pub checks: Vec<Check>,
}

/// Stores the weights and, if given, the optimizer state, both safetensors files. Identical data is stored once;
/// changed tensors are stored as deltas against the previous checkpoint where that is smaller. Notifies who listens.
pub fn create<'a>(
    store: &Store,
    new: &NewCheckpoint<'_>,
    weights: FileIn<'a>,
    optimizer: Option<FileIn<'a>>,
) -> Result<Imported> {
    let created = create_silently(store, new, weights, optimizer)?;
    if settings::notify() {
        notify(store, created.model, new)?;
    }
    Ok(created)
}

/// As `create`, of a checkpoint that is not new to the world.
pub fn create_silently<'a>(
    store: &Store,
    new: &NewCheckpoint<'_>,
    weights: FileIn<'a>,
    optimizer: Option<FileIn<'a>>,
) -> Result<Imported> {
    check(store, new)?;
    lock(store, new.model)?;
    let parent = parent(store, new)?;
    let base = match parent {
        Some(parent) => Some(parent),
        None => newest(store, new.model)?,
    };
    let before = match base {
        Some(checkpoint) => StateDict::Checkpoint(checkpoint),
        None => StateDict::Model(new.model),
    };
    if new.checks.contains(&Check::Shape) {
        guard_rails::check_shapes(store, before, &weights.header)?;
    }
    let headers: Vec<Header> = [Some(&weights), optimizer.as_ref()]
        .into_iter()
        .flatten()
        .map(|file| file.header.clone())
        .collect();
    if let Some(header) = headers.get(1) {
        optimizer_state::check_names(header)?;
    }
    let id = insert(store, new, parent)?;
    let of = StateDict::Checkpoint(id);
    let bases = [
        tensors_by_name(store, before)?,
        optimizer_state::tensors_by_name(store, base)?,
    ];
    let files = [Some(weights), optimizer].into_iter().flatten().collect();
    let stored = store_files(store, of, files, &bases)?;
    let weights = insert_weights(store, id, &headers[0], &stored)?;
    if let (Some(header), Some(tensors)) = (headers.get(1), stored.tensors.get(1)) {
        optimizer_state::insert(store, id, header, tensors, Some(OPTIMIZER_FILE))?;
    }
    if new.checks.contains(&Check::Finite) {
        guard_rails::check_finite(store, of)?;
    }
    let content_hash = ContentHash::of(&weights).finish();
    let parameters = guard_rails::parameters(store, new.model, weights)?;
    if new.checks.contains(&Check::Parameters) {
        guard_rails::check_parameters(&parameters)?;
    }
    store.execute(
        "UPDATE @store@.model_checkpoints SET content_hash = $2 WHERE checkpoint_id = $1",
        &[uuid(id), bytes(content_hash.as_bytes())],
    )?;
    Ok(Imported {
        parameters: parameters.all,
        ..stored.counts
    })
}

fn check(store: &Store, new: &NewCheckpoint<'_>) -> Result<()> {
    models::require(store, new.model)?;
    if let Some(session) = new.session {
        sessions::require_of_model(store, session, new.model)?;
        sessions::require_open(store, session)?;
    }
    let invalid = |message| Err(Failure::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message));
    if new.step < 0 {
        return invalid(format!("step {} is negative", new.step));
    }
    if let Some(epoch) = new.epoch.filter(|e| !(e.is_finite() && *e >= 0.0)) {
        return invalid(format!("epoch {epoch} is negative or not finite"));
    }
    if let Some(figures) = new.metrics {
        metrics::figures(figures)?;
    }
    Ok(())
}

/// Locks the model until the transaction ends, so that its checkpoints are created one at a time: each gets the next
/// number, and a lock that is taken first cannot be part of a deadlock over chunks.
pub fn lock(store: &Store, model: Uuid) -> Result<()> {
    store.execute(
        "SELECT 1 FROM @store@.models WHERE model_id = $1 FOR NO KEY UPDATE",
        &[uuid(model)],
    )?;
    Ok(())
}

/// Returns the checkpoint that the new one continues, locked until the transaction ends: the one named, else the last
/// of the run, else the one the run was resumed from or the model restored from. Checkpoints without a run continue
/// each other.
fn parent(store: &Store, new: &NewCheckpoint<'_>) -> Result<Option<Uuid>> {
    if let Some(parent) = new.parent {
        return match keep(store, "SELECT $1", &[uuid(parent)])? {
            None => Err(missing_checkpoint(store, parent)),
            found => Ok(found),
        };
    }
    keep(
        store,
        "SELECT coalesce(
             (SELECT c.checkpoint_id FROM @store@.model_checkpoints c
              WHERE c.model_id = $1 AND c.session_id IS NOT DISTINCT FROM $2 ORDER BY c.sequence DESC LIMIT 1),
             (SELECT s.resumed_from_checkpoint_id FROM @store@.training_sessions s WHERE s.session_id = $2),
             (SELECT m.restored_checkpoint_id FROM @store@.models m WHERE m.model_id = $1))",
        &[uuid(new.model), maybe_uuid(new.session)],
    )
}

/// Returns the model's checkpoint created last, the base of deltas for the first checkpoint of a run that continues
/// none.
fn newest(store: &Store, model: Uuid) -> Result<Option<Uuid>> {
    keep(
        store,
        "SELECT c.checkpoint_id FROM @store@.model_checkpoints c WHERE c.model_id = $1 ORDER BY c.sequence DESC LIMIT 1",
        &[uuid(model)],
    )
}

fn keep(store: &Store, which: &str, arguments: &[DatumWithOid<'_>]) -> Result<Option<Uuid>> {
    let found = store.write(
        &format!(
            "SELECT checkpoint_id FROM @store@.model_checkpoints WHERE checkpoint_id = ({which}) FOR KEY SHARE"
        ),
        arguments,
        |row| row.get::<SqlUuid>(1),
    )?;
    Ok(found.into_iter().next().map(from_sql_uuid))
}

/// Inserts the row, numbered within the model, which is locked. Fails with 40001 if the transaction sees an older
/// state.
fn insert(store: &Store, new: &NewCheckpoint<'_>, parent: Option<Uuid>) -> Result<Uuid> {
    let id = Uuid::now_v7();
    let inserted = store.insert(
        "INSERT INTO @store@.model_checkpoints (checkpoint_id, model_id, session_id, step, epoch, sequence, parent_checkpoint_id, metrics,
                                                rng_state, param_groups, metadata)
         SELECT $1, $2, $3, $4, $5, coalesce(max(c.sequence), 0) + 1, $6, $7, $8, $9, $10
         FROM @store@.model_checkpoints c WHERE c.model_id = $2
         ON CONFLICT (model_id, sequence) DO NOTHING RETURNING 1",
        &[
            uuid(id),
            uuid(new.model),
            maybe_uuid(new.session),
            new.step.into(),
            new.epoch.into(),
            maybe_uuid(parent),
            maybe_jsonb(new.metrics),
            maybe_bytes(new.rng_state),
            maybe_jsonb(new.param_groups),
            maybe_jsonb(new.metadata),
        ],
        |_| Ok(()),
    )?;
    if inserted.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!(
                "another session has made a checkpoint of model {}",
                new.model
            ),
        )
        .detail("Retry the transaction."));
    }
    Ok(id)
}

/// Returns the tensors of the weights of a model or checkpoint, by name.
fn tensors_by_name(store: &Store, of: StateDict) -> Result<HashMap<String, Uuid>> {
    let rows = store.rows(
        &of.sql("SELECT weight_name, tensor_id FROM @weights@ WHERE @owner@ = $1"),
        &[uuid(of.id())],
        |row| Ok((row.get::<String>(1)?, from_sql_uuid(row.get::<SqlUuid>(2)?))),
    )?;
    Ok(rows.into_iter().collect())
}

/// Inserts the weights and returns them.
fn insert_weights(
    store: &Store,
    id: Uuid,
    header: &Header,
    stored: &StoredFiles,
) -> Result<Vec<Weight>> {
    let names: Vec<&str> = header.tensors.iter().map(|t| t.name.as_str()).collect();
    let offsets: Vec<i64> = header.tensors.iter().map(|t| t.start as i64).collect();
    let written = stored.tensors.first().map_or(&[][..], Vec::as_slice);
    let tensors: Vec<SqlUuid> = written.iter().map(|t| to_sql_uuid(t.id)).collect();
    store.execute(
        "INSERT INTO @store@.checkpoint_weights (checkpoint_id, weight_name, tensor_id, file_name, file_offset)
         SELECT $1, w.name, w.tensor, $2, w.start FROM unnest($3, $4, $5) AS w(name, tensor, start)",
        &[
            uuid(id),
            text(WEIGHTS_FILE),
            names.into(),
            tensors.into(),
            offsets.into(),
        ],
    )?;
    Ok(Weight::of_file(&header.tensors, written))
}

fn notify(store: &Store, id: Uuid, new: &NewCheckpoint<'_>) -> Result<()> {
    let payload = serde_json::json!({
        "store": store.name(),
        "model_id": new.model.to_string(),
        "checkpoint_id": id.to_string(),
        "step": new.step,
    });
    query::query(
        "SELECT pg_catalog.pg_notify($1, $2)",
        &[text(CHANNEL), text(&payload.to_string())],
        |_| Ok(()),
    )
}
