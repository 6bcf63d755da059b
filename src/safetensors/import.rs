//! One safetensors file becomes weights of a model.

use crate::error::{Code, Failure, Result};
use crate::registry::architecture;
use crate::registry::models::{self, NewModel};
use crate::safetensors::files;
use crate::source::Source;
use crate::store::Store;
use crate::store::arguments::{maybe_uuid, text, uuid};
use crate::tensor_storage::file_hashes::FileHashes;
use crate::tensor_storage::write::{Incoming, write_tensors};
use modelstore_formats::safetensors::{Header, LENGTH_BYTES, header_len, parse_header};
use pgrx::datum::Uuid as SqlUuid;
use serde_json::json;
use std::collections::HashMap;
use uuid::Uuid;

/// What an import did.
#[derive(Default)]
pub struct Imported {
    /// The model that has the weights now.
    pub model: Uuid,
    /// Weights of this file.
    pub weights: u64,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Chunks that the store did not have.
    pub new_chunks: u64,
    /// What those take, encoded.
    pub new_bytes: u64,
    /// Raw bytes that the store had already.
    pub reused_bytes: u64,
}

impl Imported {
    /// Counts another file of the same model.
    pub fn add(&mut self, other: &Imported) {
        self.weights += other.weights;
        self.parameters += other.parameters;
        self.raw_bytes += other.raw_bytes;
        self.new_chunks += other.new_chunks;
        self.new_bytes += other.new_bytes;
        self.reused_bytes += other.reused_bytes;
    }
}

/// Makes a model of one file.
pub fn import(
    store: &Store,
    model: &NewModel<'_>,
    file_name: &str,
    source: &mut dyn Source,
) -> Result<Imported> {
    // The header is read first: a file that is no safetensors leaves no trace at all.
    let parsed = read_header(source)?;
    let id = models::insert(store, model)?;
    let imported = import_parsed(store, id, file_name, source, parsed)?;
    architecture::describe(store, id)?;
    Ok(imported)
}

/// Adds the weights of one file to a model; the caller describes the model afterwards.
pub fn import_file(
    store: &Store,
    model: Uuid,
    file_name: &str,
    source: &mut dyn Source,
) -> Result<Imported> {
    let parsed = read_header(source)?;
    import_parsed(store, model, file_name, source, parsed)
}

fn read_header(source: &mut dyn Source) -> Result<(Header, Vec<u8>)> {
    let file_len = source.len();
    let mut prefix = Vec::new();
    source.read_at(0, file_len.min(LENGTH_BYTES) as usize, &mut prefix)?;
    let json_len = header_len(&prefix, file_len)?;
    let mut head = Vec::new();
    source.read_at(0, (LENGTH_BYTES + json_len) as usize, &mut head)?;
    let header = parse_header(&head[LENGTH_BYTES as usize..], file_len)?;
    Ok((header, head))
}

fn import_parsed(
    store: &Store,
    model: Uuid,
    file_name: &str,
    source: &mut dyn Source,
    (header, head): (Header, Vec<u8>),
) -> Result<Imported> {
    let bases = parent_tensors(store, model)?;
    let tensors: Vec<Incoming> = header
        .tensors
        .iter()
        .map(|t| Incoming {
            name: &t.name,
            dtype: t.dtype,
            shape: &t.shape,
            offset: header.data_offset + t.start,
            base: bases.get(&t.name).copied(),
        })
        .collect();
    let mut hashes = FileHashes::new();
    hashes.update(&head);
    let written = write_tensors(store, source, &tensors, hashes)?;
    files::record(
        store,
        model,
        file_name,
        "safetensors",
        &head,
        source.len(),
        written.file,
        &written.tensor_ids,
    )?;
    let rows: Vec<_> = header
        .tensors
        .iter()
        .zip(&written.tensor_ids)
        .map(|(t, id)| {
            json!({ "weight_name": t.name, "tensor_id": id.to_string(), "file_offset": t.start,
                    "trainable": t.dtype.kind() == modelstore_tensor::dtype::Kind::Float })
        })
        .collect();
    let inserted = store.execute(
        "INSERT INTO @store@.model_weights (model_id, weight_name, tensor_id, trainable, file_name, file_offset)
         SELECT $1, r.weight_name, r.tensor_id, r.trainable, $2, r.file_offset
         FROM jsonb_to_recordset($3) AS r(weight_name text, tensor_id uuid, trainable boolean, file_offset bigint)
         ON CONFLICT DO NOTHING",
        &[uuid(model), text(file_name), pgrx::JsonB(rows.into()).into()],
    )?;
    if inserted != header.tensors.len() {
        return Err(Failure::new(
            Code::ERRCODE_UNIQUE_VIOLATION,
            format!("file \"{file_name}\" has weights that the model has already"),
        )
        .detail("Each weight of a model comes from one file."));
    }
    Ok(Imported {
        model,
        weights: tensors.len() as u64,
        parameters: tensors.iter().map(|t| t.shape.elements()).sum(),
        raw_bytes: source.len() - header.data_offset,
        new_chunks: written.new_chunks,
        new_bytes: written.new_bytes,
        reused_bytes: written.reused_bytes,
    })
}

/// The parent's tensors by weight name: what changed weights may be stored as differences to.
fn parent_tensors(store: &Store, model: Uuid) -> Result<HashMap<String, Uuid>> {
    // Keeps the parent, and with it its tensors, until the transaction ends.
    store.write(
        "SELECT 1 FROM @store@.models p JOIN @store@.models m ON m.parent_model_id = p.model_id
         WHERE m.model_id = $1 FOR KEY SHARE OF p",
        &[uuid(model)],
        |_| Ok(()),
    )?;
    let rows = store.rows(
        "SELECT w.weight_name, w.tensor_id
         FROM @store@.models m JOIN @store@.model_weights w ON w.model_id = m.parent_model_id
         WHERE m.model_id = $1",
        &[maybe_uuid(Some(model))],
        |row| {
            Ok((
                row.get::<String>(1)?,
                crate::store::arguments::from_sql_uuid(row.get::<SqlUuid>(2)?),
            ))
        },
    )?;
    Ok(rows.into_iter().collect())
}
