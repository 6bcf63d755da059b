//! Training: runs, metrics, checkpoints.

pub mod checkpoint;
pub mod checkpoint_sql;
pub mod checkpoint_state;
pub mod delete;
mod get_tensor;
pub mod gradient_checkpoints;
pub mod guard_rails;
pub mod latest;
pub mod metric_plot;
pub mod metrics;
mod model_delta;
pub mod optimizer_state;
pub mod prune;
pub mod regcheckpoint;
pub mod restore;
pub mod sessions;

use crate::store::module::Module;

/// Every store has it.
pub const MODULE: Module = Module {
    is_core: true,
    dependents_of_models: &[
        (
            "runs",
            "SELECT count(*) FROM @store@.training_sessions WHERE model_id = $1",
        ),
        (
            "metrics",
            "SELECT count(*) FROM @store@.training_sessions s JOIN @store@.training_metrics USING (session_id)
             WHERE s.model_id = $1",
        ),
        (
            "checkpoints",
            "SELECT count(*) FROM @store@.model_checkpoints WHERE model_id = $1",
        ),
        (
            "pinned checkpoints",
            "SELECT count(*) FROM @store@.model_checkpoints WHERE model_id = $1 AND pinned",
        ),
        (
            "runs of other models resumed from its checkpoints",
            "SELECT count(*) FROM @store@.training_sessions s
             JOIN @store@.model_checkpoints k ON k.checkpoint_id = s.resumed_from_checkpoint_id
             WHERE k.model_id = $1 AND s.model_id <> $1",
        ),
    ],
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
