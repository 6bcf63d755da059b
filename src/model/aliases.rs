//! Aliases: names that point at one version of a model and move in one statement.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::names;
use crate::pg::arguments::{from_sql_uuid, text, to_sql_uuid, uuid};
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_alias(name: Option<&str>, alias: Option<&str>, version: Option<&str>) -> SqlUuid {
    or_raise((|| {
        let (name, alias) = (required(name, "name")?, required(alias, "alias")?);
        set(name, alias, required(version, "version")?).map(to_sql_uuid)
    })())
}

fn set(name: &str, alias: &str, version: &str) -> Result<uuid::Uuid> {
    let store = Store::current()?;
    names::check("alias", alias)?;
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

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn drop_alias(name: Option<&str>, alias: Option<&str>) -> bool {
    or_raise((|| {
        let (name, alias) = (required(name, "name")?, required(alias, "alias")?);
        let dropped = Store::current()?.execute(
            "DELETE FROM @store@.model_aliases WHERE model_name = $1 AND alias = $2",
            &[text(name), text(alias)],
        )?;
        Ok(dropped > 0)
    })())
}
