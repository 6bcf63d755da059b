//! Deleting a model: what only it has goes at once, what others may miss only when they say so.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::model::models;
use crate::pg::arguments::{from_sql_uuid, uuid};
use crate::store::Store;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

/// Aliases that an error names.
const SHOWN: usize = 10;

/// What a model has, and what points at it.
struct Contents {
    weights: i64,
    files: i64,
    runs: i64,
    metrics: i64,
    checkpoints: i64,
    pinned: i64,
    children: i64,
    /// Runs of other models that were resumed from its checkpoints.
    resumed: i64,
    aliases: Vec<String>,
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn delete_model(
    model_id: Option<SqlUuid>,
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
        let id = from_sql_uuid(required(model_id, "model_id")?);
        delete(&Store::current()?, id, required(cascade, "cascade")?)
    })());
    TableIterator::once((
        deleted.weights,
        deleted.files,
        deleted.runs,
        deleted.metrics,
        deleted.checkpoints,
        deleted.aliases.len() as i64,
        deleted.children,
    ))
}

fn delete(store: &Store, model: Uuid, cascade: bool) -> Result<Contents> {
    // Whoever adds a run, a checkpoint, an alias or a child locks the model's row by the foreign key: from here on it
    // waits, and what is counted is what goes.
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
    // Before the files that they refer to.
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
    let counted = store.row(
        "SELECT (SELECT count(*) FROM @store@.model_weights WHERE model_id = $1),
                (SELECT count(*) FROM @store@.model_files WHERE model_id = $1),
                (SELECT count(*) FROM @store@.training_sessions WHERE model_id = $1),
                (SELECT count(*) FROM @store@.training_sessions s JOIN @store@.training_metrics USING (session_id) WHERE s.model_id = $1),
                (SELECT count(*) FROM @store@.model_checkpoints WHERE model_id = $1),
                (SELECT count(*) FROM @store@.model_checkpoints WHERE model_id = $1 AND pinned),
                (SELECT count(*) FROM @store@.models WHERE parent_model_id = $1),
                (SELECT count(*) FROM @store@.training_sessions s JOIN @store@.model_checkpoints k ON k.checkpoint_id = s.resumed_from_checkpoint_id
                 WHERE k.model_id = $1 AND s.model_id <> $1)",
        &[uuid(model)],
        |row| {
            Ok(Contents {
                weights: row.get(1)?,
                files: row.get(2)?,
                runs: row.get(3)?,
                metrics: row.get(4)?,
                checkpoints: row.get(5)?,
                pinned: row.get(6)?,
                children: row.get(7)?,
                resumed: row.get(8)?,
                aliases: Vec::new(),
            })
        },
    )?;
    let counted = counted.ok_or_else(|| models::unknown(store, model))?;
    Ok(Contents { aliases, ..counted })
}

impl Contents {
    /// What is more than weights and files, as a sentence; `None` when there is nothing.
    fn others(&self) -> Option<String> {
        if self.runs + self.checkpoints + self.children == 0 && self.aliases.is_empty() {
            return None;
        }
        let mut sentence = format!(
            "Runs: {}; metrics of these runs: {}; checkpoints: {} (pinned: {}); models that would lose their parent: {}",
            self.runs, self.metrics, self.checkpoints, self.pinned, self.children
        );
        if self.resumed > 0 {
            sentence += &format!(
                "; runs of other models resumed from its checkpoints: {}",
                self.resumed
            );
        }
        let quoted: Vec<String> = self
            .aliases
            .iter()
            .take(SHOWN)
            .map(|alias| format!("\"{alias}\""))
            .collect();
        if !quoted.is_empty() {
            sentence += &format!("; aliases: {}", quoted.join(", "));
        }
        if self.aliases.len() > SHOWN {
            sentence += &format!(" and {} more", self.aliases.len() - SHOWN);
        }
        sentence.push('.');
        Some(sentence)
    }
}
