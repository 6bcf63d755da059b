//! Copies tensors, and the rows of files and weights that refer to them.

use crate::chunks::spi_chunks::SpiChunks;
use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::files::{Format, NewFile, record_hashed};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{text, uuid};
use crate::pg::background::Backend;
use crate::pg::progress::Progress;
use crate::store::Store;
use crate::tensor_storage::locate::{read_tensor, tensor_columns};
use crate::transfer::copy::key;
use modelstore_chunk::StoredTensor;
use modelstore_chunk::write::{self, FileHashes, WrittenTensor};
use pgrx::JsonB;
use serde_json::json;
use std::collections::HashMap;
use uuid::Uuid;

/// The tensors of the other store, by the keys that they have where they come from.
pub struct Tensors(HashMap<Uuid, WrittenTensor>);

impl Tensors {
    /// Returns a tensor; what a row names is among those that were copied, unless it was changed by hand.
    pub fn get(&self, id: Option<Uuid>) -> Result<&WrittenTensor> {
        id.and_then(|id| self.0.get(&id)).ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                format!(
                    "tensor {} does not exist",
                    id.map_or_else(String::new, |id| id.to_string())
                ),
            )
            .hint("SELECT * FROM modelstore.verify_store();")
        })
    }

    /// Returns its key as JSON; null for none.
    pub fn json(&self, id: Option<Uuid>) -> Result<serde_json::Value> {
        Ok(match id {
            None => serde_json::Value::Null,
            some => json!(self.get(some)?.id.to_string()),
        })
    }
}

const OF_MODEL: &str = "SELECT tensor_id, weight_name AS label FROM @store@.model_weights WHERE model_id = $1
    UNION ALL
    SELECT gradient_tensor_id, weight_name FROM @store@.model_weights WHERE model_id = $1 AND gradient_tensor_id IS NOT NULL
    UNION ALL
    SELECT tensor_id, file_name FROM @store@.model_files WHERE model_id = $1 AND tensor_id IS NOT NULL";

const OF_CHECKPOINTS: &str = "UNION ALL
    SELECT w.tensor_id, w.weight_name
    FROM @store@.model_checkpoints k JOIN @store@.checkpoint_weights w USING (checkpoint_id) WHERE k.model_id = $1
    UNION ALL
    SELECT o.tensor_id, o.parameter_name || '.' || o.state_name
    FROM @store@.model_checkpoints k JOIN @store@.optimizer_state o USING (checkpoint_id) WHERE k.model_id = $1";

/// Copies all tensors that a model uses, with its checkpoints or without: in one write, so that chunks are inserted in one
/// order.
pub fn copy_tensors(
    from: &Store,
    to: &Store,
    model: Uuid,
    with_checkpoints: bool,
) -> Result<Tensors> {
    let checkpoints = if with_checkpoints { OF_CHECKPOINTS } else { "" };
    let tensors: Vec<StoredTensor> = from.rows(
        &format!(
            "SELECT {}, u.label
             FROM (SELECT tensor_id, min(label) AS label FROM ({OF_MODEL} {checkpoints}) all_of_it GROUP BY tensor_id) u
             JOIN @store@.tensor_metadata t USING (tensor_id) ORDER BY t.tensor_id",
            tensor_columns!()
        ),
        &[uuid(model)],
        |row| {
            let label = row.get(6)?;
            Ok(read_tensor(row, Some(label))?.check()?)
        },
    )?;
    let total: u64 = tensors.iter().map(|tensor| tensor.raw_bytes).sum();
    // Each byte counts once per pass.
    let progress = Progress::begin(to.relation_oid("tensor_chunks"), total.saturating_mul(2));
    let written = write::copy_tensors(
        &mut SpiChunks::new(from),
        &mut SpiChunks::new(to),
        &Backend::reporting(progress),
        &tensors,
    )?;
    let ids = tensors.into_iter().map(|tensor| tensor.id);
    Ok(Tensors(ids.zip(written.tensors).collect()))
}

/// Copies the records of files. Their hashes are those recorded where they come from; the list of chunks is the other
/// store's, which may have cut a tensor in another way.
pub fn copy_files(
    from: &Store,
    to: &Store,
    source: StateDict,
    target: StateDict,
    tensors: &Tensors,
) -> Result<()> {
    let names = from.rows(
        &source.sql("SELECT file_name FROM @files@ WHERE @owner@ = $1 ORDER BY file_name"),
        &[uuid(source.id())],
        |row| row.get::<String>(1),
    )?;
    for name in names {
        pgrx::check_for_interrupts!();
        crate::pg::scratch::in_scratch_memory(|| {
            copy_file(from, to, source, target, &name, tensors)
        })?;
    }
    Ok(())
}

fn copy_file(
    from: &Store,
    to: &Store,
    source: StateDict,
    target: StateDict,
    name: &str,
    tensors: &Tensors,
) -> Result<()> {
    let arguments = || [uuid(source.id()), text(name)];
    // Checkpoints have no files of other formats.
    let whole = match source {
        StateDict::Model(_) => "tensor_id",
        StateDict::Checkpoint(_) => "NULL::uuid",
    };
    let mut header = Vec::new();
    let mut row_of_file = None;
    from.query(
        &source.sql(&format!(
            "SELECT header, format, file_bytes, sha256, blake3, {whole} FROM @files@ WHERE @owner@ = $1 AND file_name = $2"
        )),
        &arguments(),
        |row| {
            row.append_bytes(1, &mut header)?;
            let format: String = row.get(2)?;
            let (bytes, sha256, blake3) = (row.get::<i64>(3)?, row.get::<Vec<u8>>(4)?, row.get::<Vec<u8>>(5)?);
            row_of_file = Some((format, bytes as u64, sha256, blake3, key(row, 6)?));
            Ok(())
        },
    )?;
    let Some((format, bytes, sha256, blake3, whole)) = row_of_file else {
        return Ok(());
    };
    let format = match format.as_str() {
        "safetensors" => Format::Safetensors,
        "safetensors_index" => Format::Index,
        _ => Format::File,
    };
    let of_file: Vec<WrittenTensor> = match format {
        Format::File => vec![tensors.get(whole)?.clone()],
        _ => {
            let ids = from.rows(
                &source.sql(
                    "SELECT w.tensor_id FROM @entries@ w JOIN @store@.tensor_metadata t USING (tensor_id)
                     WHERE w.@owner@ = $1 AND w.file_name = $2 ORDER BY w.file_offset, t.raw_bytes, w.weight_name",
                ),
                &arguments(),
                |row| key(row, 1),
            )?;
            ids.into_iter()
                .map(|id| tensors.get(id).cloned())
                .collect::<Result<_>>()?
        }
    };
    let file = NewFile {
        name,
        format,
        header: &header,
        bytes,
        hashes: FileHashes::new(),
        tensors: &of_file,
    };
    record_hashed(to, target, file, &sha256, &blake3)
}

/// Copies the rows of weights; what follows from their names and shapes is recognised again.
pub fn copy_weights(
    from: &Store,
    to: &Store,
    source: Uuid,
    target: Uuid,
    tensors: &Tensors,
) -> Result<()> {
    let rows = from.rows(
        "SELECT weight_name, tensor_id, trainable, gradient_tensor_id, file_name, file_offset
         FROM @store@.model_weights WHERE model_id = $1 ORDER BY weight_name",
        &[uuid(source)],
        |row| {
            Ok(json!({
                "weight_name": row.get::<String>(1)?,
                "tensor_id": tensors.json(key(row, 2)?)?,
                "trainable": row.get::<bool>(3)?,
                "gradient_tensor_id": tensors.json(key(row, 4)?)?,
                "file_name": row.opt::<String>(5)?,
                "file_offset": row.opt::<i64>(6)?,
            }))
        },
    )?;
    to.execute(
        "INSERT INTO @store@.model_weights (model_id, weight_name, tensor_id, trainable, gradient_tensor_id, file_name, file_offset)
         SELECT $1, r.weight_name, r.tensor_id, r.trainable, r.gradient_tensor_id, r.file_name, r.file_offset
         FROM jsonb_to_recordset($2) AS r(weight_name text, tensor_id uuid, trainable boolean, gradient_tensor_id uuid,
                                          file_name text, file_offset bigint)",
        &[uuid(target), JsonB(rows.into()).into()],
    )?;
    Ok(())
}
