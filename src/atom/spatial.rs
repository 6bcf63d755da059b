//! Searches of the table of atoms by place.
//!
//! The index over places is a B-tree: along the four-dimensional curve, what is near is mostly near in the index, and a
//! region is a few ranges of it. The table is partitioned by ranges of the two-dimensional curve through x and y, each
//! a rectangle: a search visits the nearest first and leaves out those that lie beyond what it has. Statements name the
//! range of their partition, so that the planner sees only that one.

use crate::error::Result;
use crate::store::Store;
use modelstore_atom::key::{RANGES_PER_MODALITY, partition_bounds};
use modelstore_atom::spatial::{
    Region, cover_within, partition_distance_squared, partition_rectangle, place,
};
use modelstore_atom::{Key, Modality, Point};

/// Ranges of places with which a ball is covered: with fewer, more rows are read that lie outside; with more, ranges
/// are looked up in which there are none.
const BALL_RANGES: usize = 16;
/// Ranges for a region of any size.
const REGION_RANGES: usize = 512;

/// An atom that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Square of its distance to what was asked for.
    pub distance_squared: u64,
    /// Where it is: among equal distances, smaller coordinates come first.
    pub point: Point,
    /// Its key: at the same place, that of the lower modality comes first.
    pub key: Key,
}

/// The partitions of a modality, or all.
pub fn partitions(modality: Option<Modality>) -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(move |number| {
        modality.is_none_or(|m| u32::from(*number) / RANGES_PER_MODALITY == m as u32)
    })
}

/// The `k` atoms nearest to a point, nearest first.
pub fn nearest(
    store: &Store,
    point: &Point,
    k: usize,
    modality: Option<Modality>,
) -> Result<Vec<Neighbour>> {
    let mut best = Best::new(k);
    if k == 0 {
        return Ok(best.found);
    }
    let mut near: Vec<(u64, u8)> = partitions(modality)
        .map(|number| (partition_distance_squared(number, point), number))
        .collect();
    near.sort_unstable();
    for (distance, partition) in near {
        if distance > best.reach() {
            break;
        }
        if best.found.len() < k {
            // Along the curve to both sides: not the nearest, but no nearest is further away than the k-th of these.
            beside(store, partition, point, k, &mut best)?;
            if best.found.len() < k {
                continue;
            }
        }
        let ball = Region::Ball {
            center: *point,
            radius_squared: best.reach(),
        };
        in_region(store, partition, &ball, BALL_RANGES, |key, other| {
            best.add(Neighbour {
                distance_squared: point.distance_squared(&other),
                point: other,
                key,
            });
        })?;
        pgrx::check_for_interrupts!();
    }
    best.found.sort_unstable();
    Ok(best.found)
}

/// The atoms inside a region, in the order of their keys.
pub fn within(store: &Store, region: &Region, modality: Option<Modality>) -> Result<Vec<Key>> {
    let mut found = Vec::new();
    for partition in partitions(modality) {
        in_region(store, partition, region, REGION_RANGES, |key, point| {
            if contains(region, &point) {
                found.push(key);
            }
        })?;
        pgrx::check_for_interrupts!();
    }
    found.sort_unstable();
    Ok(found)
}

/// Up to `k` atoms of a partition on each side of a point's place on the curve. If there are fewer, that is all of them.
fn beside(store: &Store, partition: u8, point: &Point, k: usize, best: &mut Best) -> Result<()> {
    let limit = i64::try_from(k).unwrap_or(i64::MAX);
    let sql = in_partition(
        "(SELECT h_xy, h_yz, h_zm FROM @store@.atoms
          WHERE h_xy >= @first@ AND h_xy < @end@ AND modelstore.atom_place(h_xy, h_yz, h_zm) >= $1
          ORDER BY modelstore.atom_place(h_xy, h_yz, h_zm) LIMIT $2)
         UNION ALL
         (SELECT h_xy, h_yz, h_zm FROM @store@.atoms
          WHERE h_xy >= @first@ AND h_xy < @end@ AND modelstore.atom_place(h_xy, h_yz, h_zm) < $1
          ORDER BY modelstore.atom_place(h_xy, h_yz, h_zm) DESC LIMIT $2)",
        partition,
    );
    store.query(&sql, &[place(point).into(), limit.into()], |row| {
        let key = Key {
            h_xy: row.get(1)?,
            h_yz: row.get(2)?,
            h_zm: row.get(3)?,
        };
        let (_, other) = key.parts()?;
        best.add(Neighbour {
            distance_squared: point.distance_squared(&other),
            point: other,
            key,
        });
        Ok(())
    })
}

/// The atoms of a partition whose places are in the ranges that cover a region; some lie outside of it.
fn in_region(
    store: &Store,
    partition: u8,
    region: &Region,
    max_ranges: usize,
    mut take: impl FnMut(Key, Point),
) -> Result<()> {
    let area = partition_rectangle(partition);
    let ranges = cover_within(region, area.x, area.y, max_ranges);
    if ranges.is_empty() {
        return Ok(());
    }
    let sql = in_partition(
        "SELECT a.h_xy, a.h_yz, a.h_zm FROM unnest($1, $2) AS r(first, last)
         CROSS JOIN LATERAL (
             SELECT a.h_xy, a.h_yz, a.h_zm FROM @store@.atoms a
             WHERE a.h_xy >= @first@ AND a.h_xy < @end@
               AND modelstore.atom_place(a.h_xy, a.h_yz, a.h_zm) BETWEEN r.first AND r.last OFFSET 0) a",
        partition,
    );
    let first: Vec<i64> = ranges.iter().map(|range| range.first).collect();
    let last: Vec<i64> = ranges.iter().map(|range| range.last).collect();
    store.query(&sql, &[first.into(), last.into()], |row| {
        let key = Key {
            h_xy: row.get(1)?,
            h_yz: row.get(2)?,
            h_zm: row.get(3)?,
        };
        let (_, point) = key.parts()?;
        take(key, point);
        Ok(())
    })
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

/// A statement in which `@first@` and `@end@` stand for the codes of a partition.
fn in_partition(template: &str, partition: u8) -> String {
    let (first, end) = partition_bounds(partition);
    template
        .replace("@first@", &first.to_string())
        .replace("@end@", &end.to_string())
}

/// The best so far, each key once.
struct Best {
    k: usize,
    found: Vec<Neighbour>,
}

impl Best {
    fn new(k: usize) -> Best {
        Best {
            k,
            found: Vec::new(),
        }
    }

    /// Beyond this distance nothing can be among the best.
    fn reach(&self) -> u64 {
        match self.found.len() {
            len if len < self.k => u64::MAX,
            len => self.found[len - 1].distance_squared,
        }
    }

    fn add(&mut self, neighbour: Neighbour) {
        if let Err(at) = self.found.binary_search(&neighbour)
            && at < self.k
        {
            self.found.truncate(self.k - 1);
            self.found.insert(at, neighbour);
        }
    }
}
