//! The header of an entry: one block.

use crate::{Error, Result};
use std::ops::Range;

/// A header block.
pub type Block = [u8; 512];

pub const NAME: Range<usize> = 0..100;
pub const MODE: Range<usize> = 100..108;
pub const UID: Range<usize> = 108..116;
pub const GID: Range<usize> = 116..124;
pub const SIZE: Range<usize> = 124..136;
pub const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
pub const KIND: usize = 156;
/// Magic and version.
const MAGIC: Range<usize> = 257..265;
const USTAR: &[u8] = b"ustar\x0000";
const GNU: &[u8] = b"ustar  \0";
pub const PREFIX: Range<usize> = 345..500;

/// The largest number of a field of twelve bytes: eleven octal digits.
pub const MAX_OCTAL: u64 = 0o777_7777_7777;

/// What is read of a header.
pub struct Header {
    /// The name, not checked.
    pub name: Vec<u8>,
    /// Bytes of content.
    pub size: u64,
    /// The type flag.
    pub kind: u8,
}

impl Header {
    /// Reads a block at this offset of the archive; `None` for a block of zeros, the end.
    pub fn parse(block: &Block, offset: u64) -> Result<Option<Header>> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !has_checksum(block) {
            let looks_right = [USTAR, GNU].contains(&&block[MAGIC]);
            return Err(match offset == 0 && !looks_right {
                true => Error::NotTar,
                false => Error::Checksum { offset },
            });
        }
        let size = number(&block[SIZE]).ok_or(Error::Number { offset })?;
        let mut name = text(&block[NAME]).to_vec();
        // GNU tar keeps other things there.
        let prefix = text(&block[PREFIX]);
        if &block[MAGIC] == USTAR && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        Ok(Some(Header {
            name,
            size,
            kind: block[KIND],
        }))
    }
}

/// Returns the bytes before the first zero.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// Reads octal digits between spaces and zeros, or the binary number of GNU tar; `None` if it is negative or beyond 64
/// bits.
fn number(field: &[u8]) -> Option<u64> {
    if let [first @ (0x80 | 0xff), rest @ ..] = field {
        let (high, low) = rest.split_last_chunk::<8>()?;
        let is_small = *first == 0x80 && high.iter().all(|byte| *byte == 0);
        return is_small.then(|| u64::from_be_bytes(*low));
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| *byte != b' ')
        .unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(is_blank) {
        return None;
    }
    digits[..end].iter().try_fold(0u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        number.checked_mul(8)?.checked_add(digit.into())
    })
}

/// Compares the checksum with the sum of the bytes; old programs have added them as signed ones.
fn has_checksum(block: &Block) -> bool {
    let Some(recorded) = number(&block[CHECKSUM]) else {
        return false;
    };
    let bytes = || {
        let inside = |at: usize| CHECKSUM.contains(&at);
        block
            .iter()
            .enumerate()
            .map(move |(at, byte)| if inside(at) { b' ' } else { *byte })
    };
    let unsigned: u64 = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    recorded == unsigned || i64::try_from(recorded) == Ok(signed)
}

/// Completes a header with magic and checksum.
pub fn seal(block: &mut Block) {
    block[MAGIC].copy_from_slice(USTAR);
    block[CHECKSUM].fill(b' ');
    let sum: u64 = block.iter().copied().map(u64::from).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Writes a number that fits.
pub fn put(block: &mut Block, field: Range<usize>, number: u64) {
    let digits = format!("{number:0width$o}", width = field.len() - 1);
    if let Some(place) = block.get_mut(field.start..field.start + digits.len()) {
        place.copy_from_slice(digits.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, expected) in [
            (&b"0000000017\0"[..], Some(15)),
            (b"  17 \0\0", Some(15)),
            (b"\0\0\0", Some(0)),
            (b"   ", Some(0)),
            (b"777777777777", Some(0o7777_7777_7777)),
            (b"18\0", None),
            (b"-1\0", None),
            (b"1\x001", None),
            (b"1 1", None),
            (b"0x1", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x02", Some(258)),
            (
                b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
                Some(u64::MAX),
            ),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x81\0\0\0\0\0\0\0\0\0\0\x01", None),
        ] {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }
}
