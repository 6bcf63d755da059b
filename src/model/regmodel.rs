//! The type `regmodel`: reads names of models. Its values are uuids, which PostgreSQL prints and receives as such.

use crate::error::{Code, Failure, Result, or_raise};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::{from_sql_uuid, text, to_sql_uuid, uuid};
use crate::pg::snapshot::with_active_snapshot;
use crate::pg::soft_error::ErrorSink;
use crate::store::Store;
use modelstore_names::{ModelReference, Which, nearest};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::ffi::CStr;
use uuid::Uuid;

/// Names that a HINT suggests.
const SUGGESTED: usize = 3;

/// Names that are compared with a misspelt one.
const MAX_COMPARED: i64 = 1_000;

/// A key reads no table: dumps restore in any order. Anything else is found in the current store, at the moment the text
/// is read: for a literal, when its statement is parsed.
#[pg_extern(stable, strict, parallel_restricted, sql = false)]
fn regmodel_in(input: &CStr, errors: ErrorSink) -> Option<SqlUuid> {
    errors.or_save(utf8(input, "regmodel").and_then(read).map(to_sql_uuid))
}

/// As `regmodel_in`, for the casts from text and varchar.
#[pg_extern(stable, strict, parallel_restricted, sql = false)]
fn to_regmodel(name: &str) -> SqlUuid {
    or_raise(read(name).map(to_sql_uuid))
}

/// Returns the input of a type as text.
pub fn utf8<'a>(input: &'a CStr, of_type: &str) -> Result<&'a str> {
    input.to_str().map_err(|_| {
        Failure::new(
            Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
            format!("invalid input syntax for type {of_type}: not UTF-8"),
        )
    })
}

fn read(text: &str) -> Result<Uuid> {
    match ModelReference::parse(text)? {
        ModelReference::Id(id) => Ok(id),
        reference => with_active_snapshot(|| resolve(&Store::for_reading()?, reference)),
    }
}

/// Finds the model that a reference names; one that is given by its key need not exist.
pub fn resolve(store: &Store, reference: ModelReference<'_>) -> Result<Uuid> {
    let (name, which) = match reference {
        ModelReference::Id(id) => return Ok(id),
        ModelReference::Named { name, which } => (name, which),
    };
    let key = |sql: &str, part: &str| {
        let found = store.row(sql, &[text(name), text(part)], |row| row.get::<SqlUuid>(1))?;
        Ok::<_, Failure>(found.map(from_sql_uuid))
    };
    let found = match which {
        Which::Newest => newest(store, name)?,
        Which::Version(version) => key(
            "SELECT model_id FROM @store@.models WHERE model_name = $1 AND version = $2",
            version,
        )?,
        Which::Alias(alias) => key(
            "SELECT model_id FROM @store@.model_aliases WHERE model_name = $1 AND alias = $2",
            alias,
        )?,
    };
    match found {
        Some(found) => Ok(found),
        None => Err(missing(store, name, which)?),
    }
}

/// Finds the newest version of a name that is not archived; one that is ready, if there is any: a draft takes the place of
/// no model before it is finished.
pub fn newest(store: &Store, name: &str) -> Result<Option<Uuid>> {
    let found = store.row(
        "SELECT model_id FROM @store@.models WHERE model_name = $1 AND status <> 'archived'
         ORDER BY status = 'registered', created_at DESC, model_id DESC LIMIT 1",
        &[text(name)],
        |row| row.get::<SqlUuid>(1),
    )?;
    Ok(found.map(from_sql_uuid))
}

/// Returns the error for a name that no model has, or that has no such version or alias, with what may have been meant.
pub fn missing(store: &Store, name: &str, which: Which<'_>) -> Result<Failure> {
    let (versions, archived) = store
        .row(
            "SELECT count(*), count(*) FILTER (WHERE status = 'archived') FROM @store@.models WHERE model_name = $1",
            &[text(name)],
            |row| Ok((row.get::<i64>(1)?, row.get::<i64>(2)?)),
        )?
        .unwrap_or_default();
    let undefined = |message: String| Failure::new(Code::ERRCODE_UNDEFINED_OBJECT, message);
    if versions == 0 {
        let failure = undefined(format!("model \"{name}\" does not exist"));
        let near = names(
            store,
            "SELECT DISTINCT model_name FROM @store@.models LIMIT $1",
            None,
            name,
        )?;
        return Ok(suggest(
            failure,
            store,
            &near,
            "SELECT DISTINCT model_name FROM @store@.models;",
            |near| near.to_owned(),
        ));
    }
    let literal = pgrx::spi::quote_literal(name);
    Ok(match which {
        Which::Newest => undefined(format!(
            "model \"{name}\" has no version that is not archived"
        ))
        .detail(format!("All its versions are archived: {archived}."))
        .hint(store.sql(&format!(
            "SELECT version, status FROM @store@.models WHERE model_name = {literal};"
        ))),
        Which::Version(version) => {
            let failure = undefined(format!("model \"{name}\" has no version \"{version}\""));
            let near = names(
                store,
                "SELECT version FROM @store@.models WHERE model_name = $2 LIMIT $1",
                Some(name),
                version,
            )?;
            let all = format!("SELECT version FROM @store@.models WHERE model_name = {literal};");
            suggest(failure, store, &near, &all, |near| format!("{name}:{near}"))
        }
        Which::Alias(alias) => {
            let failure = undefined(format!("model \"{name}\" has no alias \"{alias}\""));
            let near = names(
                store,
                "SELECT alias FROM @store@.model_aliases WHERE model_name = $2 LIMIT $1",
                Some(name),
                alias,
            )?;
            let all =
                format!("SELECT alias FROM @store@.model_aliases WHERE model_name = {literal};");
            suggest(failure, store, &near, &all, |near| format!("{name}@{near}"))
        }
    })
}

/// Returns those of the names of a query that are near to a wanted one.
fn names(store: &Store, sql: &str, of: Option<&str>, wanted: &str) -> Result<Vec<String>> {
    let mut arguments = vec![MAX_COMPARED.into()];
    arguments.extend(of.map(text));
    let all = store.rows(sql, &arguments, |row| row.get::<String>(1))?;
    let near = nearest(wanted, all.iter().map(String::as_str), SUGGESTED);
    Ok(near.into_iter().map(str::to_owned).collect())
}

/// Adds the names that may have been meant as DETAIL and the likeliest as HINT, or a query of all as HINT.
fn suggest(
    failure: Failure,
    store: &Store,
    near: &[String],
    all: &str,
    whole: impl Fn(&str) -> String,
) -> Failure {
    let Some(first) = near.first() else {
        return failure
            .detail(format!(
                "Store \"{}\" has none that is similar.",
                store.name()
            ))
            .hint(store.sql(all));
    };
    let quoted: Vec<String> = near.iter().map(|name| format!("\"{name}\"")).collect();
    failure
        .detail(format!("Similar: {}.", quoted.join(", ")))
        .hint(format!(
            "SELECT modelstore.model_label({});",
            pgrx::spi::quote_literal(whole(first))
        ))
}

#[pg_extern(stable, strict, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn model_label(model: Regmodel) -> String {
    or_raise((|| label(&Store::for_reading()?, model.0))())
}

/// Returns `name:version`.
pub fn label(store: &Store, model: Uuid) -> Result<String> {
    let found = store.row(
        "SELECT model_name || ':' || version FROM @store@.models WHERE model_id = $1",
        &[uuid(model)],
        |row| row.get::<String>(1),
    )?;
    found.ok_or_else(|| models::unknown(store, model))
}
