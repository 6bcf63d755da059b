//! Named tensors with the files they came from: PyTorch's state dict. A model has one and a checkpoint has one, in
//! tables of the same structure, so the same code reads both.

use crate::error::{Code, Failure, Result};
use crate::model::models;
use crate::pg::arguments::uuid;
use crate::store::Store;
use std::fmt;
use uuid::Uuid;

/// The owner of the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateDict {
    /// `model_files` and `model_weights`.
    Model(Uuid),
    /// `checkpoint_files`, `checkpoint_weights` and `optimizer_state`.
    Checkpoint(Uuid),
}

impl StateDict {
    /// Returns the key of the owner.
    pub fn id(self) -> Uuid {
        match self {
            StateDict::Model(id) | StateDict::Checkpoint(id) => id,
        }
    }

    /// Raises an error unless it exists.
    pub fn require(self, store: &Store) -> Result<()> {
        let StateDict::Checkpoint(id) = self else {
            return models::require(store, self.id());
        };
        let found = store.row(
            "SELECT 1 FROM @store@.model_checkpoints WHERE checkpoint_id = $1",
            &[uuid(id)],
            |_| Ok(()),
        )?;
        found.ok_or_else(|| missing_checkpoint(store, id))
    }

    /// Replaces the placeholders of a statement: `@table@` by the table with the owner's row, `@files@` and `@weights@`
    /// by the tables of its files and weights, `@entries@` by all tensors in its files, including the optimizer's, and
    /// `@owner@` by the column of its key.
    pub fn sql(self, template: &str) -> String {
        let (table, owner, files, weights, entries) = match self {
            StateDict::Model(_) => (
                "@store@.models",
                "model_id",
                "@store@.model_files",
                "@store@.model_weights",
                "@store@.model_weights",
            ),
            StateDict::Checkpoint(_) => (
                "@store@.model_checkpoints",
                "checkpoint_id",
                "@store@.checkpoint_files",
                "@store@.checkpoint_weights",
                "(SELECT checkpoint_id, weight_name, tensor_id, file_name, file_offset FROM @store@.checkpoint_weights
                  UNION ALL
                  SELECT checkpoint_id, parameter_name || '.' || state_name, tensor_id, file_name, file_offset
                  FROM @store@.optimizer_state)",
            ),
        };
        template
            .replace("@table@", table)
            .replace("@files@", files)
            .replace("@entries@", entries)
            .replace("@weights@", weights)
            .replace("@owner@", owner)
    }

    /// Returns the statement that finds damage in it.
    pub fn verify_hint(self) -> String {
        match self {
            StateDict::Model(id) => format!("SELECT * FROM modelstore.verify_model('{id}');"),
            StateDict::Checkpoint(id) => {
                format!("SELECT * FROM modelstore.verify_checkpoint('{id}');")
            }
        }
    }
}

/// Returns the error for a checkpoint that does not exist.
pub fn missing_checkpoint(store: &Store, id: Uuid) -> Failure {
    Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("checkpoint {id} does not exist"),
    )
    .detail(format!(
        "Store \"{}\" has no such checkpoint.",
        store.name()
    ))
    .hint(store.sql("SELECT checkpoint_id, model_id, step FROM @store@.model_checkpoints;"))
}

/// Its name in messages: `model …` or `checkpoint …`.
impl fmt::Display for StateDict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateDict::Model(id) => write!(f, "model {id}"),
            StateDict::Checkpoint(id) => write!(f, "checkpoint {id}"),
        }
    }
}
