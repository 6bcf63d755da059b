//! Reads tokens of a tensor's text, and describes them and their positions in messages.

use crate::Error;

/// Enough characters of a token to recognise it in a message.
pub(super) fn shorten(token: &str) -> String {
    token.chars().take(64).collect()
}

/// A position in a text.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    /// On a character boundary: only ASCII is skipped without decoding.
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// Returns the next byte after white space, as defined by PostgreSQL's arrays.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t'..=b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Consumes letters, digits and underscores.
    pub(super) fn word(&mut self) -> &'a str {
        self.peek();
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Consumes digits.
    pub(super) fn number(&mut self) -> &'a str {
        self.peek();
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Consumes everything up to the next bracket, comma or white space.
    #[inline]
    pub(super) fn element(&self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .bytes()
            .position(|b| matches!(b, b',' | b'[' | b']' | b' ' | b'\t'..=b'\r'));
        &rest[..end.unwrap_or(rest.len())]
    }

    /// Returns, for messages, the number of characters before and including the next one.
    pub(super) fn position(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    /// Returns, for messages, the next token and its position.
    pub(super) fn token(&mut self) -> (String, usize) {
        self.peek();
        let end = self
            .element()
            .len()
            .max(self.rest().chars().next().map_or(0, char::len_utf8));
        (shorten(&self.rest()[..end]), self.position())
    }

    #[cold]
    pub(super) fn unexpected(&mut self, expected: &'static str) -> Error {
        match self.token() {
            (found, position) if found.is_empty() => Error::UnterminatedText { position, expected },
            (found, position) => {
                // Before the elements, these end a token as well.
                let end = found
                    .find([')', ':'])
                    .filter(|&end| end > 0)
                    .unwrap_or(found.len());
                Error::UnexpectedToken {
                    found: found[..end].to_owned(),
                    position,
                    expected,
                }
            }
        }
    }
}
