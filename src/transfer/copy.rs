//! Copies a model into another store of the database, or under another name into the same one.
//!
//! The store that is read is seen as the caller's statement sees it: what others delete meanwhile, gc included, is still
//! there, and the caller needs no right but to read. What the other store has is locked FOR KEY SHARE by who writes, as
//! an import does.

use crate::error::Result;
use crate::model::architecture;
use crate::model::models::{self, NewModel};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{maybe_text, maybe_uuid, text, uuid};
use crate::pg::query::Row;
use crate::store::Store;
use crate::transfer::copy_training;
use crate::transfer::copy_weights::{copy_files, copy_tensors, copy_weights};
use crate::transfer::lineage::{ancestors, parent, remember};
use pgrx::datum::Uuid as SqlUuid;
use uuid::Uuid;

/// What is to be copied.
pub struct Wanted<'a> {
    pub model: Uuid,
    /// As which model; none for the same name or version.
    pub name: Option<&'a str>,
    pub version: Option<&'a str>,
    pub with_checkpoints: bool,
}

/// The row of a model, its jsonb values as text: numbers keep their digits.
struct Model {
    name: String,
    version: String,
    derivation: Option<String>,
    architecture: Option<String>,
    config: Option<String>,
    metadata: Option<String>,
    evaluations: String,
    license: Option<String>,
    tags: Vec<String>,
    card: Option<String>,
    card_words: Option<String>,
    status: String,
    /// Whether its layers have been recognised: not those of a draft.
    is_described: bool,
    created_at: String,
    parent: Option<Uuid>,
    restored_checkpoint: Option<Uuid>,
}

/// Copies a model. All of it is written by the transaction of the caller.
pub fn copy(from: &Store, to: &Store, wanted: &Wanted<'_>) -> Result<Uuid> {
    let model = read(from, wanted.model)?;
    let is_same = from.name() == to.name();
    let (line, parent) = match is_same {
        true => (Vec::new(), None),
        false => {
            let line = ancestors(from, wanted.model)?;
            let parent = parent(to, &line)?;
            (line, parent)
        }
    };
    let id = insert(to, &model, wanted, parent)?;
    let tensors = copy_tensors(from, to, wanted.model, wanted.with_checkpoints)?;
    copy_files(
        from,
        to,
        StateDict::Model(wanted.model),
        StateDict::Model(id),
        &tensors,
    )?;
    copy_weights(from, to, wanted.model, id, &tensors)?;
    if model.is_described {
        architecture::describe(to, id)?;
    }
    match is_same {
        true => keep_parent(to, id, &model)?,
        false => {
            remember(to, id, &line)?;
            // Among the versions of its name it is as old as it was.
            to.execute(
                "UPDATE @store@.models SET created_at = $2::timestamptz WHERE model_id = $1",
                &[uuid(id), text(&model.created_at)],
            )?;
        }
    }
    if wanted.with_checkpoints {
        copy_training::copy(from, to, wanted.model, id, &tensors)?;
    }
    Ok(id)
}

fn read(store: &Store, model: Uuid) -> Result<Model> {
    let found = store.row(
        "SELECT model_name, version, derivation, architecture, config::text, metadata::text, evaluations::text, status,
                content_hash IS NOT NULL, parent_model_id, restored_checkpoint_id, to_jsonb(created_at) #>> '{}',
                license, tags, card::text, card_words::text
         FROM @store@.models WHERE model_id = $1",
        &[uuid(model)],
        |row| {
            Ok(Model {
                name: row.get(1)?,
                version: row.get(2)?,
                derivation: row.opt(3)?,
                architecture: row.opt(4)?,
                config: row.opt(5)?,
                metadata: row.opt(6)?,
                evaluations: row.get(7)?,
                status: row.get(8)?,
                is_described: row.get(9)?,
                parent: key(row, 10)?,
                restored_checkpoint: key(row, 11)?,
                created_at: row.get(12)?,
                license: row.opt(13)?,
                tags: row.get(14)?,
                card: row.opt(15)?,
                card_words: row.opt(16)?,
            })
        },
    )?;
    found.ok_or_else(|| models::unknown(store, model))
}

/// Reads a key that may be NULL.
pub fn key(row: &Row<'_>, n: usize) -> Result<Option<Uuid>> {
    let key = row.opt::<SqlUuid>(n)?;
    Ok(key.map(crate::pg::arguments::from_sql_uuid))
}

fn insert(store: &Store, model: &Model, wanted: &Wanted<'_>, parent: Option<Uuid>) -> Result<Uuid> {
    let new = NewModel {
        name: wanted.name.unwrap_or(&model.name),
        version: wanted.version.unwrap_or(&model.version),
        parent,
        derivation: model.derivation.as_deref(),
        architecture: model.architecture.as_deref(),
        status: &model.status,
        ..NewModel::default()
    };
    // The HINT of others looks into the current store.
    let id = models::insert(store, &new).map_err(|e| match e.code() {
        crate::error::Code::ERRCODE_UNIQUE_VIOLATION => e.hint(store.sql(&format!(
            "SELECT version, model_id FROM @store@.models WHERE model_name = {};",
            pgrx::spi::quote_literal(new.name)
        ))),
        _ => e,
    })?;
    store.execute(
        "UPDATE @store@.models
         SET config = $2::jsonb, metadata = $3::jsonb, evaluations = $4::jsonb, license = $5, tags = $6, card = $7::jsonb,
             card_words = $8::tsvector
         WHERE model_id = $1",
        &[
            uuid(id),
            maybe_text(model.config.as_deref()),
            maybe_text(model.metadata.as_deref()),
            text(&model.evaluations),
            maybe_text(model.license.as_deref()),
            model.tags.clone().into(),
            maybe_text(model.card.as_deref()),
            maybe_text(model.card_words.as_deref()),
        ],
    )?;
    Ok(id)
}

/// In the same store the parent is the same; it may have been deleted meanwhile.
fn keep_parent(store: &Store, id: Uuid, model: &Model) -> Result<()> {
    store.execute(
        "UPDATE @store@.models
         SET parent_model_id = (SELECT p.model_id FROM @store@.models p WHERE p.model_id = $2),
             restored_checkpoint_id = (SELECT c.checkpoint_id FROM @store@.model_checkpoints c WHERE c.checkpoint_id = $3)
         WHERE model_id = $1",
        &[
            uuid(id),
            maybe_uuid(model.parent),
            maybe_uuid(model.restored_checkpoint),
        ],
    )?;
    Ok(())
}
