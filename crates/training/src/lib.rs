//! Decisions about training that depend on numbers only, without PostgreSQL and without a GPU.
//!
//! [`gradient_checkpoints`] plans which layers to recompute in the backward pass, from costs that [`activations`]
//! estimates for transformers. [`retention`] decides which saved checkpoints of a run to keep.

pub mod activations;
pub mod error;
pub mod gradient_checkpoints;
pub mod retention;

pub use error::{Error, Result};
