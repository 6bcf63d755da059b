//! Searches of stored atoms, over a store in memory, against looking at every atom.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use modelstore_atom::spatial::{NearAtom, PlaceRange, Places, Region, nearest, place, within};
use modelstore_atom::{Error, Key, Modality, Partitions, Point};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Atoms by partition and place.
struct Memory {
    partitions: Partitions,
    atoms: BTreeMap<u32, Vec<(i64, Key)>>,
    /// Atoms handed over.
    read: usize,
    /// Ranges looked at.
    looks: usize,
}

impl Memory {
    fn new(partitions: Partitions, keys: &[Key]) -> Memory {
        let mut atoms: BTreeMap<u32, Vec<(i64, Key)>> = BTreeMap::new();
        for key in keys {
            let of = (0..partitions.count()).find(|&n| {
                let (first, end) = partitions.bounds(n);
                first <= key.h_xy && key.h_xy < end
            });
            let point = key.parts().expect("a key").1;
            let row = (place(&point), *key);
            atoms.entry(of.expect("a partition")).or_default().push(row);
        }
        atoms.values_mut().for_each(|atoms| atoms.sort_unstable());
        Memory {
            partitions,
            atoms,
            read: 0,
            looks: 0,
        }
    }
}

impl Places for Memory {
    type Error = Error;

    fn partitions(&self) -> Partitions {
        self.partitions
    }

    fn beside(
        &mut self,
        partition: u32,
        place: i64,
        count: usize,
        each: &mut dyn FnMut(Key) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let atoms = self.atoms.get(&partition).map_or(&[][..], Vec::as_slice);
        let at = atoms.partition_point(|(p, _)| *p < place);
        let (before, after) = atoms.split_at(at);
        let found = after
            .iter()
            .take(count)
            .chain(before.iter().rev().take(count));
        for (_, key) in found {
            self.read += 1;
            each(*key)?;
        }
        Ok(())
    }

    fn in_ranges(
        &mut self,
        partition: u32,
        ranges: &[PlaceRange],
        limit: usize,
        each: &mut dyn FnMut(Key) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut left = limit;
        for (place, key) in self.atoms.get(&partition).into_iter().flatten() {
            if ranges.iter().any(|r| r.first <= *place && *place <= r.last) {
                self.read += 1;
                each(*key)?;
                left -= 1;
                if left == 0 {
                    return Ok(false);
                }
            }
        }
        self.looks += ranges.len();
        Ok(true)
    }

    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn modality(number: u8) -> Modality {
    Modality::from_number(number.into()).expect("one of eight")
}

/// A coordinate; spreads differ by many powers of two.
fn coordinate() -> impl Strategy<Value = i64> {
    const TOP: i64 = (1 << 28) - 1;
    prop_oneof![
        0..=TOP,
        (0..40i64).prop_map(|n| n * 1000),
        Just(TOP),
        Just(1 << 27)
    ]
}

fn point() -> impl Strategy<Value = Point> {
    [coordinate(), coordinate(), coordinate(), coordinate()]
        .prop_map(|c| Point::new(c).expect("in range"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nearest_and_within_are_exact(
        atoms in prop::collection::vec((0u8..8, point()), 0..300),
        center in point(),
        corner in point(),
        k in 0usize..20,
        only in prop::option::of(0u8..8),
        radius in prop_oneof![0u64..1 << 20, 0u64..1 << 57],
        count in prop::sample::select(&[8, 32, 64, 256][..]),
    ) {
        let mut keys: Vec<Key> = atoms.iter().map(|(m, p)| Key::new(modality(*m), *p)).collect::<Result<_, _>>()?;
        keys.sort_unstable();
        keys.dedup();
        let only = only.map(modality);
        let mut memory = Memory::new(Partitions::new(count).expect("a number"), &keys);
        let of: Vec<(Point, Key)> = keys
            .iter()
            .map(|key| (key.parts().expect("a key"), *key))
            .filter(|((m, _), _)| only.is_none_or(|only| only == *m))
            .map(|((_, point), key)| (point, key))
            .collect();
        let mut expected: Vec<NearAtom> = of
            .iter()
            .map(|&(point, key)| NearAtom { distance_squared: center.distance_squared(&point), point, key })
            .collect();
        expected.sort_unstable();
        expected.truncate(k);
        prop_assert_eq!(nearest(&mut memory, &center, k, only)?, expected);

        let ball = Region::Ball { center, radius_squared: radius };
        let inside = of.iter().filter(|(p, _)| center.distance_squared(p) <= radius);
        prop_assert_eq!(within(&mut memory, &ball, only)?, inside.map(|(_, key)| *key).collect::<Vec<_>>());

        let (a, b) = (center.coordinates(), corner.coordinates());
        let min = Point::new(std::array::from_fn(|i| a[i].min(b[i]).into()))?;
        let max = Point::new(std::array::from_fn(|i| a[i].max(b[i]).into()))?;
        let inside = of.iter().filter(|(p, _)| {
            let (p, min, max) = (p.coordinates(), min.coordinates(), max.coordinates());
            (0..4).all(|i| min[i] <= p[i] && p[i] <= max[i])
        });
        let expected: Vec<Key> = inside.map(|(_, key)| *key).collect();
        prop_assert_eq!(within(&mut memory, &Region::Box { min, max }, only)?, expected);
    }
}

/// Among many atoms a search reads a few of them.
#[test]
fn a_search_reads_a_part() {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 36) as i64
    };
    let keys: Vec<Key> = (0..50_000)
        .map(|_| Point::new([next(), next(), next(), next()]).expect("in range"))
        .map(|point| Key::new(Modality::Text, point).expect("in range"))
        .collect();
    let mut memory = Memory::new(Partitions::FINEST, &keys);
    for _ in 0..20 {
        let center = Point::new([next(), next(), next(), next()]).expect("in range");
        let found = nearest(&mut memory, &center, 10, None).expect("in memory");
        assert_eq!(found.len(), 10);
    }
    assert!(
        memory.read < 20 * 10_000,
        "{} of 50 000 atoms a search",
        memory.read / 20
    );
}

/// Far from the data too: most rows of a ball around such a point are at its edge.
#[test]
fn a_search_far_from_the_data_reads_a_part() {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 36) as i64
    };
    // As text is: lengths are alike, the first letters and the hash are anything.
    let keys: Vec<Key> = (0..50_000)
        .map(|_| {
            let (x, y, z, m) = (next(), next(), next(), next());
            Point::new([(1 << 26) + x / 4, (1 << 27) + y / 16, (1 << 26) + z / 32, m])
                .expect("in range")
        })
        .map(|point| Key::new(Modality::Text, point).expect("in range"))
        .collect();
    for far in [
        [0, 0, 0, 0],
        [(1 << 28) - 1; 4],
        [0, 1 << 27, 1 << 26, 1 << 27],
        [(1 << 28) - 1, 0, 0, 0],
        [1 << 27, 1 << 27, 0, 1 << 27],
    ] {
        let mut memory = Memory::new(Partitions::FINEST, &keys);
        let center = Point::new(far).expect("in range");
        let found = nearest(&mut memory, &center, 10, None).expect("in memory");
        assert_eq!(found.len(), 10);
        println!("{far:?}: {} rows, {} looks", memory.read, memory.looks);
        assert!(
            memory.read < 5_000,
            "{far:?}: {} of 50 000 atoms",
            memory.read
        );
    }
}
