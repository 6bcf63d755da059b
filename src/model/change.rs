//! Changes to a registered model: name, metadata, archived or not.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::names;
use crate::pg::arguments::{maybe_jsonb, text, to_sql_uuid, uuid};
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn rename_model(name: Option<&str>, new_name: Option<&str>) -> i64 {
    or_raise((|| {
        let (name, new_name) = (required(name, "name")?, required(new_name, "new_name")?);
        rename(&Store::current()?, name, new_name)
    })())
}

fn rename(store: &Store, name: &str, new_name: &str) -> Result<i64> {
    names::check_model(new_name)?;
    let versions = |name| {
        store.row(
            "SELECT count(*) FROM @store@.models WHERE model_name = $1",
            &[text(name)],
            |row| row.get::<i64>(1),
        )
    };
    // A rename must not merge two models, even if their versions differ; nor may two concurrent renames.
    store.row(
        "SELECT pg_advisory_xact_lock(hashtextextended(format('modelstore.rename_model %I.%s', $1, $2), 0)) IS NULL",
        &[text(store.name()), text(new_name)],
        |row| row.get::<bool>(1),
    )?;
    let taken = versions(new_name)?.unwrap_or_default();
    if taken > 0 && name != new_name {
        return Err(Failure::new(
            Code::ERRCODE_UNIQUE_VIOLATION,
            format!("model \"{new_name}\" already exists"),
        )
        .detail(format!("Versions: {taken}."))
        .hint(store.sql(&format!(
            "SELECT version, model_id FROM @store@.models WHERE model_name = {};",
            pgrx::spi::quote_literal(new_name)
        ))));
    }
    let renamed = store.execute(
        "UPDATE @store@.models SET model_name = $2 WHERE model_name = $1",
        &[text(name), text(new_name)],
    )?;
    if renamed == 0 {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("model \"{name}\" does not exist"),
        )
        .hint(store.sql("SELECT DISTINCT model_name FROM @store@.models;")));
    }
    store.execute(
        "UPDATE @store@.model_aliases SET model_name = $2 WHERE model_name = $1",
        &[text(name), text(new_name)],
    )?;
    Ok(renamed as i64)
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_model_metadata(model: Option<Regmodel>, metadata: Option<Jsonb<'_>>) -> SqlUuid {
    or_raise((|| {
        let (store, model) = (Store::current()?, required(model, "model")?.0);
        let changed = store.execute(
            "UPDATE @store@.models SET metadata = $2 WHERE model_id = $1",
            &[uuid(model), maybe_jsonb(metadata.as_ref())],
        )?;
        if changed == 0 {
            return Err(models::unknown(&store, model));
        }
        Ok(to_sql_uuid(model))
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn archive_model(
    model: Option<Regmodel>,
    archived: default!(Option<bool>, "true"),
) -> &'static str {
    or_raise((|| {
        let model = required(model, "model")?.0;
        archive(&Store::current()?, model, required(archived, "archived")?)
    })())
}

fn archive(store: &Store, model: Uuid, archived: bool) -> Result<&'static str> {
    let has_weights = store.row(
        // A draft has weights without a file.
        "SELECT coalesce(bool_and(file_name IS NOT NULL), false) FROM @store@.model_weights WHERE model_id = $1",
        &[uuid(model)],
        |row| row.get::<bool>(1),
    )?;
    let status = match (archived, has_weights) {
        (true, _) => "archived",
        (false, Some(true)) => "ready",
        (false, _) => "registered",
    };
    let changed = store.execute(
        "UPDATE @store@.models SET status = $2 WHERE model_id = $1",
        &[uuid(model), text(status)],
    )?;
    if changed == 0 {
        return Err(models::unknown(store, model));
    }
    Ok(status)
}
