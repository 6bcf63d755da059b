//! Sound: its loudness, its frequency, and its peak.

use super::scale::{log2, mul_div, saturating};
use super::words::Words;

/// Running sums of samples.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Audio {
    words: Words<2>,
    samples: u64,
    /// Each up to 2^30: sums over 2^40 bytes need 69 bits.
    squares: u128,
    /// Pairs of neighbours of which exactly one is negative.
    crossings: u64,
    last: i16,
    /// Largest magnitude, up to 2^15.
    peak: u16,
}

impl Audio {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (first, samples) = self.words.take(bytes);
        if let Some(first) = first {
            self.block(&[first]);
        }
        for block in samples.chunks(1 << 10) {
            self.block(block);
        }
    }

    /// Adds at most 2^10 samples.
    fn block(&mut self, block: &[[u8; 2]]) {
        let (Some(&first), Some(&last)) = (block.first(), block.last()) else {
            return;
        };
        let sample = |bytes: &[u8; 2]| i16::from_le_bytes(*bytes);
        let crossing = |a: i16, b: i16| (a ^ b).cast_unsigned() >> 15;
        if self.samples > 0 {
            let crossings = crossing(self.last, sample(&first));
            self.crossings = self.crossings.saturating_add(crossings.into());
        }
        // A loop for each sum, or the compiler does not vectorise them.
        let squares: u64 = block
            .iter()
            .map(|bytes| u64::from(i32::from(sample(bytes)).pow(2).cast_unsigned()))
            .sum();
        let crossings: u16 = block
            .iter()
            .zip(&block[1..])
            .map(|(a, b)| crossing(sample(a), sample(b)))
            .sum();
        let highest = block.iter().map(sample).fold(i16::MIN, i16::max);
        let lowest = block.iter().map(sample).fold(i16::MAX, i16::min);
        self.samples = self.samples.saturating_add(block.len() as u64);
        self.squares = self.squares.saturating_add(squares.into());
        self.crossings = self.crossings.saturating_add(crossings.into());
        self.peak = self
            .peak
            .max(highest.unsigned_abs())
            .max(lowest.unsigned_abs());
        self.last = sample(&last);
    }

    pub(super) fn finish(&self) -> [u32; 3] {
        if self.samples == 0 {
            return [0; 3];
        }
        // 13 fractional bits: the maximum is 2^28. Squares are at most 2^30 · 2^63.
        let mean_square = (self.squares << 26) / u128::from(self.samples);
        let root = saturating(mean_square).isqrt();
        let rate = mul_div(self.crossings, 1 << 28, self.samples - 1);
        [
            log2(root, 13, 24),
            log2(rate, 12, 24),
            log2(self.peak.into(), 0, 24),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::LAST;
    use super::*;

    #[test]
    fn long_streams_stay_in_range() {
        for samples in [1 << 39, 1 << 63] {
            let audio = Audio {
                samples,
                squares: u128::from(samples) << 30,
                crossings: samples - 1,
                peak: 1 << 15,
                ..Default::default()
            };
            // log2(1 + 2^15) is a little above 15.
            let loudest = (15 << 24) + (1 << 9);
            assert_eq!(audio.finish(), [loudest, LAST, loudest]);
        }
    }
}
