//! Deletes a model: what only it uses at once, what others depend on only with `cascade`.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::uuid;
use crate::store::Store;
use pgrx::prelude::*;
use uuid::Uuid;

/// Aliases that an error names.
const SHOWN: usize = 10;

/// Name of the derived models in the messages of `delete_model`.
pub const ORPHANS: &str = "models that lose their parent";

/// What a model contains, and what depends on it.
struct Contents {
    weights: i64,
    files: i64,
    aliases: Vec<String>,
    /// Counted by the modules of the store.
    dependents: Vec<(&'static str, i64)>,
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn delete_model(
    model: Option<Regmodel>,
    cascade: default!(Option<bool>, "false"),
) -> TableIterator<
    'static,
    (
        name!(weights, i64),
        name!(files, i64),
        name!(runs, i64),
        name!(metrics, i64),
        name!(checkpoints, i64),
        name!(aliases, i64),
        name!(orphans, i64),
    ),
> {
    let deleted = or_raise((|| {
        let id = required(model, "model")?.0;
        delete(&Store::current()?, id, required(cascade, "cascade")?)
    })());
    TableIterator::once((
        deleted.weights,
        deleted.files,
        deleted.dependents("runs"),
        deleted.dependents("metrics"),
        deleted.dependents("checkpoints"),
        deleted.aliases.len() as i64,
        deleted.dependents(ORPHANS),
    ))
}

fn delete(store: &Store, model: Uuid, cascade: bool) -> Result<Contents> {
    // Adding a run, a checkpoint, an alias or a child locks the model's row through the foreign key. Such sessions wait
    // from here on, so the counts are those of the rows deleted.
    let named = store.write(
        "SELECT model_name, version FROM @store@.models WHERE model_id = $1 FOR UPDATE",
        &[uuid(model)],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)),
    )?;
    let Some((name, version)) = named.first() else {
        return Err(models::unknown(store, model));
    };
    let contents = contents(store, model)?;
    if !cascade && let Some(detail) = contents.others() {
        return Err(Failure::new(
            Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot delete model \"{name}\" version \"{version}\" because other data depends on it"),
        )
        .detail(detail)
        .hint(format!(
            "SELECT * FROM modelstore.delete_model('{model}', cascade => true);"
        )));
    }
    // Delete weights before the files that they refer to.
    for table in ["model_weights", "models"] {
        store.execute(
            &format!("DELETE FROM @store@.{table} WHERE model_id = $1"),
            &[uuid(model)],
        )?;
    }
    Ok(contents)
}

fn contents(store: &Store, model: Uuid) -> Result<Contents> {
    let aliases = store.rows(
        "SELECT alias FROM @store@.model_aliases WHERE model_id = $1 ORDER BY alias",
        &[uuid(model)],
        |row| row.get::<String>(1),
    )?;
    let count = |query: &str| -> Result<i64> {
        let count = store.row(query, &[uuid(model)], |row| row.get::<i64>(1))?;
        Ok(count.unwrap_or_default())
    };
    let modules = store.modules();
    let dependents = modules
        .iter()
        .flat_map(|module| module.dependents_of_models);
    Ok(Contents {
        weights: count("SELECT count(*) FROM @store@.model_weights WHERE model_id = $1")?,
        files: count("SELECT count(*) FROM @store@.model_files WHERE model_id = $1")?,
        aliases,
        dependents: dependents
            .map(|(name, query)| Ok((*name, count(query)?)))
            .collect::<Result<_>>()?,
    })
}

impl Contents {
    /// Returns the number of dependents of a kind.
    fn dependents(&self, name: &str) -> i64 {
        let found = self.dependents.iter().find(|(of, _)| *of == name);
        found.map_or(0, |(_, count)| *count)
    }

    /// Describes, as a sentence, the dependents other than weights and files; `None` if there are none.
    fn others(&self) -> Option<String> {
        let counts = self.dependents.iter().filter(|(_, count)| *count > 0);
        let mut items: Vec<String> = counts
            .map(|(name, count)| format!("{name}: {count}"))
            .collect();
        let shown = self.aliases.iter().take(SHOWN);
        let quoted: Vec<String> = shown.map(|alias| format!("\"{alias}\"")).collect();
        if !quoted.is_empty() {
            let more = match self.aliases.len() - quoted.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            items.push(format!("aliases: {}{more}", quoted.join(", ")));
        }
        (!items.is_empty()).then(|| format!("It has {}.", items.join("; ")))
    }
}
