//! What is kept of an imported file beside its tensors: the header as it was, and hashes of the whole.

use crate::error::{Code, Failure, Result};
use crate::store::Store;
use crate::store::arguments::{bytes, text, uuid};
use crate::tensor_storage::locate;
use modelstore_chunk::ChunkHash;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// SHA-256 and BLAKE3 of a file, computed as it streams by.
pub struct FileHashes {
    sha256: Sha256,
    blake3: blake3::Hasher,
}

impl FileHashes {
    /// Of no bytes yet.
    pub fn new() -> FileHashes {
        FileHashes {
            sha256: Sha256::new(),
            blake3: blake3::Hasher::new(),
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.blake3.update(bytes);
    }
}

/// BLAKE3-256 of a header and of the hashes of the chunks behind it, in order.
pub fn manifest_hash<'a>(
    header: &[u8],
    chunks: impl Iterator<Item = &'a ChunkHash>,
) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    chunks.for_each(|chunk| {
        hasher.update(chunk.as_bytes());
    });
    hasher.finalize()
}

/// Adds a file with the tensors that follow its header, in order.
#[allow(clippy::too_many_arguments)]
pub fn record(
    store: &Store,
    model: Uuid,
    file_name: &str,
    format: &str,
    header: &[u8],
    file_bytes: u64,
    hashes: FileHashes,
    tensors: &[Uuid],
) -> Result<()> {
    check_name(file_name)?;
    let chunks = locate::chunks_of(store, tensors)?;
    let manifest_hash = manifest_hash(header, chunks.iter().map(|(_, hash)| hash));
    let inserted = store.execute(
        "INSERT INTO @store@.model_files (model_id, file_name, format, header, file_bytes, sha256, blake3, manifest_hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        &[
            uuid(model),
            text(file_name),
            text(format),
            bytes(header),
            (file_bytes as i64).into(),
            bytes(&hashes.sha256.finalize()),
            bytes(hashes.blake3.finalize().as_bytes()),
            bytes(manifest_hash.as_bytes()),
        ],
    )?;
    if inserted == 1 {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_UNIQUE_VIOLATION,
        format!("model {model} already has a file \"{file_name}\""),
    ))
}

/// A file name that is safe to write back beside others: no folder, no control characters.
fn check_name(file_name: &str) -> Result<()> {
    let plain = !file_name.is_empty()
        && !matches!(file_name, "." | "..")
        && !file_name.contains(|c: char| c == '/' || c == '\\' || c.is_control());
    if plain {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_INVALID_NAME,
        format!("invalid file name \"{}\"", file_name.escape_default()),
    )
    .detail("Expected a name without folders, such as model-00001-of-00002.safetensors."))
}
