//! A model as one file: a tar archive of its files, with a manifest of all else.
//!
//! [`tar`] writes headers and walks the entries of a source that is read at any offset, without loading any of them.
//! [`Manifest`] is `manifest.json`; [`layout`] names the other entries.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod error;
pub mod layout;
mod manifest;
pub mod tar;

pub use error::{Error, Result};
pub use manifest::{
    Ancestor, Checkpoint, FORMAT, File, MAX_MANIFEST_BYTES, Manifest, Model, Raw, Run, VERSION,
};
