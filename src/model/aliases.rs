//! Aliases: names that point at one version of a model and move in one statement.

use crate::chunks::spi_chunks::suppressed;
use crate::error::{Result, or_raise, required};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::names;
use crate::pg::arguments::{text, to_sql_uuid, uuid};
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_alias(model: Option<Regmodel>, alias: Option<&str>) -> SqlUuid {
    or_raise((|| {
        let model = required(model, "model")?.0;
        set(model, required(alias, "alias")?).map(to_sql_uuid)
    })())
}

fn set(model: uuid::Uuid, alias: &str) -> Result<uuid::Uuid> {
    let store = Store::current()?;
    names::check_part("alias", alias)?;
    let name = store.row(
        "SELECT model_name FROM @store@.models WHERE model_id = $1",
        &[uuid(model)],
        |row| row.get::<String>(1),
    )?;
    let name = name.ok_or_else(|| models::unknown(&store, model))?;
    let set = store.execute(
        "INSERT INTO @store@.model_aliases (model_name, alias, model_id) VALUES ($1, $2, $3)
         ON CONFLICT (model_name, alias) DO UPDATE SET model_id = excluded.model_id, updated_at = excluded.updated_at",
        &[text(&name), text(alias), uuid(model)],
    )?;
    match set {
        0 => Err(suppressed(
            &store,
            "model_aliases",
            &format!("alias \"{alias}\""),
        )),
        _ => Ok(model),
    }
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn delete_alias(name: Option<&str>, alias: Option<&str>) -> bool {
    or_raise((|| {
        let (name, alias) = (required(name, "name")?, required(alias, "alias")?);
        let deleted = Store::current()?.execute(
            "DELETE FROM @store@.model_aliases WHERE model_name = $1 AND alias = $2",
            &[text(name), text(alias)],
        )?;
        Ok(deleted > 0)
    })())
}
