//! The atom store without a server: splits data into content-addressed atoms, ordered along Hilbert curves.
//!
//! [`hilbert`] orders the cells of a grid so that neighbours stay together. A [`Modality`] is the kind of data of an
//! atom; its [`Key`] is its place. [`cut`] splits data into leaves, [`tree`] combines those into composites,
//! [`coordinates`] computes coordinates from the bytes of either. [`spatial`] finds nearby atoms, [`path`] a path from
//! one atom to another.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod coordinates;
pub mod cut;
pub mod error;
pub mod hilbert;
pub mod key;
pub mod modality;
pub mod partitions;
pub mod path;
pub mod spatial;
pub mod tree;

pub use error::{Error, Result};
pub use key::{AXIS_BITS, Key, Point};
pub use modality::Modality;
pub use partitions::{Partitions, Rect};
