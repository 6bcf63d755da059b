//! Hashes of a whole file, computed as it streams by.

use sha2::{Digest, Sha256};

/// SHA-256 and BLAKE3 of a file, computed as it streams by.
#[derive(Default)]
pub struct FileHashes {
    sha256: Sha256,
    blake3: blake3::Hasher,
}

impl FileHashes {
    /// Of no bytes yet.
    pub fn new() -> FileHashes {
        FileHashes::default()
    }

    /// The two hashes, SHA-256 first.
    pub fn finish(self) -> ([u8; 32], [u8; 32]) {
        (
            self.sha256.finalize().into(),
            *self.blake3.finalize().as_bytes(),
        )
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.blake3.update(bytes);
    }
}
