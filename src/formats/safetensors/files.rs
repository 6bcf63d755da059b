//! Records of an imported file besides its tensors: the unchanged header, and hashes of the whole file.

use crate::error::{Code, Failure, Result};
use crate::model::state_dict::StateDict;
use crate::names;
use crate::pg::arguments::{bytes, text, uuid};
use crate::store::Store;
use modelstore_chunk::verify::manifest_hash;
use modelstore_chunk::write::{FileHashes, WrittenTensor};
use modelstore_formats::safetensors::is_plain_file_name;

/// Records a file with the tensors of its header, in their order.
#[allow(clippy::too_many_arguments)]
pub fn record(
    store: &Store,
    of: StateDict,
    file_name: &str,
    format: &str,
    header: &[u8],
    file_bytes: u64,
    hashes: FileHashes,
    tensors: &[WrittenTensor],
) -> Result<()> {
    check_name(file_name)?;
    let manifest_hash = manifest_hash(header, tensors.iter().flat_map(|t| &t.chunks));
    let (sha256, blake3) = hashes.finish();
    let inserted = store.execute(
        &of.sql(
            "INSERT INTO @files@ (@owner@, file_name, format, header, file_bytes, sha256, blake3, manifest_hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        ),
        &[
            uuid(of.id()),
            text(file_name),
            text(format),
            bytes(header),
            (file_bytes as i64).into(),
            bytes(&sha256),
            bytes(&blake3),
            bytes(manifest_hash.as_bytes()),
        ],
    )?;
    if inserted == 1 {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_UNIQUE_VIOLATION,
        format!("{of} already has a file \"{file_name}\""),
    ))
}

/// Accepts a file name that is safe to write into a directory.
fn check_name(file_name: &str) -> Result<()> {
    names::check_file_name_length(file_name)?;
    if is_plain_file_name(file_name) {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_INVALID_NAME,
        format!("invalid file name \"{}\"", file_name.escape_default()),
    )
    .detail("Expected a file name without a directory, such as model-00001-of-00002.safetensors."))
}
