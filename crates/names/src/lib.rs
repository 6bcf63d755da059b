//! How a user names a model or a checkpoint in one text, without PostgreSQL.
//!
//! [`reference`] parses `minilm`, `minilm:1`, `minilm@production`, `minilm:1#1000` and UUIDs. [`nearest`] finds the names
//! that a misspelt one may have meant.

pub mod error;
pub mod nearest;
pub mod reference;

pub use error::{Error, Result};
pub use nearest::nearest;
pub use reference::{CheckpointReference, ModelReference, RESERVED, Step, Which};
