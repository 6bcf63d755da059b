//! Where imported bytes come from. Every source can be read twice, in any order, in pieces.

pub mod bytes;
pub mod joined;
pub mod large_object;
pub mod server_file;
pub mod tensors;

use crate::error::{Code, Failure};

/// A source of this side: bytes at rest somewhere in or beside the database. Only the main thread reads them.
pub trait Source: modelstore_chunk::Source<Failure> {}

impl<S: modelstore_chunk::Source<Failure> + ?Sized> Source for S {}

/// The error for a source whose length has changed since it was opened.
pub fn length_changed(what: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("source changed while it was read: {what} has another length by now"),
    )
    .detail("Nothing was stored.")
}
