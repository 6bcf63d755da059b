//! The key of a chunk: BLAKE3-256 of its raw bytes.

use crate::{Error, Result};

/// BLAKE3-256 of the raw bytes of a chunk. Ordered bytewise, as SQL orders `bytea`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkHash(pub [u8; 32]);

impl ChunkHash {
    /// Length of a hash in bytes.
    pub const LEN: usize = 32;

    /// Hashes raw bytes.
    pub fn of(raw: &[u8]) -> ChunkHash {
        ChunkHash(*blake3::hash(raw).as_bytes())
    }

    /// Reads a stored hash of 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<ChunkHash> {
        bytes
            .try_into()
            .map(ChunkHash)
            .map_err(|_| Error::HashLength(bytes.len()))
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut digits = [0; 2 * ChunkHash::LEN];
        let text = faster_hex::hex_encode(&self.0, &mut digits).map_err(|_| std::fmt::Error)?;
        f.write_str(text)
    }
}

impl std::fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hash_of_nothing() {
        assert_eq!(
            ChunkHash::of(b"").to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn only_32_bytes_are_a_hash() {
        let hash = ChunkHash::of(b"x");
        assert_eq!(ChunkHash::from_slice(hash.as_bytes()), Ok(hash));
        assert_eq!(ChunkHash::from_slice(&[0; 31]), Err(Error::HashLength(31)));
    }
}
