//! Decisions about training that numbers alone can make, without PostgreSQL and without a GPU.
//!
//! [`gradient_checkpoints`] plans which layers to recompute in the backward pass, from costs that [`activations`]
//! estimates for transformers. [`retention`] tells which saved checkpoints of a run to keep.

pub mod activations;
pub mod error;
pub mod gradient_checkpoints;
pub mod retention;

pub use error::{Error, Result};
