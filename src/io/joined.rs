//! Several values in memory, read as one source.

use crate::error::{Code, Failure, Result};
use modelstore_chunk::Memory;

/// Several values that are read as one. A read must not cross from one value to the next.
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
        let after = self.parts.partition_point(|(begin, _)| *begin <= offset);
        let Some(&(begin, value)) = after.checked_sub(1).and_then(|part| self.parts.get(part))
        else {
            return Err(Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "read from no value",
            ));
        };
        Memory(value).read_at(offset - begin, len, out)
    }
}
