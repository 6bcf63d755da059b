//! The coordinates of an atom, and the key it is stored under.
//!
//! An atom has four coordinates of 28 bits. The key contains them as three codes of the Hilbert curve of order 28, of
//! the pairs (x, y), (y, z), (z, m). The byte above the first code is the modality. So keys are ordered by modality,
//! and within one by the curve through the plane of x and y.

use crate::hilbert::{hilbert_decode, hilbert_encode};
use crate::{Error, Modality, Result};

/// Bits of a coordinate.
pub const AXIS_BITS: u32 = 28;
/// Bits of the code of a pair of coordinates.
const CODE_BITS: u32 = 2 * AXIS_BITS;
/// Equal ranges of the curve per modality.
pub const RANGES_PER_MODALITY: u32 = 32;
/// Ranges of all modalities.
pub const RANGES: u32 = RANGES_PER_MODALITY * Modality::ALL.len() as u32;

/// A point in the space of atoms. Coordinates are 0 to 2^28 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// The first property of the modality.
    pub x: u32,
    /// The second property.
    pub y: u32,
    /// The third property.
    pub z: u32,
    /// Bits of the content's hash.
    pub m: u32,
}

impl Point {
    /// Creates a point, if the coordinates are in range.
    pub fn new(coordinates: [i64; 4]) -> Result<Point> {
        for (axis, value) in coordinates.into_iter().enumerate() {
            if value >> AXIS_BITS != 0 {
                return Err(Error::Coordinate {
                    axis,
                    value: value.into(),
                    order: AXIS_BITS,
                });
            }
        }
        let [x, y, z, m] = coordinates.map(|c| c as u32);
        Ok(Point { x, y, z, m })
    }

    /// Returns the coordinates in the order x, y, z, m.
    pub fn coordinates(&self) -> [u32; 4] {
        [self.x, self.y, self.z, self.m]
    }

    /// Returns the square of the Euclidean distance to another point, exact: below 2^58.
    pub fn distance_squared(&self, other: &Point) -> u64 {
        let (a, b) = (self.coordinates(), other.coordinates());
        (0..4).map(|i| u64::from(a[i].abs_diff(b[i])).pow(2)).sum()
    }
}

/// The key of an atom. Not every three numbers are one: the codes share coordinates and must agree on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Modality and the code of (x, y).
    pub h_xy: i64,
    /// The code of (y, z).
    pub h_yz: i64,
    /// The code of (z, m).
    pub h_zm: i64,
}

impl Key {
    /// Returns the key of a point, for a modality.
    pub fn new(modality: Modality, point: Point) -> Result<Key> {
        let code = |a: u32, b: u32| {
            hilbert_encode(i64::from(a), i64::from(b), AXIS_BITS as i32).map(|code| code as i64)
        };
        Ok(Key {
            h_xy: i64::from(modality as u8) << CODE_BITS | code(point.x, point.y)?,
            h_yz: code(point.y, point.z)?,
            h_zm: code(point.z, point.m)?,
        })
    }

    /// Returns the key of these codes, in the order of the columns; does not check whether they agree.
    pub fn from_codes([h_xy, h_yz, h_zm]: [i64; 3]) -> Key {
        Key { h_xy, h_yz, h_zm }
    }

    /// Returns the modality, and the point if the codes agree.
    pub fn parts(&self) -> Result<(Modality, Point)> {
        let wrong = |_| Error::Key(*self);
        let modality = Modality::from_number(self.h_xy >> CODE_BITS).map_err(wrong)?;
        let plane = |code: i64| hilbert_decode(code, AXIS_BITS as i32).map_err(wrong);
        let (x, y) = plane(self.h_xy & ((1 << CODE_BITS) - 1))?;
        let (y_again, z) = plane(self.h_yz)?;
        let (z_again, m) = plane(self.h_zm)?;
        if (y, z) != (y_again, z_again) {
            return Err(Error::Key(*self));
        }
        let [x, y, z, m] = [x, y, z, m].map(|c| c as u32);
        Ok((modality, Point { x, y, z, m }))
    }
}

/// Returns the codes of a modality: its first, and the first of the next.
pub fn modality_codes(modality: Modality) -> (i64, i64) {
    let number = i64::from(modality as u8);
    (number << CODE_BITS, (number + 1) << CODE_BITS)
}

/// Returns the range of a code, 0 to 255: thirty-two per modality, in the order of the curve.
pub fn range(h_xy: i64) -> Option<u32> {
    u32::try_from(h_xy >> (CODE_BITS - RANGES_PER_MODALITY.ilog2()))
        .ok()
        .filter(|range| *range < RANGES)
}

/// Returns the codes of a range: the first, and the first of the next.
pub fn range_bounds(range: u32) -> (i64, i64) {
    let shift = CODE_BITS - RANGES_PER_MODALITY.ilog2();
    (i64::from(range) << shift, (i64::from(range) + 1) << shift)
}

/// Returns the fourth coordinate of a content: 28 bits of its hash and, if that place is taken by another content,
/// those a step further, in turn. The step is odd, so that each of the 2^28 places is eventually tried once; it comes
/// from other bits of the hash, so that contents that collide once take different sequences.
pub fn m_of(content_hash: &[u8; 32], probe: u32) -> u32 {
    let word = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&content_hash[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    let (start, step) = (word(0), word(4) | 1);
    start.wrapping_add(step.wrapping_mul(probe)) & ((1 << AXIS_BITS) - 1)
}

/// Replaces a content's hash in [`m_of`] under row-level security. Without the salt, nobody can tell where a role's
/// contents are, nor put others in their way.
pub fn salted(content_hash: &[u8; 32], salt: &[u8; 16]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(salt);
    hasher.update(content_hash);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAST: u32 = (1 << AXIS_BITS) - 1;

    fn points() -> impl Strategy<Value = Point> {
        (0..=LAST, 0..=LAST, 0..=LAST, 0..=LAST).prop_map(|(x, y, z, m)| Point { x, y, z, m })
    }

    proptest! {
        #[test]
        fn a_key_leads_back(point in points(), number in 0i64..8) {
            let modality = Modality::from_number(number).unwrap();
            let key = Key::new(modality, point).unwrap();
            prop_assert_eq!(key.parts(), Ok((modality, point)));
            let range = range(key.h_xy).unwrap();
            prop_assert_eq!(i64::from(range / 32), number);
            let (first, end) = range_bounds(range);
            prop_assert!(first <= key.h_xy && key.h_xy < end);
        }

        #[test]
        fn keys_whose_codes_disagree_are_refused(point in points(), other in points()) {
            prop_assume!(point.y != other.y);
            let (a, b) = (Key::new(Modality::Code, point).unwrap(), Key::new(Modality::Code, other).unwrap());
            let mixed = Key { h_yz: b.h_yz, ..a };
            prop_assert_eq!(mixed.parts(), Err(Error::Key(mixed)));
        }

        #[test]
        fn keys_whose_last_code_is_another_s_are_refused(point in points(), z in 0..=LAST) {
            prop_assume!(point.z != z);
            let (a, b) = (Key::new(Modality::Code, point).unwrap(), Key::new(Modality::Code, Point { z, ..point }).unwrap());
            let mixed = Key { h_zm: b.h_zm, ..a };
            prop_assert_eq!(mixed.parts(), Err(Error::Key(mixed)));
        }
    }

    #[test]
    fn a_step_never_comes_back_to_a_place() {
        // With an even step, at most half of the places would be tried, repeatedly.
        for word in [0u32, 2, 1 << 27, 1 << 20, 0xFFFF_FFFE] {
            let mut hash = [7u8; 32];
            hash[4..8].copy_from_slice(&word.to_le_bytes());
            let places: std::collections::BTreeSet<u32> =
                (0..4096).map(|probe| m_of(&hash, probe)).collect();
            assert_eq!(places.len(), 4096, "{word}");
        }
    }

    #[test]
    fn every_range_follows_the_one_before() {
        for number in 0..256 {
            let (first, end) = range_bounds(number);
            assert_eq!(range(first), Some(number));
            assert_eq!(range(end - 1), Some(number));
            assert_eq!(range(end), Some(number + 1).filter(|next| *next < 256));
        }
        assert_eq!(range(-1), None);
        assert_eq!(range_bounds(255).1, 1 << 59);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for h_xy in [-1, 1 << 59, i64::MIN, i64::MAX] {
            let key = Key {
                h_xy,
                h_yz: 0,
                h_zm: 0,
            };
            assert_eq!(key.parts(), Err(Error::Key(key)));
        }
        assert!(Point::new([0, 0, 1 << 28, 0]).is_err());
        assert!(Point::new([0, -1, 0, 0]).is_err());
        assert!(Point::new([i64::from(LAST); 4]).is_ok());
    }

    #[test]
    fn a_salt_moves_every_probe() {
        let hash = [9; 32];
        let places = |salt| -> Vec<u32> {
            let hash = salted(&hash, &[salt; 16]);
            (0..100).map(|probe| m_of(&hash, probe)).collect()
        };
        assert_eq!(places(1), places(1));
        assert!(places(1).iter().all(|m| !places(2).contains(m)));
        assert_ne!(m_of(&hash, 0), places(1)[0]);
    }

    #[test]
    fn probing_reaches_distinct_places() {
        let mut hash = [7; 32];
        hash[4] = 6;
        let tried: std::collections::HashSet<u32> = (0..100_000).map(|p| m_of(&hash, p)).collect();
        assert_eq!(tried.len(), 100_000);
    }
}
