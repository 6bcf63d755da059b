//! Restores a checkpoint as a version of its model.

use crate::error::{Result, or_raise, required};
use crate::model::architecture;
use crate::model::arguments::Regcheckpoint;
use crate::model::files;
use crate::model::models::{self, NewModel};
use crate::model::state_dict::missing_checkpoint;
use crate::pg::arguments::{from_sql_uuid, text, to_sql_uuid, uuid};
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use crate::training::checkpoint::WEIGHTS_FILE;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn restore_checkpoint(
    checkpoint: Option<Regcheckpoint>,
    name: Option<&str>,
    version: Option<&str>,
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
) -> SqlUuid {
    or_raise((|| {
        let checkpoint = required(checkpoint, "checkpoint")?.0;
        let version = required(version, "version")?;
        restore(checkpoint, name, version, metadata).map(to_sql_uuid)
    })())
}

fn restore(
    checkpoint: Uuid,
    name: Option<&str>,
    version: &str,
    metadata: Option<Jsonb<'_>>,
) -> Result<Uuid> {
    let store = Store::current()?;
    // Locks the checkpoint, and so keeps its tensors, until the transaction ends.
    let trained = store.write(
        "SELECT m.model_id, m.model_name, c.step FROM @store@.model_checkpoints c JOIN @store@.models m USING (model_id)
         WHERE c.checkpoint_id = $1 FOR KEY SHARE OF c",
        &[uuid(checkpoint)],
        |row| {
            Ok((
                from_sql_uuid(row.get::<SqlUuid>(1)?),
                row.get::<String>(2)?,
                row.get::<i64>(3)?,
            ))
        },
    )?;
    let (model, model_name, step) = trained
        .into_iter()
        .next()
        .ok_or_else(|| missing_checkpoint(&store, checkpoint))?;
    let id = models::insert(
        &store,
        &NewModel {
            name: name.unwrap_or(&model_name),
            version,
            parent: Some(model),
            derivation: Some(&format!("checkpoint {checkpoint} at step {step}")),
            inherits_config: true,
            metadata: metadata.as_ref(),
            status: "ready",
            ..NewModel::default()
        },
    )?;
    store.execute(
        "UPDATE @store@.models SET restored_checkpoint_id = $2 WHERE model_id = $1",
        &[uuid(id), uuid(checkpoint)],
    )?;
    store.execute(
        "WITH files AS MATERIALIZED (
             SELECT file_name, format, header, file_bytes, sha256, blake3, manifest_hash
             FROM @store@.checkpoint_files WHERE checkpoint_id = $2 AND file_name = $3)
         INSERT INTO @store@.model_files (model_id, file_name, format, header, file_bytes, sha256, blake3, manifest_hash)
         SELECT $1, f.* FROM files f",
        &[uuid(id), uuid(checkpoint), text(WEIGHTS_FILE)],
    )?;
    // Attributes of the model's weights are copied; a weight that the model lacks is trainable if it is floating point.
    store.execute(
        "WITH weights AS MATERIALIZED (
             SELECT c.weight_name, c.tensor_id, coalesce(w.trainable, t.dtype ~ '^(bf|f)[0-9]'), c.file_name, c.file_offset
             FROM @store@.checkpoint_weights c
             JOIN @store@.tensor_metadata t USING (tensor_id)
             LEFT JOIN @store@.model_weights w ON w.model_id = $3 AND w.weight_name = c.weight_name
             WHERE c.checkpoint_id = $2)
         INSERT INTO @store@.model_weights (model_id, weight_name, tensor_id, trainable, file_name, file_offset)
         SELECT $1, w.* FROM weights w",
        &[uuid(id), uuid(checkpoint), uuid(model)],
    )?;
    files::copy(&store, model, id)?;
    architecture::describe(&store, id)?;
    Ok(id)
}
