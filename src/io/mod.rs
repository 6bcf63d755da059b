//! Sources of imported bytes, and where exported ones go. Every source can be read twice, in any order, in pieces.

pub mod bytes;
pub mod half_written;
pub mod joined;
pub mod large_object;
pub mod parts;
pub mod server_file;
pub mod tensors;

use crate::error::{Code, Failure};

/// A source whose errors are [`Failure`]s. Only the main thread reads it.
pub trait Source: modelstore_chunk::Source<Failure> {}

impl<S: modelstore_chunk::Source<Failure> + ?Sized> Source for S {}

/// Returns the error for a source whose length has changed since it was opened.
pub fn length_changed(what: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("source changed while it was read: {what} has another length by now"),
    )
    .detail("Nothing was stored.")
}
