//! Checks that a file's records agree with its header: names, dtypes, shapes and offsets of its weights, and the list
//! of its chunks.

use crate::error::Result;
use crate::formats::safetensors::files::Format;
use crate::formats::safetensors::import::weight_name;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{from_sql_uuid, text, uuid};
use crate::pg::query::Row;
use crate::store::Store;
use crate::tensor_storage::locate;
use modelstore_chunk::verify::{RecordedFile, manifest_hash};
use modelstore_chunk::write::FileHashes;
use modelstore_formats::file_name::folder_of;
use modelstore_formats::safetensors::{LENGTH_BYTES, parse_header};
use pgrx::datum::Uuid as SqlUuid;
use std::collections::HashMap;
use uuid::Uuid;

/// Returns the safetensors files of a model or a checkpoint, by name.
pub fn files(store: &Store, of: StateDict) -> Result<Vec<RecordedFile>> {
    recorded_files(store, of, Format::Safetensors)
}

/// Returns the files that are kept in one way, by name.
pub fn recorded_files(store: &Store, of: StateDict, format: Format) -> Result<Vec<RecordedFile>> {
    store.rows(
        &of.sql(
            "SELECT file_name, header, file_bytes, sha256, blake3, manifest_hash FROM @files@
             WHERE @owner@ = $1 AND format = $2 ORDER BY file_name",
        ),
        &[uuid(of.id()), text(format.name())],
        read_file,
    )
}

fn read_file(row: &Row<'_>) -> Result<RecordedFile> {
    Ok(RecordedFile {
        name: row.get(1)?,
        header: row.get(2)?,
        bytes: row.get::<i64>(3)? as u64,
        sha256: row.get(4)?,
        blake3: row.get(5)?,
        manifest_hash: row.get(6)?,
    })
}

/// Returns the problems of indexes of sharded models, which are stored in place of a header: name and sentence.
pub fn indexes(store: &Store, of: StateDict) -> Result<Vec<(String, String)>> {
    let files = recorded_files(store, of, Format::Index)?;
    let mut problems = Vec::new();
    for file in files {
        let mut hashes = FileHashes::new();
        hashes.update(&file.header);
        let (sha256, blake3) = hashes.finish();
        let manifest = manifest_hash(&file.header, std::iter::empty());
        let checks = [
            (file.bytes == file.header.len() as u64, "size"),
            (file.sha256 == sha256, "SHA-256 hash"),
            (file.blake3 == blake3, "BLAKE3 hash"),
            (
                file.manifest_hash[..] == manifest.as_bytes()[..],
                "manifest hash",
            ),
        ];
        for (is_right, what) in checks {
            if !is_right {
                problems.push((file.name.clone(), format!("file does not match its {what}")));
            }
        }
    }
    Ok(problems)
}

/// Returns the disagreements, a sentence each.
pub fn disagreements(store: &Store, of: StateDict, file: &RecordedFile) -> Result<Vec<String>> {
    let json = file.header.get(LENGTH_BYTES as usize..).unwrap_or_default();
    let header = match parse_header(json, file.bytes) {
        Ok(header) => header,
        Err(e) => return Ok(vec![format!("recorded header does not read: {e}")]),
    };
    type Recorded = (Uuid, String, Vec<i64>, i64);
    let mut recorded: HashMap<String, Recorded> = HashMap::new();
    store.query(
        &of.sql(
            "SELECT w.weight_name, t.tensor_id, t.dtype, t.shape, w.file_offset
             FROM @entries@ w JOIN @store@.tensor_metadata t USING (tensor_id)
             WHERE w.@owner@ = $1 AND w.file_name = $2",
        ),
        &[uuid(of.id()), text(&file.name)],
        |row| {
            let id = from_sql_uuid(row.get::<SqlUuid>(2)?);
            recorded.insert(row.get(1)?, (id, row.get(3)?, row.get(4)?, row.get(5)?));
            Ok(())
        },
    )?;
    let mut problems = Vec::new();
    let mut ids = Vec::with_capacity(header.tensors.len());
    let folder = folder_of(&file.name);
    for tensor in &header.tensors {
        let found = recorded.remove(weight_name(folder, &tensor.name).as_ref());
        let Some((id, dtype, shape, offset)) = found else {
            problems.push(format!("weight \"{}\" is missing", tensor.name));
            continue;
        };
        ids.push(id);
        let same_shape = shape
            .iter()
            .map(|&d| d as u64)
            .eq(tensor.shape.dims().iter().copied());
        if dtype != tensor.dtype.name() || !same_shape || offset as u64 != tensor.start {
            problems.push(format!(
                "dtype, shape or offset of weight \"{}\" is not that of the header",
                tensor.name
            ));
        }
    }
    problems.extend(
        recorded
            .keys()
            .map(|name| format!("weight \"{name}\" is not in the header")),
    );
    if problems.is_empty() {
        let chunks = locate::chunks_of(store, &ids)?;
        let hash = manifest_hash(&file.header, chunks.iter().map(|(_, hash)| hash));
        if hash.as_bytes()[..] != file.manifest_hash[..] {
            problems.push("header or chunks do not match the manifest hash".to_owned());
        }
    }
    Ok(problems)
}
