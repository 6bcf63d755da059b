//! Sources split on one core: `cargo bench -p modelstore_atom --bench cut`. `cut` finds the leaves; `tree` also
//! hashes them and everything above, without features. Each source has 16 MiB.

#![allow(clippy::unwrap_used, missing_docs)]

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modelstore_atom::Modality;
use modelstore_atom::cut::{Cutter, HEAD_BYTES, LOOKAHEAD};
use modelstore_atom::tree::{Features, Node, TreeBuilder};

const LEN: usize = 16 << 20;

#[derive(Clone)]
struct Nothing;

impl Features for Nothing {
    type Output = ();
    fn update(&mut self, _: &[u8]) {}
    fn finish(self) {}
}

fn numbers() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(1u64), |state| {
        Some(
            state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407),
        )
    })
    .map(|state| state >> 32)
}

/// Words of 2 to 9 letters; a line end after one in so many, and a paragraph after every eighth line.
fn text(words_of_a_line: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity(LEN + 16);
    for number in numbers() {
        if text.len() >= LEN {
            break;
        }
        text.extend(
            numbers()
                .skip(number as usize % 512)
                .take(2 + number as usize / 512 % 8)
                .map(|n| b'a' + (n % 26) as u8),
        );
        text.extend(match number >> 12 {
            n if !n.is_multiple_of(words_of_a_line) => &b" "[..],
            n if (n / words_of_a_line).is_multiple_of(8) => b"\n\n",
            _ => b"\n",
        });
    }
    text.truncate(LEN);
    text
}

fn leaves(modality: Modality, source: &[u8], mut each: impl FnMut(&[u8], bool)) {
    let mut cutter = Cutter::new(modality, &source[..HEAD_BYTES], source.len() as u64);
    let mut rest = source;
    while !rest.is_empty() {
        let leaf = cutter.next(&rest[..rest.len().min(LOOKAHEAD)]);
        each(&rest[..leaf.len], leaf.ends_group);
        rest = &rest[leaf.len..];
    }
}

fn sources(c: &mut Criterion) {
    let noise = numbers().map(|n| (n >> 8) as u8).take(LEN).collect();
    for (name, modality, source) in [
        ("short lines", Modality::Text, text(7)),
        ("long lines", Modality::Text, text(80)),
        ("bytes", Modality::Other, noise),
    ] {
        let mut group = c.benchmark_group(name);
        group
            .throughput(Throughput::Bytes(LEN as u64))
            .sample_size(10);
        group.bench_function("cut", |b| {
            b.iter(|| {
                leaves(modality, black_box(&source), |leaf, _| {
                    black_box(leaf);
                })
            });
        });
        group.bench_function("tree", |b| {
            b.iter(|| {
                let mut sink = |node: Node<'_, ()>| {
                    black_box(node.hash);
                    Ok::<(), Infallible>(())
                };
                let mut builder = TreeBuilder::new(Nothing);
                leaves(modality, black_box(&source), |leaf, ends_group| {
                    builder.leaf(leaf, ends_group, &mut sink).unwrap();
                });
                builder.finish(&mut sink).unwrap()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, sources);
criterion_main!(benches);
