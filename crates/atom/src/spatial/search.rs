//! Searches stored atoms by place.
//!
//! The index on places is a B-tree: points close in space are mostly close on the four-dimensional curve and so in the
//! index, and a region is a few ranges of it. The table is partitioned by ranges of the two-dimensional curve through x
//! and y, each a rectangle: a search visits the nearest partition first and skips those beyond its result.

use std::collections::BTreeSet;

use crate::spatial::{PlaceRange, Region, cover_within, nearest_first, place};
use crate::{Error, Key, Modality, Partitions, Point};

/// Ranges of places that cover a ball: with fewer, more rows outside are read; with more, more ranges are empty.
const BALL_RANGES: usize = 12;
/// How many times as many atoms as requested are read on each side of a place for an initial distance: more make it
/// shorter, and so the ball that is searched then smaller.
const BESIDE: usize = 2;
/// Atoms in these ranges from which on the point is far from the data: around others there are some hundred.
const MANY: usize = 1024;
/// Ranges for a region of any size.
const REGION_RANGES: usize = 512;

/// The port: atoms by partition and place. Every partition keeps its atoms in the order of their [`place`].
pub trait Places {
    /// Errors of the store.
    type Error: From<Error>;

    /// Returns how the atoms are partitioned.
    fn partitions(&self) -> Partitions;

    /// Calls `each` with up to `count` atoms of a partition on each side of a place, or all if there are fewer.
    fn beside(
        &mut self,
        partition: u32,
        place: i64,
        count: usize,
        each: &mut dyn FnMut(Key) -> Result<(), Self::Error>,
    ) -> Result<(), Self::Error>;

    /// Calls `each` with the atoms of a partition whose places are in some ranges, or with `limit` of them if there are
    /// that many. Returns whether there were fewer.
    fn in_ranges(
        &mut self,
        partition: u32,
        ranges: &[PlaceRange],
        limit: usize,
        each: &mut dyn FnMut(Key) -> Result<(), Self::Error>,
    ) -> Result<bool, Self::Error>;

    /// Returns an error if the search should stop. Called after each partition.
    fn check(&self) -> Result<(), Self::Error>;
}

/// An atom found, ordered as in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearAtom {
    /// Square of its distance to the query.
    pub distance_squared: u64,
    /// Its point: among equal distances, smaller coordinates come first.
    pub point: Point,
    /// Its key: at the same point, that of the lower modality comes first.
    pub key: Key,
}

/// Returns the `k` atoms nearest to a point, nearest first. Memory: O(k).
pub fn nearest<P: Places>(
    places: &mut P,
    point: &Point,
    k: usize,
    modality: Option<Modality>,
) -> Result<Vec<NearAtom>, P::Error> {
    if k == 0 {
        return Ok(Vec::new());
    }
    let partitions = places.partitions();
    let distance = |number| partitions.rectangle(number).distance_squared(point);
    let mut near: Vec<(u64, u32)> = partitions
        .of(modality)
        .map(|number| (distance(number), number))
        .collect();
    near.sort_unstable();
    let mut best = Best::new(*point, k);
    let mut is_far = false;
    for (distance, partition) in near {
        if distance > best.reach {
            break;
        }
        if best.found.len() < k {
            // Along the curve to both sides: these need not be the nearest, but none of the nearest is further than the
            // k-th of them.
            let count = k.saturating_mul(BESIDE);
            places.beside(
                partition,
                place(point),
                count,
                &mut |key| Ok(best.add(key)?),
            )?;
            if best.found.len() < k {
                continue;
            }
        }
        let area = partitions.rectangle(partition);
        if is_far {
            nearest_first::search(places, partition, &area, &mut best)?;
            continue;
        }
        let ball = Region::Ball {
            center: *point,
            radius_squared: best.reach,
        };
        let ranges = cover_within(&ball, area.x.clone(), area.y.clone(), BALL_RANGES);
        let limit = MANY.max(k.saturating_mul(8));
        is_far = !places.in_ranges(partition, &ranges, limit, &mut |key| Ok(best.add(key)?))?;
        if is_far {
            nearest_first::search(places, partition, &area, &mut best)?;
        }
        places.check()?;
    }
    Ok(best.found.into_iter().collect())
}

/// Returns the atoms inside a region, in the order of their keys. Memory: all atoms found.
pub fn within<P: Places>(
    places: &mut P,
    region: &Region,
    modality: Option<Modality>,
) -> Result<Vec<Key>, P::Error> {
    let mut found = Vec::new();
    let partitions = places.partitions();
    for partition in partitions.of(modality) {
        let area = partitions.rectangle(partition);
        let ranges = cover_within(region, area.x, area.y, REGION_RANGES);
        places.in_ranges(partition, &ranges, usize::MAX, &mut |key| {
            if contains(region, &key.parts()?.1) {
                found.push(key);
            }
            Ok(())
        })?;
        places.check()?;
    }
    found.sort_unstable();
    Ok(found)
}

fn contains(region: &Region, point: &Point) -> bool {
    match region {
        Region::Ball {
            center,
            radius_squared,
        } => center.distance_squared(point) <= *radius_squared,
        Region::Box { min, max } => {
            let (point, max) = (point.coordinates(), max.coordinates());
            let inside = min.coordinates().into_iter().zip(point).zip(max);
            inside.fold(true, |inside, ((min, c), max)| {
                inside && min <= c && c <= max
            })
        }
    }
}

/// The nearest so far, each key once.
pub(super) struct Best {
    pub(super) point: Point,
    pub(super) k: usize,
    found: BTreeSet<NearAtom>,
    /// Beyond this distance, nothing can be one of them.
    pub(super) reach: u64,
}

impl Best {
    fn new(point: Point, k: usize) -> Best {
        Best {
            point,
            k,
            found: BTreeSet::new(),
            reach: u64::MAX,
        }
    }

    pub(super) fn add(&mut self, key: Key) -> Result<(), Error> {
        let (_, point) = key.parts()?;
        let distance_squared = self.point.distance_squared(&point);
        if distance_squared > self.reach {
            return Ok(());
        }
        self.found.insert(NearAtom {
            distance_squared,
            point,
            key,
        });
        if self.found.len() > self.k {
            self.found.pop_last();
        }
        if self.found.len() == self.k {
            self.reach = self.found.last().map_or(u64::MAX, |n| n.distance_squared);
        }
        Ok(())
    }
}
