//! Hilbert codes on one core: `cargo bench -p modelstore_atom --bench hilbert`. A throughput of 20 Melem/s is 50 ns a
//! code. Single cells are random ones, one call each; arrays are of 65,536 cells. Ranges are times a box.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modelstore_atom::hilbert::*;

const COUNT: usize = 1 << 16;

/// Random numbers of so many bits.
fn numbers(bits: i32, seed: u64) -> Vec<i64> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> (64 - bits)) as i64
    };
    (0..COUNT).map(|_| next()).collect()
}

fn plane(c: &mut Criterion) {
    for order in [8, 16, 31] {
        let mut group = c.benchmark_group(format!("plane/order {order}"));
        group.throughput(Throughput::Elements(COUNT as u64));
        let (xs, ys) = (numbers(order, 1), numbers(order, 2));
        let codes = numbers(2 * order, 3);
        group.bench_function("encode", |b| {
            b.iter(|| {
                for (&x, &y) in xs.iter().zip(&ys) {
                    black_box(
                        hilbert_encode(black_box(x), black_box(y), black_box(order)).unwrap(),
                    );
                }
            });
        });
        group.bench_function("encode, each cell after the last", |b| {
            b.iter(|| {
                let mut last = 0;
                for (&x, &y) in xs.iter().zip(&ys) {
                    // Always x, but not known before the last code is.
                    last = hilbert_encode(x + (last >> 63) as i64, y, black_box(order)).unwrap();
                }
                last
            });
        });
        group.bench_function("decode", |b| {
            b.iter(|| {
                for &code in &codes {
                    black_box(hilbert_decode(black_box(code), black_box(order)).unwrap());
                }
            });
        });
        group.bench_function("encode array", |b| {
            let mut out = Vec::new();
            b.iter(|| {
                out.clear();
                hilbert_encode_many(black_box(&xs), &ys, order, &mut out).unwrap();
            });
        });
        group.bench_function("decode array", |b| {
            let mut out = (Vec::new(), Vec::new());
            b.iter(|| {
                out.0.clear();
                out.1.clear();
                hilbert_decode_many(black_box(&codes), order, &mut out.0, &mut out.1).unwrap();
            });
        });
        let side = 1usize << order;
        group.bench_function("encode, package hilbert_curve", |b| {
            b.iter(|| {
                for (&x, &y) in xs.iter().zip(&ys) {
                    let (x, y) = (black_box(x as usize), black_box(y as usize));
                    black_box(hilbert_curve::convert_2d_to_1d(x, y, black_box(side)));
                }
            });
        });
        group.bench_function("decode, package hilbert_curve", |b| {
            b.iter(|| {
                for &code in &codes {
                    let code = black_box(code as usize);
                    black_box(hilbert_curve::convert_1d_to_2d(code, black_box(side)));
                }
            });
        });
        group.finish();
    }
}

fn axes(c: &mut Criterion) {
    for (axes, order) in [(2, 31), (3, 16), (3, 21), (4, 15), (8, 7)] {
        let mut group = c.benchmark_group(format!("{axes} axes/order {order}"));
        group.throughput(Throughput::Elements((COUNT / axes) as u64));
        let coordinates = numbers(order, 1);
        group.bench_function("encode", |b| {
            b.iter(|| {
                for point in coordinates.chunks_exact(axes) {
                    black_box(hilbert_encode_nd(black_box(point), order).unwrap());
                }
            });
        });
        let codes = numbers(axes as i32 * order, 2);
        group.bench_function("decode", |b| {
            b.iter(|| {
                for &code in &codes[..COUNT / axes] {
                    black_box(hilbert_decode_nd(black_box(code), axes, order).unwrap());
                }
            });
        });
        group.finish();
    }
}

fn ranges(c: &mut Criterion) {
    let mut group = c.benchmark_group("ranges, order 31");
    let side = 1i64 << 31;
    let square = |side: i64| CellBox {
        min: [1_234_567_890, 987_654_321],
        max: [1_234_567_889 + side, 987_654_320 + side],
    };
    let row = CellBox {
        min: [0, 1 << 30],
        max: [side - 1, 1 << 30],
    };
    let all_but_a_row = CellBox {
        min: [0, 0],
        max: [side - 1, side - 2],
    };
    for (name, cells, most) in [
        ("100 × 100, all", square(100), None),
        ("1e4 × 1e4, all", square(10_000), None),
        ("1e8 × 1e8, at most 100", square(100_000_000), Some(100)),
        ("one row, at most 100", row, Some(100)),
        ("all but a row, at most 100", all_but_a_row, Some(100)),
        ("one row, at most 1e6", row, Some(MAX_RANGES)),
        (
            "all but a row, at most 1e6",
            all_but_a_row,
            Some(MAX_RANGES),
        ),
        ("one row, all: too many", row, None),
        ("all but a row, all: too many", all_but_a_row, None),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| hilbert_ranges(black_box(cells), 31, most).map(|ranges| ranges.len()));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = plane, axes, ranges
}
criterion_main!(benches);
