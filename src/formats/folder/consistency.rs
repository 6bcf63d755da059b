//! Checks the records of files that are kept as they are.

use crate::error::Result;
use crate::formats::safetensors::consistency::recorded_files;
use crate::formats::safetensors::files::Format;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{from_sql_uuid, text, uuid};
use crate::store::Store;
use crate::tensor_storage::locate;
use modelstore_chunk::verify::{RecordedFile, manifest_hash};
use modelstore_tensor::DType;
use pgrx::datum::Uuid as SqlUuid;
use uuid::Uuid;

/// Returns the kept files of a model, by name; a checkpoint has none.
pub fn kept_files(store: &Store, of: StateDict) -> Result<Vec<RecordedFile>> {
    match of {
        StateDict::Model(_) => recorded_files(store, of, Format::File),
        StateDict::Checkpoint(_) => Ok(Vec::new()),
    }
}

/// Returns the disagreements of a file with its tensor, a sentence each. The hash of the tensor is that of the file.
pub fn disagreements(store: &Store, model: Uuid, file: &RecordedFile) -> Result<Vec<&'static str>> {
    type Recorded = (Uuid, String, Vec<i64>, Vec<u8>);
    let tensor = store.row(
        "SELECT t.tensor_id, t.dtype, t.shape, t.content_hash
         FROM @store@.model_files f JOIN @store@.tensor_metadata t USING (tensor_id)
         WHERE f.model_id = $1 AND f.file_name = $2",
        &[uuid(model), text(&file.name)],
        |row| -> Result<Recorded> {
            let id = from_sql_uuid(row.get::<SqlUuid>(1)?);
            Ok((id, row.get(2)?, row.get(3)?, row.get(4)?))
        },
    )?;
    let Some((id, dtype, shape, content_hash)) = tensor else {
        return Ok(vec!["tensor with the content of the file is missing"]);
    };
    let chunks = locate::chunks_of(store, &[id])?;
    let manifest = manifest_hash(&file.header, chunks.iter().map(|(_, hash)| hash));
    let checks = [
        (
            file.header.is_empty(),
            "file of another format has a header",
        ),
        (
            dtype == DType::U8.name() && shape == [file.bytes as i64],
            "file does not match its size",
        ),
        (
            content_hash == file.blake3,
            "file does not match its BLAKE3 hash",
        ),
        (
            manifest.as_bytes()[..] == file.manifest_hash[..],
            "chunks do not match the manifest hash",
        ),
    ];
    let wrong = checks.into_iter().filter(|(is_right, _)| !is_right);
    Ok(wrong.map(|(_, problem)| problem).collect())
}
