//! Spatial search against looking at every point and every cell.

#![allow(clippy::unwrap_used)]

use modelstore_atom::hilbert::hilbert_encode;
use modelstore_atom::key::{range, range_bounds};
use modelstore_atom::spatial::*;
use modelstore_atom::{AXIS_BITS, Key, Modality, Partitions, Point};
use proptest::prelude::*;

const LAST: u32 = (1 << AXIS_BITS) - 1;
const CELL_BITS: u32 = AXIS_BITS - PLACE_ORDER;
const LIMITS: [usize; 7] = [0, 1, 2, 16, 64, 1000, usize::MAX];
const EVERYWHERE: (u32, u32) = (0, u32::MAX);

fn point([x, y, z, m]: [u32; 4]) -> Point {
    Point { x, y, z, m }
}

fn axes(max: u32) -> impl Strategy<Value = [u32; 4]> {
    proptest::array::uniform4(0..=max)
}

/// Coordinates of which many are the smallest or largest there are.
fn edgy() -> impl Strategy<Value = [u32; 4]> {
    proptest::array::uniform4(prop_oneof![
        0..=LAST,
        Just(0),
        Just(LAST),
        LAST - 3..=LAST,
        0u32..4
    ])
}

/// Regions of all sizes.
fn regions() -> impl Strategy<Value = Region> {
    let sizes = proptest::array::uniform4(0..=AXIS_BITS);
    prop_oneof![
        (edgy(), axes(LAST), sizes).prop_map(|(min, more, bits)| {
            let max = |a: usize| {
                min[a]
                    .saturating_add(more[a] >> (AXIS_BITS - bits[a]))
                    .min(LAST)
            };
            Region::Box {
                min: point(min),
                max: point([max(0), max(1), max(2), max(3)]),
            }
        }),
        (edgy(), any::<u64>(), 5..=64u32).prop_map(|(center, radius, shift)| Region::Ball {
            center: point(center),
            radius_squared: radius.checked_shr(shift).unwrap_or(0),
        }),
    ]
}

fn holds(region: &Region, p: &Point) -> bool {
    match region {
        Region::Box { min, max } => {
            let (min, max, p) = (min.coordinates(), max.coordinates(), p.coordinates());
            (0..4).all(|a| min[a] <= p[a] && p[a] <= max[a])
        }
        Region::Ball {
            center,
            radius_squared,
        } => center.distance_squared(p) <= *radius_squared,
    }
}

/// The smallest coordinates around a region and the largest.
fn bounds(region: &Region) -> ([u32; 4], [u32; 4]) {
    match region {
        Region::Box { min, max } => (min.coordinates(), max.coordinates()),
        Region::Ball {
            center,
            radius_squared,
        } => {
            let radius = radius_squared.isqrt().min(LAST.into()) as u32;
            let c = center.coordinates();
            (
                c.map(|c| c.saturating_sub(radius)),
                c.map(|c| (c + radius).min(LAST)),
            )
        }
    }
}

fn is_covered(ranges: &[PlaceRange], p: &Point) -> bool {
    let place = place(p);
    ranges
        .iter()
        .any(|range| range.first <= place && place <= range.last)
}

fn check_form(ranges: &[PlaceRange], limit: usize) {
    assert!(ranges.len() <= limit.max(1));
    let mut before = -2;
    for range in ranges {
        assert!(before + 1 < range.first && range.first <= range.last);
        before = range.last;
    }
    assert!(before < 1 << (4 * PLACE_ORDER));
}

/// The share of all places.
fn share(ranges: &[PlaceRange]) -> f64 {
    let places: i64 = ranges
        .iter()
        .map(|range| range.last - range.first + 1)
        .sum();
    places as f64 / (1u64 << (4 * PLACE_ORDER)) as f64
}

/// Whether a point of the region, with x and y in these ranges, lies in the cell with these coordinates.
fn meets(region: &Region, limits: [(u32, u32); 4], cell: [u32; 4]) -> bool {
    let low = |a: usize| (cell[a] << CELL_BITS).max(limits[a].0);
    let high = |a: usize| ((cell[a] << CELL_BITS) + (1 << CELL_BITS) - 1).min(limits[a].1);
    if (0..4).any(|a| low(a) > high(a)) {
        return false;
    }
    let aim = match region {
        Region::Box { min, .. } => min.coordinates(),
        Region::Ball { center, .. } => center.coordinates(),
    };
    let nearest = |a: usize| aim[a].clamp(low(a), high(a));
    holds(
        region,
        &point([nearest(0), nearest(1), nearest(2), nearest(3)]),
    )
}

/// The places of all cells with a point of a small region.
fn places_of(region: &Region, x: (u32, u32), y: (u32, u32)) -> Vec<i64> {
    let (min, max) = bounds(region);
    let cells = |a: usize| min[a] >> CELL_BITS..=max[a] >> CELL_BITS;
    let mut places = Vec::new();
    for x_cell in cells(0) {
        for y_cell in cells(1) {
            for z_cell in cells(2) {
                for m_cell in cells(3) {
                    let cell = [x_cell, y_cell, z_cell, m_cell];
                    if meets(region, [x, y, EVERYWHERE, EVERYWHERE], cell) {
                        places.push(place(&point(cell.map(|c| c << CELL_BITS))));
                    }
                }
            }
        }
    }
    places.sort_unstable();
    places
}

/// A partition of any number of partitions.
fn partitions() -> impl Strategy<Value = (Partitions, u32)> {
    (proptest::sample::select(Partitions::CHOICES), 0u32..256).prop_map(|(count, number)| {
        let partitions = Partitions::new(count).unwrap();
        (partitions, number % partitions.count())
    })
}

proptest! {
    #[test]
    fn no_point_of_a_region_is_missed(
        region in regions(),
        shares in proptest::collection::vec(axes(1 << 16), 40),
        (partitions, number) in partitions(),
    ) {
        let (min, max) = bounds(&region);
        let area = partitions.rectangle(number);
        for limit in LIMITS.into_iter().take(6) {
            let ranges = cover(&region, limit);
            let within = cover_within(&region, area.x.clone(), area.y.clone(), limit);
            check_form(&ranges, limit);
            check_form(&within, limit);
            for share in &shares {
                let at = |a: usize| min[a] + ((u64::from(max[a] - min[a]) * u64::from(share[a])) >> 16) as u32;
                let p = point([at(0), at(1), at(2), at(3)]);
                // Of the corners of a ball's box, on the ball's axes.
                let center = match region {
                    Region::Ball { center, .. } => Point { x: p.x, ..center },
                    _ => p,
                };
                for p in [p, center] {
                    if holds(&region, &p) {
                        prop_assert!(is_covered(&ranges, &p));
                        if area.x.contains(&p.x) && area.y.contains(&p.y) {
                            prop_assert!(is_covered(&within, &p));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_small_region_is_covered_exactly(
        corner in edgy(),
        sides in axes(3 << CELL_BITS),
        radius in 0u64..2 << CELL_BITS,
        x in (0u32..2 << CELL_BITS, 0u32..2 << CELL_BITS),
    ) {
        let max = |a: usize| (corner[a] + sides[a]).min(LAST);
        let regions = [
            Region::Box { min: point(corner), max: point([max(0), max(1), max(2), max(3)]) },
            Region::Ball { center: point(corner), radius_squared: radius * radius },
        ];
        let x = (corner[0].saturating_sub(x.0), corner[0] + x.1);
        let y = (corner[1], LAST);
        for region in regions {
            for ((x, y), ranges) in [
                ((EVERYWHERE, EVERYWHERE), cover(&region, 10_000)),
                ((x, y), cover_within(&region, x.0..=x.1, y.0..=y.1, 10_000)),
            ] {
                check_form(&ranges, 10_000);
                let covered: Vec<i64> = ranges.iter().flat_map(|r| r.first..=r.last).collect();
                prop_assert_eq!(covered, places_of(&region, x, y));
            }
        }
    }

    #[test]
    fn a_partition_is_where_its_keys_are(p in edgy(), other in edgy(), number in 0i64..8) {
        let (p, other) = (point(p), point(other));
        let key = Key::new(Modality::from_number(number).unwrap(), p).unwrap();
        let own = range(key.h_xy).unwrap();
        let distance = |n: u32, p: &Point| Partitions::FINEST.rectangle(n).distance_squared(p);
        prop_assert_eq!(distance(own, &p), 0);
        let holders = (0..32).filter(|&n| distance(n, &p) == 0);
        prop_assert_eq!(holders.collect::<Vec<_>>(), vec![own % 32]);
        // The nearest point of the rectangle is in the partition, and as far as said.
        let area = Partitions::FINEST.rectangle(own);
        let nearest = Point {
            x: other.x.clamp(*area.x.start(), *area.x.end()),
            y: other.y.clamp(*area.y.start(), *area.y.end()),
            ..other
        };
        let code = hilbert_encode(nearest.x, nearest.y, AXIS_BITS as i32).unwrap() as i64;
        let (first, end) = range_bounds(own % 32);
        prop_assert!(first <= code && code < end);
        prop_assert_eq!(distance(own, &other), nearest.distance_squared(&other));
        prop_assert!(distance(own, &other) <= p.distance_squared(&other));
    }

    #[test]
    fn the_nearest_are_found(
        points in proptest::collection::vec(edgy(), 0..700),
        query in edgy(),
        k in 0usize..40,
        shift in prop_oneof![Just(0), 20u32..28],
    ) {
        // Shifted, there are few places, and so many ties.
        let small = |c: [u32; 4]| point(c.map(|c| c >> shift));
        let points: Vec<_> = points.into_iter().map(small).zip((0..7).cycle()).collect();
        check_nearest(&points, &[small(query)], &[k]);
    }
}

/// Compares a tree with looking at every point.
fn check_nearest(points: &[(Point, u32)], queries: &[Point], ks: &[usize]) {
    let tree = PackedTree::build(points.to_vec());
    assert_eq!(
        (tree.len(), tree.is_empty()),
        (points.len(), points.is_empty())
    );
    // What a buffer held before makes no difference.
    let mut out = vec![];
    for query in queries {
        let mut all: Vec<_> = points
            .iter()
            .map(|(p, payload)| (query.distance_squared(p), p.coordinates(), *payload))
            .collect();
        all.sort_unstable();
        for &k in ks {
            tree.nearest(query, k, &mut out);
            let found = out
                .iter()
                .map(|n| (n.distance_squared, n.point.coordinates(), n.payload));
            assert_eq!(found.collect::<Vec<_>>(), all[..k.min(all.len())]);
        }
    }
}

/// Numbers of 28 bits.
fn numbers(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> (64 - AXIS_BITS)) as u32
    }
}

#[test]
fn the_nearest_are_found_in_points_of_all_kinds() {
    let mut next = numbers(1);
    let mut any = || [next(), next(), next(), next()];
    let corner = |n: u32| [0, 1, 2, 3].map(|a| if n >> a & 1 == 1 { LAST } else { 0 });
    let kinds: [Vec<[u32; 4]>; 7] = [
        (0..2000).map(|_| any()).collect(),
        // Around twenty places; all in one cell of the curve; all equal; on a line; on a grid of ties; corners.
        (0..2000)
            .map(|n| any().map(|c| (c >> 18) + (n % 20) * 12_345_678))
            .collect(),
        (0..2000).map(|_| any().map(|c| c >> 16)).collect(),
        vec![any(); 1000],
        (0..2000).map(|n| [n * 130_000, 7, 7, LAST]).collect(),
        (0..2000).map(|_| any().map(|c| c >> 26 << 26)).collect(),
        (0..300).map(corner).collect(),
    ];
    for kind in kinds {
        let mut queries: Vec<Point> = kind.iter().step_by(200).copied().map(point).collect();
        queries.extend((0..16).map(corner).map(point));
        queries.extend((0..5).map(|_| point(any())));
        for len in [1, 15, 16, 17, 256, 257, kind.len()] {
            let len = len.min(kind.len());
            let points = kind[..len]
                .iter()
                .copied()
                .map(point)
                .zip((0..1000).rev().cycle());
            check_nearest(&points.collect::<Vec<_>>(), &queries, &[1, 10, 0, 100]);
        }
        let points: Vec<_> = kind.into_iter().map(point).zip(0..).collect();
        check_nearest(
            &points,
            &queries[..2],
            &[points.len() - 1, points.len() + 1, usize::MAX],
        );
    }
    check_nearest(&[], &[point([0; 4])], &[0, 1, usize::MAX]);
}

#[test]
fn the_largest_distance_is_exact() {
    let far = u64::from(LAST).pow(2) * 4;
    let points = [(point([LAST; 4]), 1)];
    check_nearest(&points, &[point([0; 4])], &[1]);
    let mut out = vec![];
    PackedTree::build(points.to_vec()).nearest(&point([0; 4]), 1, &mut out);
    assert_eq!(out[0].distance_squared, far);
    // A ball that holds all but the opposite corner, and one that holds this too.
    for (radius_squared, holds_all) in [(far - 1, false), (far, true), (u64::MAX, true)] {
        let ball = Region::Ball {
            center: point([0; 4]),
            radius_squared,
        };
        let ranges = cover(&ball, 1000);
        assert!(is_covered(&ranges, &points[0].0) || !holds_all);
        let all = PlaceRange {
            first: 0,
            last: (1 << (4 * PLACE_ORDER)) - 1,
        };
        assert!(!holds_all || ranges == [all]);
    }
}

#[test]
fn extremes_of_covers() {
    let mut next = numbers(2);
    for _ in 0..200 {
        let p = point([next(), next(), next(), next()]);
        for region in [
            Region::Ball {
                center: p,
                radius_squared: 0,
            },
            Region::Box { min: p, max: p },
        ] {
            for limit in LIMITS {
                let one = PlaceRange {
                    first: place(&p),
                    last: place(&p),
                };
                assert_eq!(cover(&region, limit), [one]);
            }
            assert_eq!(cover_within(&region, p.x + 1..=u32::MAX, 0..=LAST, 9), []);
        }
        let turned = Region::Box {
            min: p,
            max: Point { z: p.z - 1, ..p },
        };
        assert_eq!(cover(&turned, 9), []);
    }
    let all = Region::Box {
        min: point([0; 4]),
        max: point([LAST; 4]),
    };
    let whole = cover(&all, 5);
    assert_eq!((whole.len(), share(&whole)), (1, 1.0));
    // Of a partition, all its places: 1/32 of them.
    let area = Partitions::FINEST.rectangle(11);
    assert_eq!(
        share(&cover_within(&all, area.x, area.y, 100_000)),
        1.0 / 32.0
    );
}

#[test]
fn a_cover_has_little_else_in_it() {
    // A ball of a hundred-thousandth of the space, away from its faces.
    let volume = 1e-5f64;
    let radius = (2.0 * volume).sqrt() / std::f64::consts::PI * (1u64 << (2 * AXIS_BITS)) as f64;
    let mut next = numbers(3);
    for (limit, most) in [(16, 15.0), (64, 5.0), (1024, 2.5)] {
        let mut sum = 0.0;
        for _ in 0..100 {
            let center = [next(), next(), next(), next()].map(|c| c / 2 + (1 << 26));
            let region = Region::Ball {
                center: point(center),
                radius_squared: radius as u64,
            };
            sum += share(&cover(&region, limit)) / volume;
        }
        let times = sum / 100.0;
        assert!(1.0 <= times && times < most, "{limit} ranges: {times}");
    }
}
