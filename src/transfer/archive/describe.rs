//! What a store says of a model, as the manifest of an archive.

use crate::error::{Code, Failure, Result};
use crate::model::models;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::uuid;
use crate::store::Store;
use crate::transfer::archive::describe_training::{Ids, describe_training};
use crate::transfer::archive::loose;
use crate::transfer::lineage::ancestors;
use modelstore_archive::{FORMAT, File, Manifest, Model, Raw, VERSION};
use serde_json::value::RawValue;
use uuid::Uuid;

/// A time as text, in UTC whatever the session's settings are.
macro_rules! utc {
    ($time:literal) => {
        concat!(
            "CASE WHEN isfinite(",
            $time,
            ") THEN to_char(",
            $time,
            " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') ELSE ",
            $time,
            "::text END"
        )
    };
}
pub(super) use utc;

/// Describes a model. Returns the keys of runs and checkpoints by their places as well, and the time of the model in seconds.
pub fn describe(
    store: &Store,
    model: Uuid,
    with_checkpoints: bool,
) -> Result<(Manifest, Ids, u64)> {
    require_no_draft(store, model)?;
    let (described, seconds) = describe_model(store, model)?;
    let (runs, checkpoints, ids) = match with_checkpoints {
        true => describe_training(store, model)?,
        false => Default::default(),
    };
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        model: described,
        runs,
        checkpoints,
    };
    Ok((manifest, ids, seconds))
}

fn describe_model(store: &Store, model: Uuid) -> Result<(Model, u64)> {
    let found = store.row(
        concat!(
            "SELECT model_name, version, status, derivation, architecture, config::text, metadata::text, evaluations::text,
                    encode(content_hash, 'hex'), ",
            utc!("created_at"),
            ", CASE WHEN isfinite(created_at) THEN greatest(floor(extract(epoch FROM created_at)), 0)::bigint ELSE 0 END,
                    license, tags
             FROM @store@.models WHERE model_id = $1"
        ),
        &[uuid(model)],
        |row| {
            let seconds = row.get::<i64>(11)?;
            let described = Model {
                name: row.get(1)?,
                version: row.get(2)?,
                status: row.get(3)?,
                derivation: row.opt(4)?,
                architecture: row.opt(5)?,
                config: raw(row.opt(6)?)?,
                metadata: raw(row.opt(7)?)?,
                evaluations: json(row.get(8)?)?,
                content_hash: row.opt(9)?,
                created_at: row.get(10)?,
                license: row.opt(12)?,
                tags: row.get(13)?,
                aliases: Vec::new(),
                lineage: Vec::new(),
                frozen: Vec::new(),
                files: Vec::new(),
                gradients_bytes: None,
            };
            Ok((described, seconds as u64))
        },
    )?;
    let (described, seconds) = found.ok_or_else(|| models::unknown(store, model))?;
    let names = |sql: &str| store.rows(sql, &[uuid(model)], |row| row.get::<String>(1));
    let described = Model {
        aliases: names(
            "SELECT alias FROM @store@.model_aliases WHERE model_id = $1 ORDER BY alias COLLATE \"C\"",
        )?,
        lineage: ancestors(store, model)?,
        frozen: names(
            "SELECT weight_name FROM @store@.model_weights WHERE model_id = $1 AND NOT trainable ORDER BY weight_name COLLATE \"C\"",
        )?,
        files: files(store, StateDict::Model(model))?,
        gradients_bytes: loose::bytes(store, loose::Of::Gradients(model))?,
        ..described
    };
    Ok((described, seconds))
}

/// Lists the files of a model or a checkpoint.
pub fn files(store: &Store, of: StateDict) -> Result<Vec<File>> {
    store.rows(
        &of.sql(
            "SELECT file_name, file_bytes, encode(sha256, 'hex'), format FROM @files@
             WHERE @owner@ = $1 ORDER BY file_name COLLATE \"C\"",
        ),
        &[uuid(of.id())],
        |row| {
            Ok(File {
                name: row.get(1)?,
                bytes: row.get::<i64>(2)? as u64,
                sha256: row.get(3)?,
                format: row.opt(4)?,
            })
        },
    )
}

/// Wraps the text of a jsonb value.
pub fn raw(text: Option<String>) -> Result<Option<Raw>> {
    text.map(json).transpose()
}

fn json(text: String) -> Result<Raw> {
    RawValue::from_string(text).map_err(|e| {
        Failure::new(
            Code::ERRCODE_INTERNAL_ERROR,
            format!("jsonb value is not JSON: {e}"),
        )
    })
}

/// The weights of a draft are in no file.
fn require_no_draft(store: &Store, model: Uuid) -> Result<()> {
    let is_draft = store.row(
        "SELECT EXISTS (SELECT FROM @store@.model_weights WHERE model_id = $1 AND file_name IS NULL)",
        &[uuid(model)],
        |row| row.get::<bool>(1),
    )?;
    if is_draft != Some(true) {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("model {model} is a draft"),
    )
    .detail("Its weights are in no file yet.")
    .hint(format!("SELECT modelstore.finish_model('{model}');")))
}
