//! Imports an archive as a model.

use crate::error::{Code, Failure, Result};
use crate::formats::folder::import::{Given, GivenConfig, import_sources};
use crate::formats::safetensors::import::Imported;
use crate::io::Source;
use crate::model::models::NewModel;
use crate::model::state_dict::StateDict;
use crate::names;
use crate::pg::arguments::{maybe_text, now, text, uuid};
use crate::store::Store;
use crate::transfer::archive::import_training::restore_training;
use crate::transfer::archive::loose;
use crate::transfer::archive::part::{Archive, Part};
use crate::transfer::lineage::{parent, remember};
use modelstore_archive::tar::Entries;
use modelstore_archive::{Error, File, MAX_MANIFEST_BYTES, Manifest, Model, Raw, layout};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;

/// The result of an import.
pub struct Restored {
    /// The model, and what was stored of all files.
    pub imported: Imported,
    pub files: usize,
    pub runs: usize,
    pub checkpoints: usize,
}

/// Imports an archive under the name and version that it has, or under others.
pub fn import(
    store: &Store,
    source: &mut dyn Source,
    name: Option<&str>,
    version: Option<&str>,
) -> Result<Restored> {
    let entries = Entries::collect(source, || {
        pgrx::check_for_interrupts!();
        Ok::<_, Failure>(())
    })?;
    let manifest = read_manifest(source, &entries)?;
    manifest.check_entries(&entries)?;
    let archive = RefCell::new(source);
    let imported = restore_model(store, &archive, &entries, &manifest.model, name, version)?;
    let id = imported.model;
    let mut restored = Restored {
        imported,
        files: manifest.model.files.len(),
        runs: manifest.runs.len(),
        checkpoints: manifest.checkpoints.len(),
    };
    restore_training(
        store,
        &archive,
        &entries,
        &manifest,
        id,
        &mut restored.imported,
    )?;
    Ok(restored)
}

fn read_manifest(source: &mut dyn Source, entries: &Entries) -> Result<Manifest> {
    let (offset, length) = entries.find(layout::MANIFEST)?;
    if length > MAX_MANIFEST_BYTES {
        return Err(Error::ManifestTooLong { length }.into());
    }
    let mut bytes = Vec::new();
    source.read_at(offset, length as usize, &mut bytes)?;
    Ok(Manifest::parse(&bytes)?)
}

/// Returns the text of JSON that is passed on.
pub fn json(raw: Option<&Raw>) -> Option<&str> {
    raw.map(|raw| raw.get())
}

fn restore_model(
    store: &Store,
    archive: Archive<'_, '_>,
    entries: &Entries,
    model: &Model,
    name: Option<&str>,
    version: Option<&str>,
) -> Result<Imported> {
    let files: Vec<String> = model.files.iter().map(|file| file.name.clone()).collect();
    let mut parts = files
        .iter()
        .map(|name| Ok(Part::new(archive, entries.find(&layout::model_file(name))?)))
        .collect::<Result<Vec<_>>>()?;
    let new = NewModel {
        name: names::check_model(name.unwrap_or(&model.name))?,
        version: names::check_part("model version", version.unwrap_or(&model.version))?,
        parent: parent(store, &model.lineage)?,
        derivation: model.derivation.as_deref(),
        architecture: model.architecture.as_deref(),
        ..NewModel::default()
    };
    let given = Given {
        config: GivenConfig::Is(json(model.config.as_ref())),
        kept: kept(&model.files),
    };
    let imported = import_sources(store, &new, &files, &mut parts, given)?;
    let id = imported.model;
    check_files(store, StateDict::Model(id), &model.files)?;
    check_content_hash(store, StateDict::Model(id), model.content_hash.as_deref())?;
    let status = Some("archived").filter(|archived| *archived == model.status);
    store.execute(
        // Among the versions of its name it is as old as it was, but not of the future: it would be the newest for ever.
        "UPDATE @store@.models
         SET metadata = $2::jsonb, evaluations = $3::jsonb, status = coalesce($4, status),
             created_at = least($5::timestamptz, $8), license = $6, tags = $7
         WHERE model_id = $1",
        &[
            uuid(id),
            maybe_text(json(model.metadata.as_ref())),
            text(model.evaluations.get()),
            maybe_text(status),
            text(&model.created_at),
            maybe_text(model.license.as_deref()),
            model.tags.clone().into(),
            now(),
        ],
    )?;
    store.execute(
        "UPDATE @store@.model_weights SET trainable = weight_name <> ALL ($2)
         WHERE model_id = $1 AND trainable = (weight_name = ANY ($2))",
        &[uuid(id), model.frozen.clone().into()],
    )?;
    if model.gradients_bytes.is_some() {
        let mut part = Part::new(archive, entries.find(layout::GRADIENTS)?);
        loose::restore(
            store,
            loose::Of::Gradients(id),
            layout::GRADIENTS,
            &mut part,
        )?;
    }
    for alias in &model.aliases {
        names::check_part("alias", alias)?;
        // One that the store has stays where it is.
        store.execute(
            "WITH m AS MATERIALIZED (SELECT model_name FROM @store@.models WHERE model_id = $1)
             INSERT INTO @store@.model_aliases (model_name, alias, model_id)
             SELECT m.model_name, $2, $1 FROM m ON CONFLICT DO NOTHING",
            &[uuid(id), text(alias)],
        )?;
    }
    remember(store, id, &model.lineage)?;
    Ok(imported)
}

/// Returns the files that the model keeps as they are; none if the manifest does not say so. Which of two forms counts as
/// the weights depends on which came first.
fn kept(files: &[File]) -> Option<HashSet<String>> {
    let is_said = files.iter().any(|file| file.format.is_some());
    let kept = (files.iter())
        .filter(|file| file.format.as_deref() == Some("file"))
        .map(|file| file.name.clone());
    is_said.then(|| kept.collect())
}

/// Compares what was stored with what the manifest says of the files.
pub fn check_files(store: &Store, of: StateDict, files: &[File]) -> Result<()> {
    let stored = store.rows(
        &of.sql("SELECT file_name, encode(sha256, 'hex') FROM @files@ WHERE @owner@ = $1"),
        &[uuid(of.id())],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)),
    )?;
    let stored: BTreeMap<String, String> = stored.into_iter().collect();
    for file in files {
        if stored.get(&file.name) != Some(&file.sha256) {
            return Err(Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                format!(
                    "file \"{}\" of the archive does not match its SHA-256 hash",
                    file.name
                ),
            )
            .detail("The manifest has the hash of each file."));
        }
    }
    Ok(())
}

/// Compares the hash of all weights with what the manifest says of it.
pub fn check_content_hash(store: &Store, of: StateDict, expected: Option<&str>) -> Result<()> {
    let stored = store.row(
        &of.sql("SELECT encode(content_hash, 'hex') FROM @table@ WHERE @owner@ = $1"),
        &[uuid(of.id())],
        |row| row.opt::<String>(1),
    )?;
    if expected.is_none() || stored.flatten().as_deref() == expected {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        "weights of the archive do not match the content hash of its manifest",
    ))
}

/// Adds what was stored of another file.
pub fn add(total: &mut Imported, one: &Imported) {
    total.raw_bytes += one.raw_bytes;
    total.new_chunks += one.new_chunks;
    total.new_bytes += one.new_bytes;
    total.reused_bytes += one.reused_bytes;
}

/// Returns the ID of an item by its place.
pub fn at(ids: &[Uuid], place: Option<usize>) -> Option<Uuid> {
    ids.get(place?).copied()
}
