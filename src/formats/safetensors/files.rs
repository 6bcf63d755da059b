//! Records of an imported file besides its tensors: the unchanged header, and hashes of the whole file.

use crate::error::{Code, Failure, Result};
use crate::model::state_dict::StateDict;
use crate::names;
use crate::pg::arguments::{bytes, maybe_uuid, text, uuid};
use crate::store::Store;
use modelstore_chunk::verify::manifest_hash;
use modelstore_chunk::write::{FileHashes, WrittenTensor};
use uuid::Uuid;

/// How a file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Its header, and its tensors as weights.
    Safetensors,
    /// The index.json of a sharded model, in place of a header.
    Index,
    /// Any other file of a model: one tensor of bytes.
    File,
}

impl Format {
    /// Its name in `model_files`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::Index => "safetensors_index",
            Format::File => "file",
        }
    }
}

/// A file whose tensors are stored.
pub struct NewFile<'a> {
    /// Its name in the folder of the model.
    pub name: &'a str,
    /// How it is kept.
    pub format: Format,
    /// All bytes before the tensors.
    pub header: &'a [u8],
    /// Bytes of the whole file.
    pub bytes: u64,
    /// Of the whole file.
    pub hashes: FileHashes,
    /// The tensors, in the order of the file.
    pub tensors: &'a [WrittenTensor],
}

/// Records a file.
pub fn record(store: &Store, of: StateDict, mut file: NewFile<'_>) -> Result<()> {
    let (sha256, blake3) = std::mem::take(&mut file.hashes).finish();
    record_hashed(store, of, file, &sha256, &blake3)
}

/// Records a file whose SHA-256 and BLAKE3 hashes are known.
pub fn record_hashed(
    store: &Store,
    of: StateDict,
    file: NewFile<'_>,
    sha256: &[u8],
    blake3: &[u8],
) -> Result<()> {
    let name = names::check_file(file.name)?;
    let manifest_hash = manifest_hash(file.header, file.tensors.iter().flat_map(|t| &t.chunks));
    let mut arguments = vec![
        uuid(of.id()),
        text(name),
        text(file.format.name()),
        bytes(file.header),
        (file.bytes as i64).into(),
        bytes(sha256),
        bytes(blake3),
        bytes(manifest_hash.as_bytes()),
    ];
    let (column, value) = match file.format {
        Format::File => (", tensor_id", ", $9"),
        _ => ("", ""),
    };
    if file.format == Format::File {
        arguments.push(maybe_uuid(file.tensors.first().map(|tensor| tensor.id)));
    }
    let inserted = store.execute(
        &of.sql(&format!(
            "INSERT INTO @files@ (@owner@, file_name, format, header, file_bytes, sha256, blake3, manifest_hash{column})
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8{value}) ON CONFLICT DO NOTHING",
        )),
        &arguments,
    )?;
    if inserted == 1 {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_UNIQUE_VIOLATION,
        format!("{of} already has a file \"{name}\""),
    ))
}

/// A name is that of a file or of a folder.
pub fn check_place(store: &Store, model: Uuid, name: &str) -> Result<()> {
    let other = store.row(
        "SELECT file_name FROM @store@.model_files
         WHERE model_id = $1 AND (starts_with(file_name, $2 || '/') OR starts_with($2, file_name || '/'))
         ORDER BY file_name LIMIT 1",
        &[uuid(model), text(name)],
        |row| row.get::<String>(1),
    )?;
    let Some(other) = other else { return Ok(()) };
    let (folder, within) = match name.len() < other.len() {
        true => (name, other.as_str()),
        false => (other.as_str(), name),
    };
    Err(Failure::new(
        Code::ERRCODE_UNIQUE_VIOLATION,
        format!("model {model} already has a file \"{other}\""),
    )
    .detail(format!(
        "File \"{within}\" is in a folder \"{folder}\", which cannot be a file as well."
    )))
}
