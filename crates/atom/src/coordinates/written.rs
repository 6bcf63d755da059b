//! Text, code and structured data. x is the prefix, z the length.

use super::bytes::count;
use super::prefix::{Prefix, is_space};
use super::scale::{clamp, length, mul_div, share};

/// Natural language.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Text {
    prefix: Prefix,
    length: u64,
    /// First bytes of characters.
    firsts: u64,
    firsts_sum: u64,
}

impl Text {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.prefix.update(bytes, is_space);
        self.length = self.length.saturating_add(bytes.len() as u64);
        // Those inside characters are 128 to 191, the smallest as signed numbers.
        let is_first = |byte: u8| byte as i8 >= -64;
        self.firsts = self.firsts.saturating_add(count(bytes, is_first));
        for block in bytes.chunks(1 << 12) {
            let sum: u32 = block
                .iter()
                .map(|&byte| u32::from(if is_first(byte) { byte } else { 0 }))
                .sum();
            self.firsts_sum = self.firsts_sum.saturating_add(sum.into());
        }
    }

    pub(super) fn finish(&self) -> [u32; 3] {
        /// Letters of ASCII are in the second quarter of all byte values, which gets half of the axis.
        const LETTERS: u64 = 64 << 21;
        const OTHERS: u64 = 128 << 21;
        let mean = mul_div(self.firsts_sum, 1 << 21, self.firsts);
        let y = match mean {
            0..LETTERS => mean / 2,
            LETTERS..OTHERS => mean - LETTERS / 2,
            _ => OTHERS - LETTERS / 2 + (mean - OTHERS) / 4,
        };
        [self.prefix.finish(), clamp(y), length(self.length)]
    }
}

/// Source code.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Code {
    prefix: Prefix,
    length: u64,
    punctuation: u64,
    /// Of the line that contains the leading white space.
    columns: u64,
    /// Another byte has occurred.
    indented: bool,
}

impl Code {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if !self.indented {
            for &byte in bytes {
                match byte {
                    b' ' => self.columns = self.columns.saturating_add(1),
                    b'\t' => self.columns = self.columns.saturating_add(4),
                    _ if is_space(byte) => self.columns = 0,
                    _ => {
                        self.indented = true;
                        break;
                    }
                }
            }
        }
        self.prefix.update(bytes, is_space);
        self.length = self.length.saturating_add(bytes.len() as u64);
        let punctuation = count(bytes, |byte| byte.is_ascii_punctuation());
        self.punctuation = self.punctuation.saturating_add(punctuation);
    }

    pub(super) fn finish(&self) -> [u32; 3] {
        /// The last position within a step of indentation.
        const PLACE: u64 = (1 << 24) - 1;
        let place = mul_div(self.punctuation, 2 * PLACE, self.length).min(PLACE);
        let step = (self.columns / 2).min(15);
        [
            self.prefix.finish(),
            clamp(step << 24 | place),
            length(self.length),
        ]
    }
}

/// JSON, CSV and the like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Structured {
    prefix: Prefix,
    length: u64,
    digits_and_punctuation: u64,
}

impl Structured {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        // Nearly all such data begin with these; without skipping them, little of the prefix would distinguish
        // contents.
        self.prefix.update(bytes, |byte| {
            is_space(byte) || b"{}[]()<>\"',:;".contains(&byte)
        });
        self.length = self.length.saturating_add(bytes.len() as u64);
        // All printable characters of ASCII that are not letters.
        let counted = count(bytes, |byte| {
            byte.is_ascii_graphic() & !byte.is_ascii_alphabetic()
        });
        self.digits_and_punctuation = self.digits_and_punctuation.saturating_add(counted);
    }

    pub(super) fn finish(&self) -> [u32; 3] {
        [
            self.prefix.finish(),
            share(self.digits_and_punctuation, self.length),
            length(self.length),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::LAST;
    use super::*;

    #[test]
    fn long_streams_stay_in_range() {
        for length in [1 << 40, u64::MAX] {
            let text = Text {
                length,
                firsts: length,
                firsts_sum: length.saturating_mul(255),
                ..Default::default()
            };
            let [_, y, z] = text.finish();
            assert!(y <= LAST && z == LAST);
            let code = Code {
                length,
                punctuation: length,
                columns: length,
                ..Default::default()
            };
            assert_eq!(code.finish(), [0, LAST, LAST]);
            let structured = Structured {
                length,
                digits_and_punctuation: length,
                ..Default::default()
            };
            assert_eq!(structured.finish(), [0, LAST, LAST]);
        }
    }

    #[test]
    fn sums_that_are_full_stay_full() {
        let mut text = Text {
            length: u64::MAX,
            firsts: u64::MAX,
            firsts_sum: u64::MAX,
            ..Default::default()
        };
        text.update(b"more");
        assert_eq!(text.length, u64::MAX);
        assert_eq!(text.firsts_sum, u64::MAX);
        assert_eq!(text.finish()[2], LAST);
    }
}
