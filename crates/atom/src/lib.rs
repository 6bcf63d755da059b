//! What the atom store stands on, without a server: data is taken apart into atoms, which are named by their content
//! and ordered along Hilbert curves.
//!
//! [`hilbert`] puts the cells of a grid into an order that keeps neighbours together. A [`Modality`] says what kind of
//! data an atom holds; its [`Key`] says where it lies. [`cut`] takes data apart into leaves, [`tree`] puts those together
//! to composites, [`coordinates`] looks at the bytes of either. [`spatial`] finds what lies near, [`path`] the way from
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
