//! Several values in memory, read as one source.

use crate::error::{Code, Failure, Result};

/// Several values that are read as one.
pub struct Joined<'a> {
    /// Each value with its offset.
    parts: Vec<(u64, &'a [u8])>,
    len: u64,
}

impl<'a> Joined<'a> {
    /// Joins the values in this order.
    pub fn new(values: &[&'a [u8]]) -> Joined<'a> {
        let (mut parts, mut len) = (Vec::with_capacity(values.len()), 0);
        for &value in values.iter().filter(|value| !value.is_empty()) {
            parts.push((len, value));
            len += value.len() as u64;
        }
        Joined { parts, len }
    }
}

impl modelstore_chunk::Source<Failure> for Joined<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let after = self.parts.partition_point(|(begin, _)| *begin <= offset);
        let parts = self
            .parts
            .get(after.saturating_sub(1)..)
            .unwrap_or_default();
        for (begin, value) in parts {
            let from = (offset + out.len() as u64 - begin) as usize;
            let value = value.get(from..).unwrap_or_default();
            out.extend_from_slice(&value[..value.len().min(len - out.len())]);
            if out.len() == len {
                return Ok(());
            }
        }
        match out.len() == len {
            true => Ok(()),
            false => Err(Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "read beyond the last value",
            )),
        }
    }
}
