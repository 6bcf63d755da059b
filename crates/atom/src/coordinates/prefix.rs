//! The beginning of a content as a coordinate in which words with a common prefix are neighbours.

/// Bytes that count.
const DIGITS: u32 = 4;
/// Bits of each.
const DIGIT_BITS: u32 = 7;

/// The first bytes so far, as digits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prefix {
    number: u32,
    count: u32,
}

impl Prefix {
    /// Adds the next bytes; those at the start for which `skip` holds do not count.
    pub(super) fn update(&mut self, bytes: &[u8], skip: impl Fn(u8) -> bool) {
        if self.count == DIGITS {
            return;
        }
        let mut bytes = bytes.iter();
        if self.count == 0 {
            match bytes.find(|&&byte| !skip(byte)) {
                Some(&byte) => self.push(byte),
                None => return,
            }
        }
        for &byte in bytes.take((DIGITS - self.count) as usize) {
            self.push(byte);
        }
    }

    fn push(&mut self, byte: u8) {
        self.number = self.number << DIGIT_BITS | digit(byte);
        self.count += 1;
    }

    /// Returns the coordinate: four digits, the first one on top, 0 for missing ones.
    pub(super) fn finish(&self) -> u32 {
        self.number << (DIGIT_BITS * (DIGITS - self.count))
    }
}

/// Returns whether it is white space of ASCII, including the vertical tab.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Maps a byte to a digit. UTF-8 sorts like its code points, and this keeps that order: bytes that may start a
/// character grow with their digits. Bytes inside characters are only compared with each other, and start at 0 again.
fn digit(byte: u8) -> u32 {
    let digit = match byte.to_ascii_lowercase() {
        b'\t'..=b'\r' => 1,
        byte @ b' '..=b'@' => byte - b' ' + 1,
        byte @ b'['..=b'~' => byte - b'[' + 34,
        byte @ 0x80..=0xBF => byte - 0x80,
        byte @ 0xC0..=0xFF => (byte - 0xC0 + 70).min(127),
        _ => 0,
    };
    digit.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> u32 {
        let mut prefix = Prefix::default();
        prefix.update(text.as_bytes(), is_space);
        prefix.finish()
    }

    #[test]
    fn the_order_is_that_of_code_points() {
        let ordered = [
            "",
            "!",
            "0",
            "9",
            "@",
            "[",
            "a",
            "aa",
            "ab",
            "b",
            "ba",
            "z",
            "~",
            "\u{80}",
            "é",
            "α",
            "в",
            "вв",
            "ж",
            "€",
            "日",
            "本",
            "\u{FFFF}",
            "😀",
            "\u{10FFFF}",
        ];
        for two in ordered.windows(2) {
            assert!(prefix(two[0]) < prefix(two[1]), "{two:?}");
        }
        let mut before = 0;
        for c in ('\0'..='\u{10FFFF}').filter(|c| !c.is_ascii_uppercase() && *c != '\x7F') {
            let now = prefix(&format!("{c}"));
            assert!(now >= before, "{c:?}");
            before = now;
        }
    }

    #[test]
    fn case_and_leading_space_do_not_count() {
        assert_eq!(prefix(" \t\r\n\x0B\x0CHeLlo"), prefix("hell"));
        assert_ne!(prefix("hel"), prefix("hell"));
        assert_eq!(prefix("h"), 47 << 21);
    }
}
