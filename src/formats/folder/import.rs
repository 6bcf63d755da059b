//! Imports the files of a folder as a model.

use crate::error::Result;
use crate::formats::folder::add::{Content, Sniffed};
use crate::formats::folder::{other_form, server_folder};
use crate::formats::safetensors::files::Format;
use crate::formats::safetensors::import::{FileIn, Imported, import_files};
use crate::formats::safetensors::shards::record_index;
use crate::io::Source;
use crate::model::architecture;
use crate::model::models::{self, NewModel};
use crate::pg::arguments::{maybe_text, uuid};
use crate::store::Store;
use modelstore_chunk::Memory;
use std::collections::HashSet;
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
    let imported = import_sources(store, model, &names, &mut sources, Given::default())?;
    Ok((count, imported))
}

/// What is known of a folder that its files do not say.
#[derive(Default)]
pub struct Given<'a> {
    pub config: GivenConfig<'a>,
    /// The files that are kept as they are, although they may be weights or an index; none if the names and headers of the
    /// files decide.
    pub kept: Option<HashSet<String>>,
}

/// Where the config of a model comes from.
#[derive(Default)]
pub enum GivenConfig<'a> {
    /// From its config.json, if it has one.
    #[default]
    InFiles,
    /// The text of a jsonb value, or none, whatever config.json says.
    Is(Option<&'a str>),
}

/// Creates a model from files of these names.
pub fn import_sources<S: Source>(
    store: &Store,
    model: &NewModel<'_>,
    names: &[String],
    sources: &mut [S],
    given: Given<'_>,
) -> Result<Imported> {
    let (mut files, mut indexes) = (Vec::new(), Vec::new());
    let (mut configs, mut cards) = (Vec::new(), Vec::new());
    for (name, source) in names.iter().zip(sources) {
        let sniffed =
            Sniffed::open(name, source).map_err(|e| e.about(&format!("file \"{name}\"")))?;
        configs.extend(sniffed.config);
        cards.extend(sniffed.card);
        match sniffed.content {
            Content::Index(bytes, index) => indexes.push((name, bytes, index)),
            Content::File(file) => files.push(file),
        }
        pgrx::check_for_interrupts!();
    }
    let (kept_indexes, indexes): (Vec<_>, Vec<_>) = match &given.kept {
        Some(kept) => {
            for file in files.iter_mut().filter(|file| kept.contains(file.name)) {
                file.keep_whole()?;
            }
            (indexes.into_iter()).partition(|(name, ..)| kept.contains(*name))
        }
        None => {
            other_form::keep_whole(&mut files)?;
            let kept: HashSet<String> = (files.iter())
                .filter(|file| file.format == Format::File)
                .map(|file| file.name.to_owned())
                .collect();
            (indexes.into_iter())
                .partition(|(name, _, index)| other_form::lists_only(name, index, &kept))
        }
    };
    let mut kept_indexes: Vec<_> = (kept_indexes.iter())
        .map(|(name, bytes, _)| (name.as_str(), Memory(bytes)))
        .collect();
    for (name, bytes) in &mut kept_indexes {
        files.push(FileIn::whole(name, bytes)?);
    }
    let has_weights = files.iter().any(|file| file.format == Format::Safetensors);
    let id = models::insert(
        store,
        &NewModel {
            status: if has_weights { "ready" } else { "registered" },
            ..*model
        },
    )?;
    match given.config {
        GivenConfig::InFiles => {
            for config in configs {
                config.set(store, id)?;
            }
        }
        GivenConfig::Is(config) => {
            store.execute(
                "UPDATE @store@.models SET config = $2::jsonb WHERE model_id = $1",
                &[uuid(id), maybe_text(config)],
            )?;
        }
    }
    for card in cards {
        card.set(store, id)?;
    }
    // In one write: the chunks of all files are inserted in one order.
    let (mut imported, weights) = import_files(store, id, files)?;
    for (name, bytes, index) in indexes {
        record_index(store, id, name, &bytes, &index)?;
    }
    if has_weights {
        imported.parameters = architecture::describe_weights(store, id, weights)?;
    }
    Ok(imported)
}
