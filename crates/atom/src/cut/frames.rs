//! Uncompressed sound and pictures: a header, samples or pixels of a fixed size, and the rest.

use super::regions::{MAX_UNIT_BYTES, Region, Unit};

/// Bytes of a chunk's name and length in RIFF.
const CHUNK_HEADER_BYTES: usize = 8;
/// Where the first chunk of RIFF is.
const FIRST_CHUNK: usize = 12;
/// Position of the frame size in the chunk `fmt `.
const BLOCK_ALIGN: usize = 12;

/// Returns the regions of a WAVE file of `total` bytes: everything before the samples, and the samples. `None` if
/// `head` is not the start of such a file, or the samples begin beyond it.
pub(super) fn wave(head: &[u8], total: u64) -> Option<Vec<Region>> {
    let known = head.starts_with(b"RIFF") || head.starts_with(b"RF64");
    if !known || head.get(8..FIRST_CHUNK)? != b"WAVE" {
        return None;
    }
    let (mut at, mut frame) = (FIRST_CHUNK, None);
    loop {
        let body = at.checked_add(CHUNK_HEADER_BYTES)?;
        let (name, length) = head.get(at..body)?.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(length.try_into().ok()?);
        match name {
            b"fmt " => {
                let bytes = head.get(body + BLOCK_ALIGN..)?.first_chunk()?;
                frame = Some(u16::from_le_bytes(*bytes));
            }
            b"data" => {
                // RF64, and writers that do not know the length, use the largest number: up to the end.
                return header_and_frames(body, u64::from(length), frame?.into(), total);
            }
            _ => {}
        }
        // A chunk of an odd length is padded.
        let length = usize::try_from(length).ok()?;
        at = body.checked_add(length)?.checked_add(length % 2)?;
    }
}

/// Returns the regions of a picture in PGM, PPM (binary) or PAM of `total` bytes: header and pixels. `None` if `head`
/// is not the start of one.
pub(super) fn netpbm(head: &[u8], total: u64) -> Option<Vec<Region>> {
    let mut words = Words { head, at: 2 };
    let (width, height, depth, maximum) = match head.get(..2)? {
        b"P5" => (words.number()?, words.number()?, 1, words.number()?),
        b"P6" => (words.number()?, words.number()?, 3, words.number()?),
        b"P7" => words.pam()?,
        _ => return None,
    };
    let sample = match maximum {
        1..=255 => 1,
        256..=65535 => 2,
        _ => return None,
    };
    let pixel = depth.checked_mul(sample)?;
    let pixels = width.checked_mul(height)?.checked_mul(pixel)?;
    // One byte of white space ends the header.
    let header = words.at + 1;
    if !head.get(words.at)?.is_ascii_whitespace() {
        return None;
    }
    header_and_frames(header, pixels, usize::try_from(pixel).ok()?, total)
}

/// Returns a header and this many bytes of frames after it; the source may end before them.
fn header_and_frames(header: usize, bytes: u64, frame: usize, total: u64) -> Option<Vec<Region>> {
    let start = header as u64;
    if start > total || !(1..=MAX_UNIT_BYTES).contains(&frame) {
        return None;
    }
    Some(vec![
        Region {
            end: start,
            unit: Unit::Whole,
        },
        Region {
            end: start.saturating_add(bytes).min(total),
            unit: Unit::Frames(frame),
        },
    ])
}

/// The words of a picture's header.
struct Words<'a> {
    head: &'a [u8],
    /// The end of the last word.
    at: usize,
}

impl<'a> Words<'a> {
    /// Returns the next word, skipping comments from `#` to the end of a line.
    fn word(&mut self) -> Option<&'a [u8]> {
        let mut start = self.at;
        loop {
            match self.head.get(start)? {
                b'#' => start += self.head[start..].iter().position(|&b| b == b'\n')?,
                byte if byte.is_ascii_whitespace() => start += 1,
                _ => break,
            }
        }
        let rest = &self.head[start..];
        let len = rest.iter().position(u8::is_ascii_whitespace)?;
        self.at = start + len;
        Some(&rest[..len])
    }

    fn number(&mut self) -> Option<u64> {
        std::str::from_utf8(self.word()?).ok()?.parse().ok()
    }

    /// Returns width, height, samples per pixel and the largest sample of PAM.
    fn pam(&mut self) -> Option<(u64, u64, u64, u64)> {
        let (mut width, mut height, mut depth, mut maximum) = (None, None, None, None);
        loop {
            match self.word()? {
                b"WIDTH" => width = Some(self.number()?),
                b"HEIGHT" => height = Some(self.number()?),
                b"DEPTH" => depth = Some(self.number()?),
                b"MAXVAL" => maximum = Some(self.number()?),
                b"TUPLTYPE" => drop(self.word()?),
                b"ENDHDR" => return Some((width?, height?, depth?, maximum?)),
                _ => return None,
            }
        }
    }
}
