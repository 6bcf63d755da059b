//! Sharded models: several safetensors files, and the index.json that lists them.

use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::files::{self, Format, NewFile};
use crate::formats::safetensors::import::{FileIn, Imported, import, import_files, keep_parent};
use crate::io::Source;
use crate::io::server_file::ServerFile;
use crate::model::architecture;
use crate::model::models::{self, NewModel};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::uuid;
use crate::store::Store;
use modelstore_chunk::write::FileHashes;
use modelstore_formats::file_name::folder_of;
use modelstore_formats::safetensors::{ShardIndex, is_index_name, parse_index};
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

/// Far above any real index, which only lists names.
pub const MAX_INDEX_BYTES: u64 = 256 << 20;

/// Imports a server file; an index.json also imports the shards next to it.
pub fn import_path(store: &Store, model: &NewModel<'_>, path: &Path) -> Result<Imported> {
    let mut source = ServerFile::open(path)?;
    let file_name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    if !is_index_name(&file_name) {
        return import(store, model, &file_name, &mut source);
    }
    let (bytes, index) = read_index(&mut source)?;
    let names = index.files();
    let mut sources = names
        .iter()
        .map(|shard| ServerFile::open(&path.with_file_name(shard)))
        .collect::<Result<Vec<_>>>()?;
    let shards = names
        .iter()
        .zip(&mut sources)
        .map(|(shard, source)| {
            FileIn::open(shard, source).map_err(|e| e.about(&format!("shard \"{shard}\"")))
        })
        .collect::<Result<Vec<_>>>()?;
    let id = models::insert(store, model)?;
    // In one write: the chunks of all shards are inserted in one order.
    let (mut imported, weights) = import_files(store, id, shards)?;
    record_index(store, id, &file_name, &bytes, &index)?;
    imported.parameters = architecture::describe_weights(store, id, weights)?;
    Ok(imported)
}

/// Takes the model for this transaction. Two sessions that add files to one model do so one after the other: what is
/// derived from the weights is derived from those of all files. In a transaction whose snapshot is older than the file
/// that another has added meanwhile, it is a serialization failure.
pub fn lock(store: &Store, model: Uuid) -> Result<()> {
    // The parent first, as who deletes it has it: its children's rows come after its own.
    keep_parent(store, model)?;
    let found = store.write(
        "SELECT 1 FROM @store@.models WHERE model_id = $1 FOR NO KEY UPDATE",
        &[uuid(model)],
        |_| Ok(()),
    )?;
    match found.len() {
        0 => models::require(store, model),
        _ => Ok(()),
    }
}

/// Reads an index.
pub fn read_index(source: &mut dyn Source) -> Result<(Vec<u8>, ShardIndex)> {
    let bytes = read_text(source)?;
    let index = parse_index(&bytes)?;
    Ok((bytes, index))
}

/// Reads a file that may be an index.
pub fn read_text(source: &mut dyn Source) -> Result<Vec<u8>> {
    if source.len() > MAX_INDEX_BYTES {
        return Err(Failure::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("safetensors index of {} bytes is too large", source.len()),
        )
        .detail(format!("An index has at most {MAX_INDEX_BYTES} bytes.")));
    }
    let mut bytes = Vec::new();
    source.read_at(0, source.len() as usize, &mut bytes)?;
    Ok(bytes)
}

/// Checks that each weight is in the shard named by the index, and stores the index unchanged. Its shards are the files in
/// the folder of the index.
pub fn record_index(
    store: &Store,
    model: Uuid,
    file_name: &str,
    bytes: &[u8],
    index: &ShardIndex,
) -> Result<()> {
    let folder = folder_of(file_name);
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    store.query(
        "SELECT file_name, weight_name FROM @store@.model_weights WHERE model_id = $1 AND file_name IS NOT NULL",
        &[uuid(model)],
        |row| {
            let file: String = row.get(1)?;
            if folder_of(&file) == folder {
                let shard = file[folder.len()..].to_owned();
                let weight: String = row.get(2)?;
                let in_file = weight.strip_prefix(folder).unwrap_or(&weight);
                shards.entry(shard).or_default().push(in_file.to_owned());
            }
            Ok(())
        },
    )?;
    let shards: Vec<_> = shards.into_iter().collect();
    index.check(&shards)?;
    let mut hashes = FileHashes::new();
    hashes.update(bytes);
    let file = NewFile {
        name: file_name,
        format: Format::Index,
        header: bytes,
        bytes: bytes.len() as u64,
        hashes,
        tensors: &[],
    };
    files::record(store, StateDict::Model(model), file)
}
