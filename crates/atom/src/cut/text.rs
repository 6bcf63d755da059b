//! Text: a leaf is a group of whole lines, or a part of a line that is too long for one.
//!
//! A line ends after `\n`; a `\r` before it belongs to it, and `\r` alone ends nothing. From [`MIN_BYTES`] on, a group
//! ends after the first line that the bytes before its end select; a long line is selected more often, so that groups
//! have [`TARGET_BYTES`] on average whatever the length of lines. If no line up to [`MAX_BYTES`] is selected, the one
//! that came nearest to it ends the group: also this one is found again after an edit.
//!
//! A line longer than [`LONG_LINE`] begins a group. It is cut in the same way after words, or between characters where
//! there are no words, or anywhere if this is not UTF-8. A word includes the white space after it; in structured text,
//! a value also includes the comma after it. The end of such a line ends its last part.

use super::Leaf;

/// Minimum length of a group, except the last of a source and the one before a long line.
const MIN_BYTES: usize = 1 << 10;
/// Average length of a group in varied text.
const TARGET_BYTES: usize = 4 << 10;
/// Maximum length of a leaf of text.
const MAX_BYTES: usize = 16 << 10;
/// Maximum length of a line that is grouped with others.
const LONG_LINE: usize = MAX_BYTES / 2;
/// Number of bytes before a position that decide whether it is selected.
const CONTEXT_BYTES: usize = 32;
const _: () = assert!(CONTEXT_BYTES <= MIN_BYTES && MAX_BYTES <= super::LOOKAHEAD);
/// Bytes between two selected positions on average.
const APART: u64 = (TARGET_BYTES - MIN_BYTES) as u64;
/// Average length of a word, roughly.
const WORD_BYTES: usize = 6;

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
        let len = match self.inside_line {
            false => group(window),
            true => None,
        };
        let len = len.unwrap_or_else(|| {
            let len = self.part(window);
            self.inside_line = len < window.len() && window[len - 1] != b'\n';
            len
        });
        Leaf {
            len,
            ends_group: false,
        }
    }

    /// Returns the length of the first part of a long line, or of the rest of one.
    fn part(&self, window: &[u8]) -> usize {
        let fits = &window[..window.len().min(MAX_BYTES)];
        let end = line_end(fits).or((fits.len() == window.len()).then_some(fits.len()));
        let places = MIN_BYTES..end.unwrap_or(fits.len());
        let after_word = |at: &usize| self.separates(fits[at - 1]) && !self.separates(fits[*at]);
        let between_characters = |at: &usize| is_between_characters(fits, *at);
        let choice = match selected(fits, places.clone().filter(after_word), WORD_BYTES) {
            Choice::None => selected(fits, places.filter(between_characters), 1),
            choice => choice,
        };
        match (choice, end) {
            (Choice::Selected(at), _) | (Choice::Nearest(at), None) => at,
            (_, Some(end)) => end,
            (Choice::None, None) => fits.len(),
        }
    }

    /// Returns whether a byte separates words.
    fn separates(&self, byte: u8) -> bool {
        is_space(byte) || self.structured && byte == b','
    }
}

/// Returns the length of the first group of lines; `None` if the first line is a long one.
fn group(window: &[u8]) -> Option<usize> {
    let mut nearest = (u64::MAX, 0);
    let mut at = 0;
    while at < window.len() {
        let rest = &window[at..];
        let within = &rest[..rest.len().min(LONG_LINE)];
        let length = match line_end(within) {
            Some(end) => end,
            None if within.len() == rest.len() => rest.len(),
            // A long line begins a group.
            None => return Some(at).filter(|at| *at > 0),
        };
        if at + length > MAX_BYTES {
            return Some(nearest.1);
        }
        at += length;
        if at < MIN_BYTES {
            continue;
        }
        let draw = draw(window, at, length);
        if draw < THRESHOLD {
            return Some(at);
        }
        if draw <= nearest.0 {
            nearest = (draw, at);
        }
    }
    Some(at)
}

/// Returns where the first line ends.
fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .map(|at| at + 1)
}

/// Returns the number of line ends.
pub fn count_line_ends(bytes: &[u8]) -> u64 {
    // Sums of bytes are computed many at a time.
    let of_block = |block: &[u8]| {
        block
            .iter()
            .map(|&byte| u8::from(byte == b'\n'))
            .sum::<u8>()
    };
    bytes
        .chunks(255)
        .map(|block| u64::from(of_block(block)))
        .sum()
}

/// What is chosen of several positions.
enum Choice {
    /// The first one that is selected.
    Selected(usize),
    /// The one that came nearest to it.
    Nearest(usize),
    /// There are none.
    None,
}

/// Chooses one of the positions, each at the end of about this many bytes.
fn selected(line: &[u8], places: impl Iterator<Item = usize>, length: usize) -> Choice {
    let mut nearest = (u64::MAX, None);
    for at in places {
        let draw = draw(line, at, length);
        if draw < THRESHOLD {
            return Choice::Selected(at);
        }
        if draw <= nearest.0 {
            nearest = (draw, Some(at));
        }
    }
    nearest.1.map_or(Choice::None, Choice::Nearest)
}

/// A position with a smaller draw is selected.
const THRESHOLD: u64 = (1 << 32) / APART;

/// Draws a number for a position from the bytes before it: below 2^32 and uniform, divided by the length of what ends there.
/// Runs of one byte are not selected: a long run then gives few leaves.
fn draw(window: &[u8], at: usize, length: usize) -> u64 {
    let context = &window[at - CONTEXT_BYTES..at];
    let (words, _) = context.as_chunks::<8>();
    let mut mixed = 0u64;
    for word in words {
        mixed = (mixed ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^= mixed >> 32;
    }
    // Lines that differ in a number only must not be alike.
    mixed = mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    if words.iter().all(|word| word == &words[0]) && word_is_a_run(words[0]) {
        return u64::MAX;
    }
    (mixed >> 32) / length as u64
}

fn word_is_a_run(word: [u8; 8]) -> bool {
    word == [word[0]; 8]
}

/// As in C: these control characters separate words.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Returns whether a character ends before a position, and the position is not inside a line end.
fn is_between_characters(window: &[u8], at: usize) -> bool {
    let continues = window[at] & 0xC0 == 0x80;
    !continues && window[at - 1..=at] != *b"\r\n"
}
