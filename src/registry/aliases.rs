//! Aliases: names that point at one version of a model and move in one statement.

use crate::error::{Code, Failure, Result, or_raise};
use crate::store::Store;
use crate::store::arguments::{from_sql_uuid, text, to_sql_uuid, uuid};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

/// Points an alias at a version of the model, whether it is new or moves. Returns the model it points at now.
#[pg_extern(volatile, strict, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_alias(name: &str, alias: &str, version: &str) -> SqlUuid {
    or_raise(set(name, alias, version).map(to_sql_uuid))
}

fn set(name: &str, alias: &str, version: &str) -> Result<uuid::Uuid> {
    let store = Store::current()?;
    if alias.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "alias must not be empty",
        ));
    }
    let model = store.row(
        "SELECT model_id FROM @store@.models WHERE model_name = $1 AND version = $2",
        &[text(name), text(version)],
        |row| row.get::<SqlUuid>(1),
    )?;
    let Some(model) = model.map(from_sql_uuid) else {
        return Err(Failure::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("model \"{name}\" version \"{version}\" does not exist"),
        )
        .hint(store.sql("SELECT model_name, version FROM @store@.models;")));
    };
    store.execute(
        "INSERT INTO @store@.model_aliases (model_name, alias, model_id) VALUES ($1, $2, $3)
         ON CONFLICT (model_name, alias) DO UPDATE SET model_id = excluded.model_id, updated_at = now()",
        &[text(name), text(alias), uuid(model)],
    )?;
    Ok(model)
}

/// Removes an alias; false when there was none.
#[pg_extern(volatile, strict, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn drop_alias(name: &str, alias: &str) -> bool {
    or_raise((|| {
        let dropped = Store::current()?.execute(
            "DELETE FROM @store@.model_aliases WHERE model_name = $1 AND alias = $2",
            &[text(name), text(alias)],
        )?;
        Ok(dropped > 0)
    })())
}
