//! Where imported bytes come from. Every source can be read twice, in any order, in pieces.

pub mod bytes;
pub mod file_hashes;
pub mod joined;
pub mod large_object;
pub mod memory;
pub mod parts;
pub mod server_file;
pub mod tensors;

use crate::error::{Code, Failure, Result};

/// Bytes at rest somewhere in or beside the database. Only the main thread reads them.
pub trait Source {
    /// How many there are.
    fn len(&self) -> u64;

    /// Fills `out` with exactly `len` bytes from `offset`; the caller stays within [`Source::len`].
    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()>;

    /// An error when there are more or fewer bytes by now, of sources that others can change meanwhile.
    fn check_len(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The error for a source whose length has changed since it was opened.
pub fn length_changed(what: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("source changed while it was read: {what} does not have its length any more"),
    )
    .detail("Nothing of it was stored.")
}

impl<S: Source> Source for &mut S {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        (**self).read_at(offset, len, out)
    }

    fn check_len(&mut self) -> Result<()> {
        (**self).check_len()
    }
}
