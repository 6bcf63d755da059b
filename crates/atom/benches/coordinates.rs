//! Coordinates on one core: `cargo bench -p modelstore_atom --bench coordinates`. Large is 4 MiB in one call; small is
//! new, update and finish of a leaf of 40 bytes.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modelstore_atom::Modality;
use modelstore_atom::coordinates::{Coordinates, coordinates};

const LARGE: usize = 4 << 20;
const LEAF: &[u8; 40] = b"The quick brown fox jumps over the dog. ";

/// Random bytes of a modality: numbers around 0 for tensors, words with some Russian for what is written.
fn content(modality: Modality) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 32) as u32
    };
    match modality {
        Modality::Text | Modality::Code | Modality::Structured => {
            let words = "The quick (brown) fox; jumps = over[12] лисица 3.14 ".as_bytes();
            words.iter().copied().cycle().take(LARGE).collect()
        }
        Modality::Tensor => (0..LARGE / 4)
            .flat_map(|_| (next() as f32 / 4e10 - 0.05).to_le_bytes())
            .collect(),
        _ => (0..LARGE).map(|_| next() as u8).collect(),
    }
}

fn large(c: &mut Criterion) {
    let mut group = c.benchmark_group("large");
    group.throughput(Throughput::Bytes(LARGE as u64));
    for modality in Modality::ALL {
        let content = content(modality);
        group.bench_function(modality.name(), |b| {
            b.iter(|| coordinates(modality, black_box(&content)));
        });
    }
    group.finish();
}

fn small(c: &mut Criterion) {
    let mut group = c.benchmark_group("40 bytes");
    for modality in Modality::ALL {
        group.bench_function(modality.name(), |b| {
            b.iter(|| coordinates(black_box(modality), black_box(LEAF)));
        });
    }
    let coordinates = Coordinates::new(Modality::Tensor);
    group.bench_function("clone", |b| b.iter(|| black_box(&coordinates).clone()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = large, small
}
criterion_main!(benches);
