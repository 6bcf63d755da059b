//! Models made tensor by tensor: a draft takes tensors until it is finished, and then exports as one file.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::formats::safetensors::files::{Format, check_place};
use crate::formats::safetensors::import::{Imported, parent_tensors};
use crate::formats::safetensors::import_sql::{DEFAULT_FILE_NAME, ImportedRow, row};
use crate::formats::safetensors::shards::lock;
use crate::model::architecture;
use crate::model::arguments::Regmodel;
use crate::names;
use crate::pg::arguments::{bytes, text, to_sql_uuid, uuid};
use crate::store::Store;
use crate::tensor::datum::TensorIn;
use crate::tensor_storage::locate::{self, read_tensor, tensor_columns};
use crate::tensor_storage::stream::ChunkStream;
use crate::tensor_storage::write::write_value;
use modelstore_chunk::StoredTensor;
use modelstore_chunk::read::Wanted;
use modelstore_chunk::verify::manifest_hash;
use modelstore_chunk::write::FileHashes;
use modelstore_formats::architecture::is_trainable;
use modelstore_formats::safetensors::build_header;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use serde_json::json;
use std::rc::Rc;
use uuid::Uuid;

#[pg_extern(volatile, parallel_unsafe, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn put_tensor(
    model: Option<Regmodel>,
    weight_name: Option<&str>,
    value: Option<TensorIn<'_>>,
) -> SqlUuid {
    or_raise((|| {
        let model = required(model, "model")?.0;
        let name = required(weight_name, "weight_name")?;
        let value = required(value, "value")?;
        put(model, name, &value).map(to_sql_uuid)
    })())
}

fn put(model: Uuid, name: &str, value: &TensorIn<'_>) -> Result<Uuid> {
    let view = value.view()?;
    // What finish_model could not put into a file is refused here, where it is clear which tensor it is.
    let entry = (name.to_owned(), view.dtype(), view.shape().clone());
    build_header(std::slice::from_ref(&entry), None)?;
    names::check_length("weight name", name)?;
    let store = Store::current()?;
    require_draft(&store, model)?;
    let base = parent_tensors(&store, model)?.get(name).copied();
    let tensor = write_value(&store, name, &view, base)?;
    let inserted = store.execute(
        "INSERT INTO @store@.model_weights (model_id, weight_name, tensor_id, trainable) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
        &[
            uuid(model),
            text(name),
            uuid(tensor),
            is_trainable(name, view.dtype(), view.shape().dims()).into(),
        ],
    )?;
    if inserted == 1 {
        return Ok(tensor);
    }
    Err(Failure::new(
        Code::ERRCODE_UNIQUE_VIOLATION,
        format!("model {model} already has weight \"{name}\""),
    )
    .detail("A weight cannot be replaced."))
}

/// Takes a model for this transaction; 55000 unless it is a draft: registered, without a file of weights.
fn require_draft(store: &Store, model: Uuid) -> Result<()> {
    lock(store, model)?;
    let is_draft = store.row(
        "SELECT status = 'registered' AND NOT EXISTS (
             SELECT FROM @store@.model_files f WHERE f.model_id = m.model_id AND f.format = 'safetensors')
         FROM @store@.models m WHERE model_id = $1",
        &[uuid(model)],
        |row| row.get::<bool>(1),
    )?;
    match is_draft {
        Some(true) => Ok(()),
        _ => Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("model {model} is finished"),
        )
        .detail("Tensors are put into a model that register_model made, until finish_model.")
        .hint("SELECT modelstore.register_model('name', 'version');")),
    }
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn finish_model(
    model: Option<Regmodel>,
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(weights, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise(required(model, "model").and_then(|model| finish(model.0)))
}

/// Gives the weights a file, as another program would write it, and describes the model. No chunk is added, so the counts
/// of chunks are 0.
fn finish(model: Uuid) -> Result<ImportedRow> {
    let store = Store::current()?;
    require_draft(&store, model)?;
    check_place(&store, model, DEFAULT_FILE_NAME)?;
    let weights = store.rows(
        concat!(
            "SELECT ",
            tensor_columns!(),
            ", w.weight_name FROM @store@.model_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
              WHERE w.model_id = $1 ORDER BY w.weight_name"
        ),
        &[uuid(model)],
        |row| {
            let name: String = row.get(6)?;
            Ok(read_tensor(row, Some(name))?.check()?)
        },
    )?;
    if weights.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("model {model} has no weights"),
        )
        .hint(format!(
            "SELECT modelstore.put_tensor('{model}', 'weight', '[1,2,3]');"
        )));
    }
    let raw_bytes = record_file(&store, model, &weights)?;
    store.execute(
        "UPDATE @store@.models SET status = 'ready' WHERE model_id = $1",
        &[uuid(model)],
    )?;
    let parameters = architecture::describe(&store, model)?;
    row(Imported {
        model,
        weights: weights.len() as u64,
        parameters,
        raw_bytes,
        ..Imported::default()
    })
}

/// Records the file of the weights and the place of each in it; returns the bytes of the weights. Decodes them once, for
/// the hashes of the file.
fn record_file(store: &Store, model: Uuid, weights: &[StoredTensor]) -> Result<u64> {
    let entries: Vec<_> = weights
        .iter()
        .map(|w| (w.label.clone(), w.dtype, w.shape.clone()))
        .collect();
    let (header, order) = build_header(&entries, None)?;
    let in_order: Vec<&StoredTensor> = order.into_iter().map(|index| &weights[index]).collect();
    let ids: Vec<Uuid> = in_order.iter().map(|tensor| tensor.id).collect();
    let labels: Vec<Rc<str>> = in_order.iter().map(|t| t.label.as_str().into()).collect();
    let chunks = locate::chunks_of(store, &ids)?;
    let manifest = manifest_hash(&header, chunks.iter().map(|(_, hash)| hash));
    let wanted = chunks.into_iter().map(|(place, hash)| Wanted {
        hash,
        of: Rc::clone(&labels[place]),
        figures_of: None,
    });
    let mut hashes = FileHashes::new();
    hashes.update(&header);
    let mut stream = ChunkStream::new(store, wanted)?;
    while let Some(raw) = stream.next()? {
        hashes.update(&raw);
        stream.recycle(raw);
        pgrx::check_for_interrupts!();
    }
    let (file_bytes, (sha256, blake3)) = (hashes.bytes(), hashes.finish());
    store.execute(
        "INSERT INTO @store@.model_files (model_id, file_name, format, header, file_bytes, sha256, blake3, manifest_hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            uuid(model),
            text(DEFAULT_FILE_NAME),
            text(Format::Safetensors.name()),
            bytes(&header),
            (file_bytes as i64).into(),
            bytes(&sha256),
            bytes(&blake3),
            bytes(manifest.as_bytes()),
        ],
    )?;
    let mut at = 0u64;
    let places: Vec<_> = in_order
        .iter()
        .map(|tensor| {
            let start = at;
            at += tensor.raw_bytes;
            json!({ "weight_name": tensor.label, "file_offset": start })
        })
        .collect();
    store.execute(
        "UPDATE @store@.model_weights w SET file_name = $2, file_offset = r.file_offset
         FROM jsonb_to_recordset($3) AS r(weight_name text, file_offset bigint)
         WHERE w.model_id = $1 AND w.weight_name = r.weight_name",
        &[
            uuid(model),
            text(DEFAULT_FILE_NAME),
            pgrx::JsonB(places.into()).into(),
        ],
    )?;
    Ok(at)
}
