//! Text: a leaf is a line with its end, or a part of a line that is too long for a leaf.
//!
//! A line ends after `\n`; a `\r` before it belongs to it, and `\r` alone ends nothing. A long line is cut, in this
//! order of preference:
//!
//! 1. after a word, at the first position that the bytes before it select: an edit only shifts the cuts up to the next
//!    one;
//! 2. after the last word that fits;
//! 3. within a word, at the first position between two characters that the bytes before it select;
//! 4. between the last two characters that fit;
//! 5. anywhere, if this is not UTF-8.
//!
//! A word includes the white space after it; in structured text, a value also includes the comma after it.
//!
//! A paragraph ends with the last of the blank lines after it. A line of white space is blank if it fits into a leaf.

use super::{Leaf, MAX_INLINE_BYTES};

/// Minimum length of a part of a long line, if there is a choice: each leaf takes a row.
const MIN_PART_BYTES: usize = 24;
/// Number of bytes before a position that decide whether it is selected.
const CONTEXT_BYTES: usize = 8;
const _: () = assert!(CONTEXT_BYTES <= MIN_PART_BYTES);
/// Log2 of the number of positions after a word per selected one.
const WORD_BITS: u32 = 2;
/// Log2 of the number of positions within a word per selected one.
const CHARACTER_BITS: u32 = 4;

/// Cuts text.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// Whether a comma ends a word.
    structured: bool,
    /// Whether the next leaf continues a line.
    inside_line: bool,
}

impl Lines {
    /// Creates a cutter for text, or for structured text.
    pub(super) fn new(structured: bool) -> Lines {
        Lines {
            structured,
            inside_line: false,
        }
    }

    /// Returns the first leaf of `window`.
    pub(super) fn next(&mut self, window: &[u8]) -> Leaf {
        let Some(line) = whole_line(window) else {
            self.inside_line = true;
            return Leaf {
                len: self.part(window),
                ends_group: false,
            };
        };
        let blank = !self.inside_line && is_blank(line);
        self.inside_line = false;
        Leaf {
            len: line.len(),
            ends_group: blank && !whole_line(&window[line.len()..]).is_some_and(is_blank),
        }
    }

    /// Chooses the cut of a line that is longer than a leaf.
    fn part(&self, window: &[u8]) -> usize {
        if window.len() <= MAX_INLINE_BYTES {
            return window.len();
        }
        let after_word =
            |at: &usize| self.separates(window[at - 1]) && !self.separates(window[*at]);
        let chosen = |at: &usize, bits| *at >= MIN_PART_BYTES && is_chosen(window, *at, bits);
        let places = 1..=MAX_INLINE_BYTES;
        let words = || places.clone().filter(after_word);
        let characters = || {
            places
                .clone()
                .filter(|&at| is_between_characters(window, at))
        };
        words()
            .find(|at| chosen(at, WORD_BITS))
            .or_else(|| words().next_back())
            .or_else(|| characters().find(|at| chosen(at, CHARACTER_BITS)))
            .or_else(|| characters().next_back())
            .unwrap_or(MAX_INLINE_BYTES)
    }

    /// Returns whether a byte separates words.
    fn separates(&self, byte: u8) -> bool {
        is_space(byte) || self.structured && byte == b','
    }
}

/// Returns the first line of the rest, if it is complete and fits into a leaf.
fn whole_line(window: &[u8]) -> Option<&[u8]> {
    let fits = &window[..window.len().min(MAX_INLINE_BYTES)];
    let end = fits.iter().position(|&byte| byte == b'\n')?;
    Some(&fits[..=end])
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|&byte| is_space(byte))
}

/// As in C: these control characters separate words.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Returns whether the bytes before a position select it. Runs of zeros select none, so they give few leaves.
fn is_chosen(window: &[u8], at: usize, bits: u32) -> bool {
    let mut context = [0; CONTEXT_BYTES];
    context.copy_from_slice(&window[at - CONTEXT_BYTES..at]);
    let mixed = u64::from_le_bytes(context).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed >> (64 - bits) == (1 << bits) - 1
}

/// Returns whether a character ends before a position, and the position is not inside a line end.
fn is_between_characters(window: &[u8], at: usize) -> bool {
    let continues = window[at] & 0xC0 == 0x80;
    !continues && window[at - 1..=at] != *b"\r\n"
}
