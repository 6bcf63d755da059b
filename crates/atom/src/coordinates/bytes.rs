//! Statistics of any bytes: their mean, their deviation, and how much each differs from the previous one.

use super::scale::{clamp, mul_div, share, unit};

/// Counts the bytes of a class.
pub(super) fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> u64 {
    // A block's count fits into a byte: sixteen lanes fit the smallest vector registers.
    bytes
        .chunks(240)
        .map(|block| {
            let count: u8 = block.iter().map(|&byte| u8::from(is(byte))).sum();
            u64::from(count)
        })
        .sum()
}

/// Running sums of any bytes. They are exact up to 2^48 bytes and saturate from there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bytes {
    length: u64,
    sum: u64,
    squares: u64,
    /// Sum of the differences between neighbours.
    differences: u64,
    last: u8,
}

impl Bytes {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for block in bytes.chunks(1 << 12) {
            let &[first, .., last] = block else {
                self.one(block);
                continue;
            };
            self.step(first);
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            let squares: u32 = block
                .iter()
                .map(|&byte| u32::from(u16::from(byte) * u16::from(byte)))
                .sum();
            let differences: u32 = block
                .iter()
                .zip(&block[1..])
                .map(|(a, b)| u32::from(a.abs_diff(*b)))
                .sum();
            self.length = self.length.saturating_add(block.len() as u64);
            self.sum = self.sum.saturating_add(sum.into());
            self.squares = self.squares.saturating_add(squares.into());
            self.differences = self.differences.saturating_add(differences.into());
            self.last = last;
        }
    }

    /// Adds a block of at most one byte.
    fn one(&mut self, block: &[u8]) {
        for &byte in block {
            self.step(byte);
            self.length = self.length.saturating_add(1);
            self.sum = self.sum.saturating_add(byte.into());
            self.squares = self.squares.saturating_add(u64::from(byte).pow(2));
            self.last = byte;
        }
    }

    /// Adds the difference between the last byte and the next; the first byte has no predecessor.
    fn step(&mut self, next: u8) {
        if self.length > 0 {
            let difference = self.last.abs_diff(next);
            self.differences = self.differences.saturating_add(difference.into());
        }
    }

    pub(super) fn finish(&self) -> [u32; 3] {
        if self.length == 0 {
            return [0; 3];
        }
        let of = |length: u64, sum: u64| u128::from(length) * u128::from(sum);
        // Exact; rounding starts with the conversion to f64.
        let variance = of(self.length, self.squares).saturating_sub(of(self.sum, self.sum));
        let deviation = (variance as f64).sqrt() / self.length as f64;
        [
            share(self.sum, self.length.saturating_mul(255)),
            unit(deviation / 127.5),
            clamp(mul_div(self.differences, 1 << 21, self.length - 1)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::LAST;
    use super::*;

    #[test]
    fn long_streams_stay_in_range() {
        let half = Bytes {
            length: 1 << 48,
            sum: 255 << 47,
            squares: 65025 << 47,
            differences: 255 * ((1 << 48) - 1),
            last: 255,
        };
        assert_eq!(half.finish(), [LAST / 2, LAST, LAST]);
        let full = Bytes {
            length: 1 << 48,
            sum: 255 << 48,
            squares: 65025 << 48,
            differences: 0,
            last: 255,
        };
        assert_eq!(full.finish(), [LAST, 0, 0]);
    }

    #[test]
    fn sums_that_are_full_stay_full() {
        let mut bytes = Bytes {
            length: u64::MAX,
            sum: u64::MAX,
            squares: u64::MAX,
            differences: u64::MAX,
            last: 0,
        };
        bytes.update(&[255; 5000]);
        bytes.update(&[255]);
        assert_eq!(bytes.length, u64::MAX);
        assert!(bytes.finish().iter().all(|&c| c <= LAST));
    }

    #[test]
    fn counts_do_not_overflow_a_block() {
        for length in [0, 1, 239, 240, 241, 255, 256, 10_000] {
            assert_eq!(count(&vec![7; length], |byte| byte == 7), length as u64);
        }
    }
}
