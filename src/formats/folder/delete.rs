//! Deletes a file that holds no weights.

use crate::error::{Code, Failure, Result};
use crate::formats::folder::card::{self, CARD_FILE};
use crate::model::models;
use crate::pg::arguments::{text, uuid};
use crate::store::Store;
use uuid::Uuid;

/// Deletes a file of a model that the caller has locked, and returns its size.
pub fn delete(store: &Store, model: Uuid, name: &str) -> Result<i64> {
    let weights = store.row(
        "SELECT count(*) FROM @store@.model_weights WHERE model_id = $1 AND file_name = $2",
        &[uuid(model), text(name)],
        |row| row.get::<i64>(1),
    )?;
    if let Some(weights) = weights.filter(|weights| *weights > 0) {
        return Err(Failure::new(
            Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot delete file \"{name}\" because it holds weights of model {model}"),
        )
        .detail(format!("Number of its weights: {weights}."))
        .hint(format!("SELECT * FROM modelstore.delete_model('{model}');")));
    }
    let deleted = store.write(
        "DELETE FROM @store@.model_files WHERE model_id = $1 AND file_name = $2 RETURNING file_bytes",
        &[uuid(model), text(name)],
        |row| row.get::<i64>(1),
    )?;
    if name == CARD_FILE && !deleted.is_empty() {
        card::clear(store, model)?;
    }
    match deleted.first() {
        Some(bytes) => Ok(*bytes),
        None => Err(unknown(store, model, name)?),
    }
}

/// Returns the error for a file that a model does not have.
fn unknown(store: &Store, model: Uuid, name: &str) -> Result<Failure> {
    models::require(store, model)?;
    Ok(Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("model {model} has no file \"{name}\""),
    )
    .hint(store.sql(&format!(
        "SELECT file_name FROM @store@.model_files WHERE model_id = '{model}';"
    ))))
}
