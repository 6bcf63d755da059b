//! BLAKE3 whose state can be stored: a hash goes on in another process where one stopped.
//!
//! BLAKE3 is a binary tree over chunks of 1024 bytes (BLAKE3 specification, section 2.1). The state is the roots of the complete
//! subtrees from left to right, at most 54 of 32 bytes, and the bytes after them.

use blake3::CHUNK_LEN;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

/// A BLAKE3-256 hasher with a state that can be stored.
#[derive(Clone, Debug, Default)]
pub struct Blake3 {
    /// Complete subtrees from left to right, each with its number of chunks: powers of two that fall.
    subtrees: Vec<(u64, ChainingValue)>,
    /// The bytes after them. At least one, unless there are none at all: whether a subtree is the root is known only once
    /// further bytes follow.
    rest: Vec<u8>,
}

impl Blake3 {
    /// A hasher that has seen nothing.
    pub fn new() -> Blake3 {
        Blake3::default()
    }

    /// Bytes seen so far.
    pub fn bytes(&self) -> u64 {
        self.subtree_bytes() + self.rest.len() as u64
    }

    fn subtree_bytes(&self) -> u64 {
        let chunks: u64 = self.subtrees.iter().map(|(chunks, _)| chunks).sum();
        chunks * CHUNK_LEN as u64
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if !self.rest.is_empty() {
            let missing = CHUNK_LEN - self.rest.len();
            if bytes.len() <= missing {
                self.rest.extend_from_slice(bytes);
                return;
            }
            let (head, tail) = bytes.split_at(missing);
            self.rest.extend_from_slice(head);
            let rest = std::mem::take(&mut self.rest);
            self.push(1, &rest);
            bytes = tail;
        }
        // One byte at least stays behind.
        let mut chunks = (bytes.len().saturating_sub(1) / CHUNK_LEN) as u64;
        while chunks > 0 {
            let at = self.subtree_bytes() / CHUNK_LEN as u64;
            let aligned = if at == 0 {
                u64::MAX
            } else {
                1 << at.trailing_zeros()
            };
            let size = aligned.min(1 << chunks.ilog2());
            let (subtree, tail) = bytes.split_at(size as usize * CHUNK_LEN);
            self.push(size, subtree);
            bytes = tail;
            chunks -= size;
        }
        self.rest.extend_from_slice(bytes);
    }

    /// Adds a complete subtree that further bytes follow.
    fn push(&mut self, mut chunks: u64, bytes: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        let mut value = hasher
            .set_input_offset(self.subtree_bytes())
            .update(bytes)
            .finalize_non_root();
        while let Some((left_chunks, left)) = self.subtrees.pop_if(|(left, _)| *left == chunks) {
            value = merge_subtrees_non_root(&left, &value, Mode::Hash);
            chunks += left_chunks;
        }
        self.subtrees.push((chunks, value));
    }

    /// The hash of what has been seen.
    pub fn finish(&self) -> [u8; 32] {
        let Some(((_, first), others)) = self.subtrees.split_first() else {
            return *blake3::hash(&self.rest).as_bytes();
        };
        let mut right = blake3::Hasher::new()
            .set_input_offset(self.subtree_bytes())
            .update(&self.rest)
            .finalize_non_root();
        for (_, left) in others.iter().rev() {
            right = merge_subtrees_non_root(left, &right, Mode::Hash);
        }
        *merge_subtrees_root(first, &right, Mode::Hash).as_bytes()
    }

    /// Appends the state to a buffer.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.push(self.subtrees.len() as u8);
        for (chunks, value) in &self.subtrees {
            out.push(chunks.trailing_zeros() as u8);
            out.extend_from_slice(value);
        }
        out.extend_from_slice(&(self.rest.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.rest);
    }

    /// Takes a state from the front of a buffer; `None` if there is none.
    pub fn restore(from: &mut &[u8]) -> Option<Blake3> {
        let (&count, mut rest) = from.split_first()?;
        let mut hasher = Blake3::new();
        for _ in 0..count {
            let (&log, after) = rest.split_first()?;
            let (value, after) = after.split_first_chunk::<32>()?;
            let smaller = hasher
                .subtrees
                .last()
                .is_none_or(|(chunks, _)| u32::from(log) < chunks.trailing_zeros());
            // The input of a hash has less than 2^64 bytes.
            if log >= 53 || !smaller {
                return None;
            }
            hasher.subtrees.push((1 << log, *value));
            rest = after;
        }
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_le_bytes(*len));
        if len > CHUNK_LEN || len == 0 && !hasher.subtrees.is_empty() {
            return None;
        }
        hasher.rest = after.get(..len)?.to_vec();
        *from = &after[len..];
        Some(hasher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    fn saved(hasher: &Blake3) -> Blake3 {
        let mut state = Vec::new();
        hasher.save(&mut state);
        let mut rest = state.as_slice();
        let restored = Blake3::restore(&mut rest).expect("a state");
        assert!(rest.is_empty());
        restored
    }

    #[test]
    fn around_the_ends_of_chunks_and_subtrees() {
        for chunks in [0, 1, 2, 3, 4, 7, 8, 64, 65] {
            for more in [-1, 0, 1] {
                let Ok(len) = usize::try_from(chunks * 1024 + more) else {
                    continue;
                };
                let bytes = bytes(len);
                let mut hasher = Blake3::new();
                hasher.update(&bytes);
                assert_eq!(hasher.finish(), *blake3::hash(&bytes).as_bytes(), "{len}");
                assert_eq!(hasher.bytes(), len as u64);
            }
        }
    }

    proptest! {
        #[test]
        fn in_parts_with_the_state_stored_between(cuts in prop::collection::vec(0usize..9000, 0..12)) {
            let bytes = bytes(cuts.iter().sum());
            let (mut hasher, mut rest) = (Blake3::new(), bytes.as_slice());
            for cut in cuts {
                let (part, after) = rest.split_at(cut);
                hasher.update(part);
                hasher = saved(&hasher);
                rest = after;
            }
            prop_assert_eq!(hasher.finish(), *blake3::hash(&bytes).as_bytes());
        }

        #[test]
        fn any_bytes_as_a_state(state in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(mut hasher) = Blake3::restore(&mut state.as_slice()) {
                hasher.update(b"more");
                hasher.finish();
            }
        }
    }

    #[test]
    fn a_broken_state_is_none() {
        let mut hasher = Blake3::new();
        hasher.update(&bytes(5000));
        let mut state = Vec::new();
        hasher.save(&mut state);
        for len in 0..state.len() {
            assert!(Blake3::restore(&mut &state[..len]).is_none(), "{len}");
        }
        state[1] = 60;
        assert!(Blake3::restore(&mut state.as_slice()).is_none());
    }
}
