//! Pictures: the mean colour of pixels of three bytes.

use super::scale::share;

/// Bytes per step: whole pixels, whole vectors.
const LANES: usize = 48;
/// Steps whose sums fit into 16 bits.
const STEPS: usize = 256;

/// Running sums of the bytes at 0, 1 and 2 modulo 3.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Image {
    length: u64,
    sums: [u64; 3],
}

impl Image {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        // The colour of the first of these bytes; steps are whole pixels and do not change it.
        let at = (self.length % 3) as usize;
        let (steps, rest) = bytes.as_chunks::<LANES>();
        for steps in steps.chunks(STEPS) {
            let mut lanes = [0u16; LANES];
            for step in steps {
                for (lane, &byte) in lanes.iter_mut().zip(step) {
                    *lane += u16::from(byte);
                }
            }
            self.add(at, lanes.into_iter().map(u64::from));
        }
        self.add(at, rest.iter().map(|&byte| u64::from(byte)));
        self.length = self.length.saturating_add(bytes.len() as u64);
    }

    /// Adds to the three sums in turn, starting with colour `at`.
    fn add(&mut self, at: usize, values: impl Iterator<Item = u64>) {
        for (i, value) in values.enumerate() {
            let sum = &mut self.sums[(at + i) % 3];
            *sum = sum.saturating_add(value);
        }
    }

    pub(super) fn finish(&self) -> [u32; 3] {
        [0, 1, 2].map(|colour| {
            // Bytes of that colour: those of whole pixels, and one of the incomplete pixel.
            let count = self.length / 3 + u64::from(self.length % 3 > colour as u64);
            share(self.sums[colour], count.saturating_mul(255))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::LAST;
    use super::*;

    #[test]
    fn long_streams_stay_in_range() {
        let count: u64 = 1 << 54;
        let image = Image {
            length: 3 * count,
            sums: [255 * count, 0, 51 * count],
        };
        assert_eq!(image.finish(), [LAST, 0, LAST / 5]);
        let mut full = Image {
            length: u64::MAX,
            sums: [u64::MAX; 3],
        };
        full.update(&[255; 1000]);
        assert!(full.finish().iter().all(|&c| c <= LAST));
    }

    #[test]
    fn lanes_do_not_overflow() {
        let mut image = Image::default();
        image.update(&[255; 3 * LANES * STEPS]);
        assert_eq!(image.sums, [255 * (LANES * STEPS) as u64; 3]);
    }
}
