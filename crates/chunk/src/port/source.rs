//! Sources of raw bytes.

use crate::Error;

/// Stored bytes that can be read twice, in any order, in pieces. Only the owner's thread reads them.
pub trait Source<E> {
    /// Returns their number.
    fn len(&self) -> u64;

    /// Returns whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with exactly `len` bytes from `offset`; the caller does not exceed [`Source::len`].
    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), E>;

    /// Returns an error if the length has changed, for sources that others can change meanwhile.
    fn check_len(&mut self) -> Result<(), E> {
        Ok(())
    }
}

impl<E, S: Source<E> + ?Sized> Source<E> for &mut S {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), E> {
        (**self).read_at(offset, len, out)
    }

    fn check_len(&mut self) -> Result<(), E> {
        (**self).check_len()
    }
}

/// Bytes in memory as a source.
pub struct Memory<'a>(pub &'a [u8]);

impl<E: From<Error>> Source<E> for Memory<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), E> {
        let wanted = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..)?.get(..len))
            .ok_or(Error::SourceEnd { offset, len })?;
        out.clear();
        out.extend_from_slice(wanted);
        Ok(())
    }
}
