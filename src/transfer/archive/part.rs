//! A file in an archive as a source.

use crate::error::{Code, Failure, Result};
use crate::io::Source;
use std::cell::RefCell;

/// An archive that many of its files are read from.
pub type Archive<'a, 's> = &'a RefCell<&'s mut dyn Source>;

/// A file in an archive.
pub struct Part<'a, 's> {
    archive: Archive<'a, 's>,
    offset: u64,
    len: u64,
}

impl<'a, 's> Part<'a, 's> {
    /// A file whose content begins there.
    pub fn new(archive: Archive<'a, 's>, (offset, len): (u64, u64)) -> Part<'a, 's> {
        Part {
            archive,
            offset,
            len,
        }
    }
}

impl modelstore_chunk::Source<Failure> for Part<'_, '_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "read beyond the end of a file of an archive",
            ));
        }
        let mut archive = self.archive.borrow_mut();
        archive.read_at(self.offset + offset, len, out)
    }

    fn check_len(&mut self) -> Result<()> {
        self.archive.borrow_mut().check_len()
    }
}
