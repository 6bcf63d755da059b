//! Weights: their mean, standard deviation and largest magnitude, on scales made for the weights of models.
//!
//! These are the only sums of f64 that are stored permanently, so their order is part of the format: word i of the
//! content, including skipped ones, is added to lane i modulo 8, and the lanes are added from the first to the last.
//! The sums cannot overflow: a square is below 2^256. A deviation below about 1e-7 of the mean is lost in rounding.

use super::scale::unit;
use super::words::Words;

/// Independent sums, which fit into vector registers.
const LANES: usize = 8;
/// All bits of an f32 but the sign.
const MAGNITUDE: u32 = 0x7FFF_FFFF;
/// Magnitudes from here on are infinite or NaN.
const INFINITE: u32 = 0x7F80_0000;

/// Running sums of words of f32.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tensor {
    words: Words<4>,
    /// Count of all words.
    count: u64,
    /// Count of the finite words.
    finite: u64,
    sums: [f64; LANES],
    squares: [f64; LANES],
    /// The largest magnitude as bits, which sort like the numbers.
    largest: u32,
}

impl Tensor {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (first, mut words) = self.words.take(bytes);
        if let Some(first) = first {
            self.one(first);
        }
        while !self.count.is_multiple_of(LANES as u64) {
            let Some((&word, rest)) = words.split_first() else {
                return;
            };
            self.one(word);
            words = rest;
        }
        let (steps, rest) = words.as_chunks::<LANES>();
        for steps in steps.chunks(1 << 10) {
            self.steps(steps);
        }
        for &word in rest {
            self.one(word);
        }
    }

    /// Adds a word.
    fn one(&mut self, word: [u8; 4]) {
        let lane = (self.count % LANES as u64) as usize;
        let (value, magnitude, finite) = parts(word);
        self.sums[lane] += value;
        self.squares[lane] += value * value;
        self.largest = self.largest.max(magnitude);
        self.finite = self.finite.saturating_add(finite.into());
        self.count = self.count.wrapping_add(1);
    }

    /// Adds words in whole steps, the first of which belongs to lane 0.
    fn steps(&mut self, steps: &[[[u8; 4]; LANES]]) {
        let (mut sums, mut squares) = (self.sums, self.squares);
        let (mut largest, mut finite) = ([0; LANES], [0; LANES]);
        for step in steps {
            for lane in 0..LANES {
                let (value, magnitude, is_finite) = parts(step[lane]);
                sums[lane] += value;
                squares[lane] += value * value;
                largest[lane] = magnitude.cast_signed().max(largest[lane]);
                finite[lane] += is_finite;
            }
        }
        (self.sums, self.squares) = (sums, squares);
        for lane in 0..LANES {
            self.largest = self.largest.max(largest[lane].cast_unsigned());
            self.finite = self.finite.saturating_add(finite[lane].into());
        }
        self.count = self.count.wrapping_add((steps.len() * LANES) as u64);
    }

    pub(super) fn finish(&self) -> [u32; 3] {
        if self.finite == 0 {
            return [0; 3];
        }
        let total = |lanes: &[f64; LANES]| lanes.iter().fold(0.0, |sum, lane| sum + lane);
        let (sum, squares, count) = (total(&self.sums), total(&self.squares), self.finite as f64);
        let mean = sum / count;
        let variance = (squares - sum * mean) / count;
        // Rounding may give slightly less than zero.
        let deviation = if variance > 0.0 { variance.sqrt() } else { 0.0 };
        let largest = f64::from(f32::from_bits(self.largest));
        [
            unit((1.0 + mean / (1.0 / 64.0 + mean.abs())) / 2.0),
            unit(deviation / (1.0 / 16.0 + deviation)),
            unit(largest / (1.0 + largest)),
        ]
    }
}

/// Returns the value of a word, the bits of its magnitude, and 1; all 0 if it is not finite.
fn parts(word: [u8; 4]) -> (f64, u32, u32) {
    let bits = u32::from_le_bytes(word);
    let is_finite = bits & MAGNITUDE < INFINITE;
    let bits = if is_finite { bits } else { 0 };
    (
        f32::from_bits(bits).into(),
        bits & MAGNITUDE,
        is_finite.into(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::scale::LAST;
    use super::*;

    #[test]
    fn long_streams_of_the_largest_numbers_stay_in_range() {
        let count = 1u64 << 60;
        let largest = f64::from(f32::MAX);
        let lane = largest * (count / 8) as f64;
        for sign in [-1.0, 1.0] {
            let tensor = Tensor {
                count,
                finite: count,
                sums: [sign * lane; LANES],
                squares: [largest * lane; LANES],
                largest: f32::MAX.to_bits(),
                ..Default::default()
            };
            let [x, y, z] = tensor.finish();
            assert_eq!([x, z], [if sign > 0.0 { LAST } else { 0 }, LAST]);
            assert!(y <= LAST);
        }
    }
}
