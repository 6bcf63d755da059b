//! Hashes of a whole file, computed as it streams by.

use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest, Sha256};

use crate::resumable::Blake3;

/// SHA-256 and BLAKE3 of a file, computed as it streams by.
#[derive(Clone, Default)]
pub struct FileHashes {
    sha256: Sha256,
    blake3: Blake3,
}

impl FileHashes {
    /// Creates hashers of an empty file.
    pub fn new() -> FileHashes {
        FileHashes::default()
    }

    /// Returns the two hashes, SHA-256 first.
    pub fn finish(self) -> ([u8; 32], [u8; 32]) {
        (self.sha256.finalize().into(), self.blake3.finish())
    }

    /// Feeds the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.blake3.update(bytes);
    }

    /// Bytes seen so far.
    pub fn bytes(&self) -> u64 {
        self.blake3.bytes()
    }

    /// Appends the state to a buffer.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sha256.serialize());
        self.blake3.save(out);
    }

    /// Takes a state from the front of a buffer; `None` if there is none.
    pub fn restore(from: &mut &[u8]) -> Option<FileHashes> {
        let (sha256, mut rest) = from.split_first_chunk()?;
        let sha256 = Sha256::deserialize(&(*sha256).into()).ok()?;
        let blake3 = Blake3::restore(&mut rest)?;
        *from = rest;
        Some(FileHashes { sha256, blake3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_state_goes_on() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i * 7) as u8).collect();
        let mut whole = FileHashes::new();
        whole.update(&bytes);
        let mut parts = FileHashes::new();
        for part in bytes.chunks(777) {
            parts.update(part);
            let mut state = Vec::new();
            parts.save(&mut state);
            assert!(FileHashes::restore(&mut &state[..state.len() - 1]).is_none());
            parts = FileHashes::restore(&mut state.as_slice()).expect("a state");
        }
        assert_eq!(parts.bytes(), 10_000);
        let (sha256, blake3) = parts.finish();
        assert_eq!(blake3, *blake3::hash(&bytes).as_bytes());
        assert_eq!((sha256, blake3), whole.finish());
        assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }
}
