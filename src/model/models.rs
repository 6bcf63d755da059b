//! Registering and finding models.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::Regmodel;
use crate::model::regmodel::{missing, newest};
use crate::names;
use crate::pg::arguments::{
    from_sql_uuid, maybe_jsonb, maybe_text, maybe_uuid, text, to_sql_uuid, uuid,
};
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use modelstore_names::Which;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

/// How often to look for a model that other sessions create or delete meanwhile.
const MAX_TRIES: usize = 20;

/// Attributes of a new model.
#[derive(Default)]
pub struct NewModel<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub parent: Option<Uuid>,
    pub derivation: Option<&'a str>,
    pub architecture: Option<&'a str>,
    /// NULL for the parent's config, if `inherits_config` is set.
    pub config: Option<&'a Jsonb<'a>>,
    pub inherits_config: bool,
    pub metadata: Option<&'a Jsonb<'a>>,
    pub status: &'a str,
}

impl<'a> NewModel<'a> {
    /// Builds a model without files from the arguments of the functions that register.
    fn registered(
        name: Option<&'a str>,
        version: Option<&'a str>,
        parent: Option<Regmodel>,
    ) -> Result<NewModel<'a>> {
        Ok(NewModel {
            name: required(name, "name")?,
            version: required(version, "version")?,
            parent: parent.map(|parent| parent.0),
            status: "registered",
            ..NewModel::default()
        })
    }
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn register_model(
    name: Option<&str>,
    version: Option<&str>,
    parent: default!(Option<Regmodel>, "NULL"),
    architecture: default!(Option<&str>, "NULL"),
    config: default!(Option<Jsonb<'_>>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
    derivation: default!(Option<&str>, "NULL"),
) -> SqlUuid {
    or_raise((|| {
        let model = NewModel {
            derivation,
            architecture,
            config: config.as_ref(),
            metadata: metadata.as_ref(),
            ..NewModel::registered(name, version, parent)?
        };
        insert(&Store::current()?, &model).map(to_sql_uuid)
    })())
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn find_or_register_model(
    name: Option<&str>,
    version: Option<&str>,
    parent: default!(Option<Regmodel>, "NULL"),
    architecture: default!(Option<&str>, "NULL"),
    config: default!(Option<Jsonb<'_>>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
    derivation: default!(Option<&str>, "NULL"),
) -> SqlUuid {
    or_raise((|| {
        let model = NewModel {
            derivation,
            architecture,
            config: config.as_ref(),
            metadata: metadata.as_ref(),
            ..NewModel::registered(name, version, parent)?
        };
        find_or_insert(&Store::current()?, &model).map(to_sql_uuid)
    })())
}

/// Concurrent sessions get the same model: the session that loses waits for the winner, then finds its row.
fn find_or_insert(store: &Store, model: &NewModel<'_>) -> Result<Uuid> {
    for _ in 0..MAX_TRIES {
        let found = store.row(
            "SELECT model_id FROM @store@.models WHERE model_name = $1 AND version = $2",
            &[text(model.name), text(model.version)],
            |row| row.get::<SqlUuid>(1),
        )?;
        if let Some(found) = found {
            return Ok(from_sql_uuid(found));
        }
        if let Some(made) = try_insert(store, model)? {
            return Ok(made);
        }
        // The winner's row may have been deleted: retry.
        pgrx::check_for_interrupts!();
    }
    Err(Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "model \"{}\" version \"{}\" can be neither found nor stored",
            model.name, model.version
        ),
    )
    .detail("A row-level security policy hides the row, or a trigger prevents the insert.")
    .hint(format!(
        "SELECT polname FROM pg_policy WHERE polrelid = {}::regclass;",
        pgrx::spi::quote_literal(store.sql("@store@.models"))
    )))
}

/// Inserts the row of a model; an existing name and version, or an unknown parent, are errors.
pub fn insert(store: &Store, model: &NewModel<'_>) -> Result<Uuid> {
    try_insert(store, model)?.ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_UNIQUE_VIOLATION,
            format!(
                "model \"{}\" version \"{}\" already exists",
                model.name, model.version
            ),
        )
        .detail("The combination of name and version must be unique.")
        .hint(format!(
            "SELECT modelstore.find_model({}, {});",
            pgrx::spi::quote_literal(model.name),
            pgrx::spi::quote_literal(model.version)
        ))
    })
}

/// Inserts the row of a model; returns `None` if the name and version exist.
fn try_insert(store: &Store, model: &NewModel<'_>) -> Result<Option<Uuid>> {
    names::check_model(model.name)?;
    names::check_part("model version", model.version)?;
    if let Some(parent) = model.parent {
        require(store, parent)?;
    }
    let id = Uuid::now_v7();
    let inherits = model.inherits_config && model.config.is_none() && model.parent.is_some();
    let (parent, values) = match inherits {
        true => (
            "WITH p AS MATERIALIZED (SELECT config FROM @store@.models WHERE model_id = $4 AND $7 IS NULL)",
            "SELECT $1, $2, $3, $4, $5, $6, p.config, $8, $9 FROM p",
        ),
        false => ("", "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"),
    };
    let inserted = store.insert(
        &format!(
            "{parent} INSERT INTO @store@.models (model_id, model_name, version, parent_model_id, derivation, architecture, config, metadata, status)
             {values} ON CONFLICT (model_name, version) DO NOTHING RETURNING 1"
        ),
        &[
            uuid(id),
            text(model.name),
            text(model.version),
            maybe_uuid(model.parent),
            maybe_text(model.derivation),
            maybe_text(model.architecture),
            maybe_jsonb(model.config),
            maybe_jsonb(model.metadata),
            text(model.status),
        ],
        |_| Ok(()),
    )?;
    Ok((inserted.len() == 1).then_some(id))
}

/// Raises an error unless the model exists.
pub fn require(store: &Store, model: Uuid) -> Result<()> {
    match store.row(
        "SELECT 1 FROM @store@.models WHERE model_id = $1",
        &[uuid(model)],
        |_| Ok(()),
    )? {
        Some(()) => Ok(()),
        None => Err(unknown(store, model)),
    }
}

/// Returns the error for a model that does not exist.
pub fn unknown(store: &Store, model: Uuid) -> Failure {
    Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("model {model} does not exist"),
    )
    .detail(format!("Store \"{}\" has no such model.", store.name()))
    .hint(store.sql("SELECT model_id, model_name, version FROM @store@.models;"))
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn find_model(name: Option<&str>, version_or_alias: default!(Option<&str>, "'latest'")) -> SqlUuid {
    or_raise(
        required(name, "name")
            .and_then(|name| find(name, version_or_alias.unwrap_or("latest")))
            .map(to_sql_uuid),
    )
}

/// Finds an alias first, then a version; `latest` is the newest version that is ready, or registered if none is, unless an alias or a
/// version has that name.
fn find(name: &str, version: &str) -> Result<Uuid> {
    let store = Store::for_reading()?;
    let found = store.row(
        "SELECT model_id FROM (
             SELECT model_id, 1 AS preference FROM @store@.model_aliases WHERE model_name = $1 AND alias = $2
             UNION ALL
             SELECT model_id, 2 FROM @store@.models WHERE model_name = $1 AND version = $2
         ) candidates ORDER BY preference LIMIT 1",
        &[text(name), text(version)],
        |row| Ok(from_sql_uuid(row.get::<SqlUuid>(1)?)),
    )?;
    let found = match found {
        None if version == "latest" => newest(&store, name)?,
        found => found,
    };
    match found {
        Some(found) => Ok(found),
        None if version == "latest" => Err(missing(&store, name, Which::Newest)?),
        None => Err(missing(&store, name, Which::Version(version))?),
    }
}
