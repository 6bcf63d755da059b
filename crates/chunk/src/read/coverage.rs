//! Checks that pieces cover a range of a tensor.

use std::ops::Range;

use crate::port::StoredPiece;
use crate::{Error, Result};

/// Checks, piece by piece, that a range of elements is covered without gaps.
pub struct Coverage<'a> {
    label: &'a str,
    wanted: Range<u64>,
    at: Option<u64>,
}

impl<'a> Coverage<'a> {
    /// Starts before the first piece, for elements `wanted` of a tensor called `label`.
    pub fn new(label: &'a str, wanted: Range<u64>) -> Coverage<'a> {
        Coverage {
            label,
            wanted,
            at: None,
        }
    }

    /// Returns an error unless the piece begins where the previous one ends, or contains the first element.
    pub fn add(&mut self, piece: &StoredPiece) -> Result<()> {
        let follows = match self.at {
            Some(at) => piece.first_element == at,
            None => piece.first_element <= self.wanted.start,
        };
        if !follows {
            return Err(self.hole());
        }
        self.at = Some(piece.end());
        Ok(())
    }

    /// Returns an error unless the last element is covered.
    pub fn finish(&self) -> Result<()> {
        if self.wanted.is_empty() || self.at.is_some_and(|at| at >= self.wanted.end) {
            return Ok(());
        }
        Err(self.hole())
    }

    fn hole(&self) -> Error {
        Error::Hole {
            label: self.label.to_owned(),
            first: self.wanted.start,
            end: self.wanted.end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChunkHash;

    fn covers(wanted: Range<u64>, pieces: &[(u64, u64)]) -> bool {
        let mut coverage = Coverage::new("w", wanted);
        let added = pieces
            .iter()
            .try_for_each(|&(first_element, element_count)| {
                coverage.add(&StoredPiece {
                    hash: ChunkHash([0; 32]),
                    first_element,
                    element_count,
                })
            });
        added.and_then(|()| coverage.finish()).is_ok()
    }

    #[test]
    fn holes_overlaps_and_short_ends_are_errors() {
        assert!(covers(0..10, &[(0, 4), (4, 6)]));
        assert!(covers(5..6, &[(4, 6)]));
        assert!(covers(3..3, &[]));
        assert!(!covers(0..10, &[]));
        assert!(!covers(0..10, &[(0, 4), (5, 5)]));
        assert!(!covers(0..10, &[(0, 4), (3, 7)]));
        assert!(!covers(0..10, &[(0, 4), (4, 5)]));
        assert!(!covers(3..10, &[(4, 6)]));
        assert!(covers(0..10, &[(0, u64::MAX)]));
    }
}
