//! Module 3, training state: runs, metrics, checkpoints.

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
