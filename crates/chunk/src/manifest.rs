//! Records of a tensor's pieces, and the identity of the whole.

use modelstore_tensor::stats::Stats;

use crate::resumable::Blake3;
use crate::{ChunkHash, Piece, StoredPiece};

/// One piece of a stored tensor.
#[derive(Clone, Debug)]
pub struct PieceInfo {
    /// Its position in the tensor.
    pub piece: Piece,
    /// The chunk with its bytes.
    pub hash: ChunkHash,
    /// Its zone map; `None` for non-numeric dtypes.
    pub stats: Option<Stats>,
}

impl PieceInfo {
    /// Returns its record without the zone map.
    pub fn stored(&self) -> StoredPiece {
        StoredPiece {
            hash: self.hash,
            first_element: self.piece.first_element,
            element_count: self.piece.element_count,
        }
    }
}

/// The identity of a tensor's content: BLAKE3-256 of its raw bytes, fed in order in pieces of any size. It does not
/// depend on how the tensor is split; for a tensor of one piece it is the hash of its chunk.
#[derive(Clone, Debug, Default)]
pub struct ContentHasher {
    hasher: Blake3,
}

impl ContentHasher {
    /// Creates a hasher.
    pub fn new() -> ContentHasher {
        ContentHasher::default()
    }

    /// Feeds the next raw bytes.
    pub fn update(&mut self, raw: &[u8]) {
        self.hasher.update(raw);
    }

    /// Returns the number of raw bytes so far.
    pub fn bytes(&self) -> u64 {
        self.hasher.bytes()
    }

    /// Appends the state to a buffer.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.hasher.save(out);
    }

    /// Takes a state from the front of a buffer; `None` if there is none.
    pub fn restore(from: &mut &[u8]) -> Option<ContentHasher> {
        let hasher = Blake3::restore(from)?;
        Some(ContentHasher { hasher })
    }

    /// Returns the identity of the bytes so far.
    pub fn finish(&self) -> ChunkHash {
        ChunkHash(self.hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_change_the_identity() {
        let raw: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
        let mut hasher = ContentHasher::new();
        assert_eq!(hasher.finish(), ChunkHash::of(&[]));
        raw.chunks(999).for_each(|piece| hasher.update(piece));
        assert_eq!(hasher.finish(), ChunkHash::of(&raw));
        assert_eq!(hasher.bytes(), 100_000);
    }
}
