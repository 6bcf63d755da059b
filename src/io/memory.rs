//! Bytes in memory as a source.

use crate::error::{Code, Failure, Result};
use crate::io::Source;

/// Bytes that are there already.
pub struct Memory<'a>(pub &'a [u8]);

impl Source for Memory<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        let wanted = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..)?.get(..len))
            .ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_INTERNAL_ERROR,
                    "read behind the end of a value",
                )
            })?;
        out.clear();
        out.extend_from_slice(wanted);
        Ok(())
    }
}
