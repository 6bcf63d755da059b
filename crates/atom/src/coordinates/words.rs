//! Splits a stream of bytes into words of N bytes, wherever the stream is split.

/// The bytes of an incomplete word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<const N: usize> {
    held: [u8; N],
    count: usize,
}

impl<const N: usize> Default for Words<N> {
    fn default() -> Self {
        Words {
            held: [0; N],
            count: 0,
        }
    }
}

impl<const N: usize> Words<N> {
    /// Returns the words that the next bytes complete, in order: perhaps one that began before them, then those inside
    /// them.
    pub(super) fn take<'a>(&mut self, mut bytes: &'a [u8]) -> (Option<[u8; N]>, &'a [[u8; N]]) {
        let mut first = None;
        if self.count > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(N - self.count));
            self.held[self.count..][..head.len()].copy_from_slice(head);
            self.count += head.len();
            if self.count < N {
                return (None, &[]);
            }
            first = Some(self.held);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks();
        self.held[..rest.len()].copy_from_slice(rest);
        self.count = rest.len();
        (first, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_for_every_cut() {
        let bytes: Vec<u8> = (0..23).collect();
        let whole: Vec<[u8; 4]> = bytes.as_chunks().0.to_vec();
        for a in 0..=23 {
            for b in a..=23 {
                let mut words = Words::<4>::default();
                let mut seen = Vec::new();
                for piece in [&bytes[..a], &bytes[a..b], &[], &bytes[b..]] {
                    let (first, rest) = words.take(piece);
                    seen.extend(first);
                    seen.extend_from_slice(rest);
                }
                assert_eq!(seen, whole, "cut at {a} and {b}");
            }
        }
    }
}
