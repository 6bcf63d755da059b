//! Deltas of which few elements have changed: what they cost, and that they come back whole and in part.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{DTYPES, Data, Random, entropy, fine_tuned, make, nudge, range_of};
use modelstore_chunk::codec::xor_in_place;
use modelstore_chunk::{Against, ChunkHash, ChunkHead, Codec, Decoder, Encoder};
use modelstore_tensor::DType;
use proptest::prelude::*;

const CHUNK: usize = 1 << 20;

/// The delta of two chunks, after it was checked that it decodes, whole and in part.
fn delta(dtype: DType, raw: &[u8], base: &[u8]) -> Vec<u8> {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let (mut chunk, mut out) = (Vec::new(), Vec::new());
    let hash = ChunkHash::of(base);
    encoder
        .encode_delta(dtype, raw, base, &hash, usize::MAX, &mut chunk)
        .expect("encodes");
    decoder
        .decode(&chunk, Some(base), &mut out)
        .expect("decodes");
    assert!(out == raw);
    let mut random = Random(raw.len() as u64 + 5);
    for _ in 0..6 {
        let start = random.below(raw.len() + 1);
        let end = start + random.below(raw.len() - start + 1);
        let mut part = range_of(&mut decoder, &chunk, start, end);
        xor_in_place(&mut part, &base[start..end]);
        assert!(part == raw[start..end], "{dtype} {start}..{end}");
    }
    chunk
}

/// Whether a block of the delta is sparse.
fn is_sparse(chunk: &[u8]) -> bool {
    let head = ChunkHead::parse(chunk).expect("a header");
    let index = &chunk[head.payload_offset..];
    let words = index.as_chunks::<4>().0.iter().step_by(head.width.into());
    words
        .take(head.blocks())
        .any(|word| u32::from_le_bytes(*word) & 3 == 3)
}

#[test]
fn a_small_change_costs_little_more_than_it_contains() {
    for (dtype, width) in [(DType::F32, 4), (DType::BF16, 2)] {
        let base = make(Data::Gaussian, dtype, CHUNK);
        for percent in [1, 5, 20] {
            let raw = fine_tuned(dtype, &base, percent);
            let chunk = delta(dtype, &raw, &base);
            let ratio = chunk.len() as f64 / entropy(width, &raw, &base);
            assert!(is_sparse(&chunk));
            assert!(ratio < 1.15, "{dtype}, {percent} %: {ratio:.3}");
        }
    }
}

/// `base` with the elements for which `changes` says so changed a little.
fn changed(dtype: DType, base: &[u8], changes: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut random = Random(3);
    let mut raw = base.to_vec();
    let width = dtype.element_bytes().unwrap_or(1);
    for (at, element) in raw.chunks_exact_mut(width).enumerate() {
        if changes(at) {
            nudge(dtype, element, &mut random);
        }
    }
    raw
}

#[test]
fn nothing_one_and_everything() {
    for &dtype in DTYPES {
        let width = dtype.element_bytes().unwrap_or(1);
        for elements in [1, 2, 3, 40, 5000, (1 << 19) / width + 1] {
            let base = make(Data::Random, dtype, elements * width);
            for one in [0, elements / 2, elements - 1] {
                let raw = changed(dtype, &base, |at| at == one);
                let chunk = delta(dtype, &raw, &base);
                assert!(chunk.len() < 160, "{dtype} {elements} {}", chunk.len());
            }
            let same = delta(dtype, &base, &base);
            let all = delta(dtype, &changed(dtype, &base, |_| true), &base);
            assert!(!is_sparse(&same) && !is_sparse(&all), "{dtype} {elements}");
        }
    }
}

#[test]
fn whole_rows_and_halves() {
    for dtype in [DType::BF16, DType::F32] {
        let base = make(Data::Gaussian, dtype, CHUNK);
        let half = base.len() / dtype.element_bytes().unwrap_or(1) / 2;
        let rows = changed(dtype, &base, |at| at / 384 % 20 == 3);
        let column = changed(dtype, &base, |at| at % 384 == 5);
        // Every element of the first half, one in a hundred of the second.
        let mixed = changed(dtype, &base, |at| at < half || at % 100 == 0);
        for raw in [&rows, &column] {
            let chunk = delta(dtype, raw, &base);
            assert!(chunk.len() < CHUNK / 20, "{dtype}: {}", chunk.len());
        }
        assert!(is_sparse(&delta(dtype, &mixed, &base)));
    }
}

#[test]
fn a_fine_tune_of_everything_never_costs_more_than_a_chunk_by_itself() {
    let mut encoder = Encoder::new();
    let (mut alone, mut with_base) = (Vec::new(), Vec::new());
    for dtype in [DType::BF16, DType::F32, DType::F16, DType::F64] {
        for percent in [0, 3, 30, 60, 100] {
            let base = make(Data::Gaussian, dtype, 300_000);
            let raw = fine_tuned(dtype, &base, percent);
            let hash = ChunkHash::of(&base);
            encoder.encode(dtype, &raw, &mut alone).expect("encodes");
            for base in [base, make(Data::Random, dtype, 300_000)] {
                let codec = encoder
                    .encode_with_base(
                        dtype,
                        &raw,
                        Some(Against::any(&base, &hash)),
                        &mut with_base,
                    )
                    .expect("encodes");
                assert!(with_base.len() <= alone.len());
                assert_eq!(codec == Codec::Delta, with_base.len() < alone.len());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn changes_of_any_density_come_back(
        which in 0..DTYPES.len(),
        elements in 1usize..60_000,
        one_in in 1usize..3000,
        run in 1usize..50,
        seed in 1u64..u64::MAX,
    ) {
        let dtype = DTYPES[which];
        let width = dtype.element_bytes().unwrap_or(1);
        let base = make(Data::Random, dtype, elements * width);
        let mut raw = base.clone();
        let mut random = Random(seed);
        let mut left = 0;
        for element in raw.chunks_exact_mut(width) {
            if random.below(one_in) == 0 {
                left = random.below(run) + 1;
            }
            if left > 0 {
                left -= 1;
                let mask = random.next().to_le_bytes();
                xor_in_place(element, &mask);
            }
        }
        delta(dtype, &raw, &base);
    }
}
