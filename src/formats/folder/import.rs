//! Imports a folder on the server as a model.

use crate::error::Result;
use crate::formats::folder::add::{Content, Sniffed};
use crate::formats::folder::server_folder;
use crate::formats::safetensors::files::Format;
use crate::formats::safetensors::import::{Imported, import_files};
use crate::formats::safetensors::shards::record_index;
use crate::model::architecture;
use crate::model::models::{self, NewModel};
use crate::store::Store;
use std::path::Path;

/// Creates a model from the files of a folder. Returns their number as well.
pub fn import_folder(
    store: &Store,
    model: &NewModel<'_>,
    path: &Path,
) -> Result<(usize, Imported)> {
    let mut sources = server_folder::files(path)?;
    let count = sources.len();
    let names: Vec<String> = sources.iter().map(|file| file.name.clone()).collect();
    let (mut files, mut indexes, mut configs) = (Vec::new(), Vec::new(), Vec::new());
    for (name, source) in names.iter().zip(&mut sources) {
        let sniffed =
            Sniffed::open(name, source).map_err(|e| e.about(&format!("file \"{name}\"")))?;
        configs.extend(sniffed.config);
        match sniffed.content {
            Content::Index(bytes, index) => indexes.push((name, bytes, index)),
            Content::File(file) => files.push(file),
        }
        pgrx::check_for_interrupts!();
    }
    let has_weights = files.iter().any(|file| file.format == Format::Safetensors);
    let id = models::insert(
        store,
        &NewModel {
            status: if has_weights { "ready" } else { "registered" },
            ..*model
        },
    )?;
    for config in configs {
        config.set(store, id)?;
    }
    // In one write: the chunks of all files are inserted in one order.
    let (mut imported, weights) = import_files(store, id, files)?;
    for (name, bytes, index) in indexes {
        record_index(store, id, name, &bytes, &index)?;
    }
    if has_weights {
        imported.parameters = architecture::describe_weights(store, id, weights)?;
    }
    Ok((count, imported))
}
