//! A part of an atom to read: some of its bytes, or of its lines.
//!
//! Atoms know how many bytes and line ends they have, so those before and after the part are passed over without being
//! read. What is read is cut to the part.

use crate::atom::contents::Content;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Lines,
}

/// The rest of the part.
pub struct Span {
    unit: Unit,
    /// Units before it.
    skip: u64,
    /// Units in it.
    left: u64,
}

impl Span {
    /// The units `first` to `last`, from 1, clipped like a slice of an array; `None` has no bound.
    pub fn new(unit: Unit, first: Option<i64>, last: Option<i64>) -> Span {
        let bound = |number: i64| u64::try_from(number).unwrap_or_default();
        let skip = first.map_or(0, |first| bound(first.saturating_sub(1)));
        let last = last.map_or(u64::MAX, bound);
        Span {
            unit,
            skip,
            left: last.saturating_sub(skip),
        }
    }

    /// Returns whether nothing more belongs to it.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Returns the units of a content.
    pub fn units(&self, content: &Content) -> u64 {
        match self.unit {
            Unit::Bytes => content.byte_length,
            Unit::Lines => content.line_ends.unwrap_or_default(),
        }
    }

    /// Passes over the next content if all of it is before the part.
    pub fn passes(&mut self, content: &Content) -> bool {
        let units = self.units(content);
        let before = match self.unit {
            Unit::Bytes => self.skip > 0 && units <= self.skip,
            // After its last line end may come the beginning of the next line.
            Unit::Lines => units < self.skip,
        };
        if before {
            self.skip -= units;
        }
        before
    }

    /// Returns whether a part of an atom that has so many units ends within them.
    pub fn ends_within(&self, units: u64) -> bool {
        units >= self.skip.saturating_add(self.left)
    }

    /// Cuts the next bytes, those of `part` from `from` on.
    pub fn cut(&mut self, part: &mut Vec<u8>, from: usize) {
        let bytes = &part[from..];
        let (start, end) = match self.unit {
            Unit::Bytes => {
                let length = bytes.len() as u64;
                let start = self.skip.min(length);
                let end = start.saturating_add(self.left).min(length);
                self.skip -= start;
                self.left -= end - start;
                (start as usize, end as usize)
            }
            Unit::Lines => {
                let start = after_lines(bytes, &mut self.skip);
                let end = start + after_lines(&bytes[start..], &mut self.left);
                (start, end)
            }
        };
        part.truncate(from + end);
        part.drain(from..from + start);
    }
}

/// Returns where so many lines end, and subtracts those that do. All bytes, if they are fewer.
fn after_lines(bytes: &[u8], lines: &mut u64) -> usize {
    let mut at = 0;
    while *lines > 0 {
        let Some(end) = bytes[at..].iter().position(|&byte| byte == b'\n') else {
            return bytes.len();
        };
        at += end + 1;
        *lines -= 1;
    }
    at
}
