//! Opaque bytes: cuts are chosen by a rolling hash of the bytes (FastCDC, 2020).

use fastcdc::v2020::FastCDC;

use super::MAX_LEAF_BYTES;

/// Minimum length of a leaf, except the last of a region.
pub(super) const MIN_BYTES: usize = 4 << 10;
/// Average length of a leaf.
const AVERAGE_BYTES: usize = 16 << 10;

/// Returns the length of the first leaf of `window`, which has [`MAX_LEAF_BYTES`] or the whole rest. Bytes beyond that
/// are ignored.
pub(super) fn cut(window: &[u8]) -> usize {
    // This costs nothing: the table of the rolling hash is a constant of the crate.
    let chunker = FastCDC::new(window, MIN_BYTES, AVERAGE_BYTES, MAX_LEAF_BYTES);
    chunker.cut(0, window.len()).1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored atoms depend on these cuts: other cuts in a new version of the crate would prevent deduplication with
    /// them.
    #[test]
    fn cuts_stay_where_they_are() {
        let bytes: Vec<u8> = (0..1u64 << 17)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ (i * i)) as u8)
            .collect();
        let (mut at, mut ends) = (0, Vec::new());
        while at < bytes.len() {
            at += cut(&bytes[at..]);
            ends.push(at);
        }
        assert_eq!(
            ends,
            [28151, 46764, 63462, 79320, 94113, 101674, 124850, 131072]
        );
    }

    #[test]
    fn nothing_beyond_the_longest_leaf_counts() {
        assert_eq!(cut(&[0; MAX_LEAF_BYTES]), MAX_LEAF_BYTES);
        assert_eq!(cut(&[0; 2 * MAX_LEAF_BYTES]), MAX_LEAF_BYTES);
        assert_eq!(cut(&[0; MIN_BYTES]), MIN_BYTES);
        assert_eq!(cut(&[0]), 1);
    }
}
