//! Training: runs, metrics, checkpoints.

pub mod checkpoint;
pub mod checkpoint_sql;
pub mod checkpoint_state;
pub mod delete;
pub mod gradient_checkpoints;
pub mod guard_rails;
pub mod latest;
pub mod metric_plot;
pub mod metrics;
mod model_delta;
pub mod optimizer_state;
pub mod prune;
pub mod restore;
pub mod sessions;

use crate::store::module::Module;

/// Every store has it.
pub const MODULE: Module = Module {
    is_core: true,
    tensors_of_models: &[
        "SELECT k.model_id, true, w.tensor_id
         FROM @store@.checkpoint_weights w JOIN @store@.model_checkpoints k USING (checkpoint_id)",
        "SELECT k.model_id, true, o.tensor_id
         FROM @store@.optimizer_state o JOIN @store@.model_checkpoints k USING (checkpoint_id)",
    ],
    ..Module::new(
        "training",
        include_str!("../../sql/store/03_training_state.sql"),
    )
};
