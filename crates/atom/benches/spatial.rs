//! Spatial search on one core: `cargo bench -p modelstore_atom --bench spatial`.
//!
//! Points are a million uniform ones. Covers are of the ball that holds ten of them, averaged over random centers; what
//! a cover costs a scan is printed before: ranges, and rows in them when there are a million.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use modelstore_atom::spatial::*;
use modelstore_atom::{AXIS_BITS, Partitions, Point};

const POINTS: usize = 1_000_000;
const CENTERS: usize = 1000;

/// Uniform points.
fn points(count: usize, seed: u64) -> Vec<Point> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> (64 - AXIS_BITS)) as u32
    };
    let mut point = || Point {
        x: next(),
        y: next(),
        z: next(),
        m: next(),
    };
    (0..count).map(|_| point()).collect()
}

/// The ball that holds so many of the points if it lies inside the space: its volume is half pi squared times the
/// fourth power of the radius.
fn ball(center: Point, rows: f64) -> Region {
    let side = (1u64 << AXIS_BITS) as f64;
    let share = rows / POINTS as f64;
    let radius_squared = ((2.0 * share).sqrt() / std::f64::consts::PI * side * side) as u64;
    Region::Ball {
        center,
        radius_squared,
    }
}

fn places(c: &mut Criterion) {
    let points = points(1 << 16, 1);
    let mut group = c.benchmark_group("place");
    group.throughput(Throughput::Elements(points.len() as u64));
    group.bench_function("each", |b| {
        b.iter(|| {
            for point in &points {
                black_box(place(black_box(point)));
            }
        });
    });
    group.bench_function("each after the last", |b| {
        b.iter(|| {
            let mut last = 0;
            for point in &points {
                // Always x, but not known before the last place is.
                last = place(&Point {
                    x: point.x + (last >> 63) as u32,
                    ..*point
                });
            }
            last
        });
    });
    group.finish();
}

/// The rows expected in these ranges when there are so many points.
fn rows(ranges: &[PlaceRange]) -> f64 {
    let places: i64 = ranges
        .iter()
        .map(|range| range.last - range.first + 1)
        .sum();
    places as f64 / (1u64 << (4 * PLACE_ORDER)) as f64 * POINTS as f64
}

fn covers(c: &mut Criterion) {
    let centers = points(CENTERS, 2);
    for held in [10.0, 100.0, 1000.0] {
        let mut group = c.benchmark_group(format!("cover/ball of {held} rows"));
        group.throughput(Throughput::Elements(CENTERS as u64));
        let met = centers.iter().map(|point| {
            let Region::Ball { radius_squared, .. } = ball(*point, held) else {
                return 0;
            };
            let is_met = |&n: &u32| {
                Partitions::FINEST.rectangle(n).distance_squared(point) <= radius_squared
            };
            (0..32).filter(is_met).count()
        });
        let met = met.sum::<usize>() as f64 / CENTERS as f64;
        println!("ball of {held} rows: meets {met:.2} partitions");
        for max_ranges in [1, 4, 16, 32, 50, 64, 128, 256] {
            let covers = centers
                .iter()
                .map(|&point| cover(&ball(point, held), max_ranges));
            let (mut count, mut scanned) = (0, 0.0);
            for ranges in covers {
                count += ranges.len();
                scanned += rows(&ranges);
            }
            println!(
                "ball of {held} rows, {max_ranges} ranges at most: {:.1} ranges, {:.0} rows scanned",
                count as f64 / CENTERS as f64,
                scanned / CENTERS as f64,
            );
            group.bench_function(format!("{max_ranges} ranges"), |b| {
                b.iter(|| {
                    for &point in &centers {
                        black_box(cover(&ball(point, held), max_ranges));
                    }
                });
            });
        }
    }
}

fn tree(c: &mut Criterion) {
    let rows: Vec<(Point, u32)> = points(POINTS, 3).into_iter().zip(0..).collect();
    let centers = points(CENTERS, 2);
    let mut group = c.benchmark_group("tree");
    group.bench_function("build", |b| {
        b.iter_batched(|| rows.clone(), PackedTree::build, BatchSize::PerIteration);
    });
    let tree = PackedTree::build(rows);
    group.throughput(Throughput::Elements(CENTERS as u64));
    let mut out = Vec::new();
    for k in [1, 10, 100] {
        group.bench_function(format!("nearest {k}"), |b| {
            b.iter(|| {
                for point in &centers {
                    tree.nearest(black_box(point), k, &mut out);
                    black_box(&out);
                }
            });
        });
    }
    group.finish();
}

fn configured() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = configured();
    targets = places, covers, tree
}
criterion_main!(benches);
