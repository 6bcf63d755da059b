//! What the atom store stands on, without a server; so far, the curves along which atoms are ordered.
//!
//! [`hilbert`] puts the cells of a grid into an order that keeps neighbours together.

pub mod error;
pub mod hilbert;

pub use error::{Error, Result};
