//! Where imported bytes come from. Every source can be read twice, in any order, in pieces.

pub mod bytes;
pub mod joined;
pub mod large_object;
pub mod memory;
pub mod parts;
pub mod server_file;
pub mod tensors;

use crate::error::Result;

/// Bytes at rest somewhere in or beside the database. Only the main thread reads them.
pub trait Source {
    /// How many there are.
    fn len(&self) -> u64;

    /// Fills `out` with exactly `len` bytes from `offset`; the caller stays within [`Source::len`].
    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()>;
}

impl<S: Source> Source for &mut S {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        (**self).read_at(offset, len, out)
    }
}
