//! The header of an encoded chunk.
//!
//! | byte | what |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | codec: 0 raw, 1 constant, 2 planes, 3 delta |
//! | 2 | element width: 1, 2, 4 or 8 bytes |
//! | 3 | flags: bit 0, the sign bit is rotated to the bottom (planes and delta); other bits zero |
//! | 4..8 | raw length, u32 little-endian, at most 4 MiB |
//! | 8..40 | delta only: BLAKE3-256 of the base |
//! | then | payload |
//!
//! The payload of `raw` is the bytes; of `constant`, one element; of `planes` and `delta`, the log2 of the block
//! size, three zero bytes, the block index (see [`crate::codec`]) and the planes.

use crate::{ChunkHash, Codec, Error, MAX_CHUNK_BYTES, Result};

/// The version written.
pub const VERSION: u8 = 1;
/// Length of a prefix from which every [`ChunkHead`] can be parsed; a shorter chunk is parsed from all its bytes.
pub const PREFIX_BYTES: usize = BASE_END + BLOCK_WORD;
/// The smallest block a decoder accepts: bounds the index of a hostile chunk to 8 KiB.
pub const MIN_BLOCK_LOG2: u8 = 14;
/// The largest block a decoder accepts: bounds its buffers. A sparse delta of 1 MiB is one block.
pub const MAX_BLOCK_LOG2: u8 = 20;

const FIXED: usize = 8;
const BASE_END: usize = FIXED + ChunkHash::LEN;
const BLOCK_WORD: usize = 4;
const FLAG_ROTATED: u8 = 1;

/// The checked header of an encoded chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    /// How the payload is encoded.
    pub codec: Codec,
    /// Bytes of one element: 1, 2, 4 or 8.
    pub width: u8,
    /// Whether elements are rotated left by one bit before they are split.
    pub rotated: bool,
    /// Bytes that the chunk decodes to.
    pub raw_len: u32,
    /// The base of a delta.
    pub base: Option<ChunkHash>,
    /// Log2 of the raw bytes in a block of `planes` or `delta`; 0 for the other codecs.
    pub block_log2: u8,
    /// Where the payload starts; for `planes` and `delta`, where the index starts.
    pub payload_offset: usize,
}

impl ChunkHead {
    /// Parses the header from at least the first [`PREFIX_BYTES`] of a chunk, or from all of it.
    pub fn parse(prefix: &[u8]) -> Result<ChunkHead> {
        let byte = |at: usize| {
            prefix
                .get(at)
                .copied()
                .ok_or_else(|| truncated(at + 1, prefix))
        };
        let version = byte(0)?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let codec = Codec::from_code(byte(1)?)?;
        let width = byte(2)?;
        if !matches!(width, 1 | 2 | 4 | 8) {
            return Err(Error::Width(width));
        }
        let flags = byte(3)?;
        let blocked = matches!(codec, Codec::Planes | Codec::Delta);
        if flags & !FLAG_ROTATED != 0 || (flags != 0 && !blocked) {
            return Err(Error::Flags(flags));
        }
        let raw_len = read_u32(prefix, 4)?;
        let whole = raw_len % u32::from(width) == 0;
        if u64::from(raw_len) > MAX_CHUNK_BYTES || !whole || (raw_len == 0 && codec != Codec::Raw) {
            return Err(Error::RawLength(raw_len.into()));
        }
        let mut head = ChunkHead {
            codec,
            width,
            rotated: flags & FLAG_ROTATED != 0,
            raw_len,
            base: None,
            block_log2: 0,
            payload_offset: FIXED,
        };
        if codec == Codec::Delta {
            let base = prefix
                .get(FIXED..BASE_END)
                .ok_or_else(|| truncated(BASE_END, prefix))?;
            head.base = Some(ChunkHash::from_slice(base)?);
            head.payload_offset = BASE_END;
        }
        if blocked {
            let at = head.payload_offset;
            head.block_log2 = byte(at)?;
            if !(MIN_BLOCK_LOG2..=MAX_BLOCK_LOG2).contains(&head.block_log2) {
                return Err(Error::BlockSize(head.block_log2));
            }
            for reserved in at + 1..at + BLOCK_WORD {
                if byte(reserved)? != 0 {
                    return Err(Error::Flags(byte(reserved)?));
                }
            }
            head.payload_offset += BLOCK_WORD;
        }
        Ok(head)
    }

    /// Appends the header to an empty chunk. Ignores `payload_offset`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let flags = if self.rotated { FLAG_ROTATED } else { 0 };
        out.extend_from_slice(&[VERSION, self.codec.code(), self.width, flags]);
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        if let Some(base) = &self.base {
            out.extend_from_slice(base.as_bytes());
        }
        if self.blocks() > 0 {
            out.extend_from_slice(&[self.block_log2, 0, 0, 0]);
        }
    }

    /// Returns the number of blocks; 0 for codecs without blocks.
    pub fn blocks(&self) -> usize {
        if self.block_log2 == 0 {
            return 0;
        }
        (self.raw_len as usize).div_ceil(1 << self.block_log2)
    }

    /// Returns the raw bytes of a block below [`ChunkHead::blocks`]; the last one may be shorter.
    pub(crate) fn block_len(&self, block: usize) -> usize {
        let size = 1usize << self.block_log2;
        size.min((self.raw_len as usize).saturating_sub(block * size))
    }

    /// Returns the bytes of the block index.
    pub(crate) fn index_bytes(&self) -> usize {
        self.blocks() * usize::from(self.width) * 4
    }
}

/// Reads a little-endian u32.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Result<u32> {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => Ok(u32::from_le_bytes([a, b, c, d])),
        _ => Err(truncated(at + 4, bytes)),
    }
}

pub(crate) fn truncated(needed: usize, bytes: &[u8]) -> Error {
    Error::Truncated {
        needed,
        actual: bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_headers_are_named() {
        let good = [1, 2, 4, 1, 0, 0, 1, 0, 16, 0, 0, 0];
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            ChunkHead::parse(&bytes)
        };
        let head = ChunkHead::parse(&good).expect("a header");
        assert_eq!(
            (head.blocks(), head.index_bytes(), head.payload_offset),
            (1, 16, 12)
        );
        assert_eq!(with(0, 2), Err(Error::Version(2)));
        assert_eq!(with(1, 4), Err(Error::Codec(4)));
        assert_eq!(with(2, 3), Err(Error::Width(3)));
        assert_eq!(with(3, 2), Err(Error::Flags(2)));
        assert_eq!(with(1, 0), Err(Error::Flags(1)));
        assert_eq!(with(4, 1), Err(Error::RawLength(65537)));
        assert_eq!(with(7, 1), Err(Error::RawLength((1 << 24) + 65536)));
        assert_eq!(with(8, 13), Err(Error::BlockSize(13)));
        assert_eq!(with(9, 1), Err(Error::Flags(1)));
        for len in 0..good.len() {
            assert!(matches!(
                ChunkHead::parse(&good[..len]),
                Err(Error::Truncated { .. })
            ));
        }
    }
}
