//! Chunks as they were written once. They must decode for ever; `UPDATE_GOLDEN=1` writes those that are missing and
//! never changes one that exists.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use modelstore_chunk::{ChunkHash, ChunkHead, Codec, Decoder, Encoder};
use modelstore_tensor::DType;

fn golden(name: &str, made: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, made).expect("a writable folder");
    }
    std::fs::read(&path).expect("a golden file")
}

fn encode(dtype: DType, raw: &[u8]) -> (Codec, Vec<u8>) {
    let mut chunk = Vec::new();
    let codec = Encoder::new()
        .encode(dtype, raw, &mut chunk)
        .expect("encodes");
    (codec, chunk)
}

fn decode(chunk: &[u8], base: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    Decoder::new()
        .decode(chunk, base, &mut out)
        .expect("decodes");
    out
}

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

/// Values with exponents as weights have them, from integer arithmetic alone.
fn weights() -> Vec<u8> {
    let mut state = 1u32;
    floats((0..20_000).map(|_| {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as i32 - (1 << 23)
        };
        (next() / 4 + next() / 4 + next() / 4) as f32 / (1 << 27) as f32
    }))
}

#[test]
fn raw() {
    let raw = floats([1.0, -2.5, f32::NAN, f32::from_bits(0x7FC1_2345)].into_iter());
    let (codec, chunk) = encode(DType::F32, &raw);
    assert_eq!(codec, Codec::Raw);
    assert_eq!(chunk, golden("raw.bin", &chunk));
    assert_eq!(decode(&chunk, None), raw);
}

#[test]
fn constant() {
    let raw = floats(std::iter::repeat_n(-0.0, 100));
    let (codec, chunk) = encode(DType::F32, &raw);
    assert_eq!(codec, Codec::Constant);
    assert_eq!(chunk, golden("constant.bin", &chunk));
    assert_eq!(decode(&chunk, None), raw);
}

#[test]
fn planes() {
    let raw = weights();
    let (codec, chunk) = encode(DType::F32, &raw);
    assert_eq!(codec, Codec::Planes);
    assert_eq!(decode(&chunk, None), raw);
    let stored = golden("planes.bin", &chunk);
    assert_eq!(decode(&stored, None), raw);
    assert_eq!(ChunkHead::parse(&chunk), ChunkHead::parse(&stored));
    // Another version of zstd may pack a little better or worse.
    assert!(chunk.len().abs_diff(stored.len()) < stored.len() / 50);
}

#[test]
fn delta() {
    let base = weights()[..1024].to_vec();
    // All differences lie in one plane, and all of them differ: nothing for zstd to do.
    let mut raw = base.clone();
    (0..256).for_each(|i| raw[4 * i + 1] ^= (i * 167) as u8);
    let mut chunk = Vec::new();
    let hash = ChunkHash::of(&base);
    let smaller = Encoder::new().encode_delta(DType::I32, &raw, &base, &hash, 400, &mut chunk);
    assert_eq!(smaller, Ok(true));
    assert_eq!(chunk, golden("delta.bin", &chunk));
    assert_eq!(decode(&chunk, Some(&base)), raw);
    assert_eq!(ChunkHead::parse(&chunk).map(|h| h.base), Ok(Some(hash)));
}

#[test]
fn sparse_delta() {
    let base = weights();
    // Few enough that no plane of them is worth compressing.
    let mut raw = base.clone();
    for (i, at) in [7, 8, 5000, 12_345, 20_001, 31_000, 39_999]
        .into_iter()
        .enumerate()
    {
        raw[2 * at] ^= 1 + 37 * i as u8;
    }
    let mut chunk = Vec::new();
    let hash = ChunkHash::of(&base);
    let smaller = Encoder::new().encode_delta(DType::I16, &raw, &base, &hash, 100, &mut chunk);
    assert_eq!(smaller, Ok(true));
    assert_eq!(chunk, golden("sparse.bin", &chunk));
    assert_eq!(decode(&chunk, Some(&base)), raw);
}

/// Whole-number noise of a seed, a byte at a time.
fn noise(seed: u32) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    }
}

/// Elements as trained weights have them, of each width: a sign, few exponents, noise below.
fn elements(dtype: DType) -> Vec<u8> {
    let mut next = noise(7);
    let mut number = || {
        let mut part = || f64::from(next() % (1 << 20)) / f64::from(1 << 20) - 0.5;
        (part() + part() + part()) / 16.0
    };
    (0..6000i64)
        .flat_map(|i| match dtype {
            DType::F64 => number().to_le_bytes().to_vec(),
            DType::F32 => (number() as f32).to_le_bytes().to_vec(),
            DType::BF16 => ((number() as f32).to_bits() >> 16).to_le_bytes()[..2].to_vec(),
            DType::I64 => (i * 37 + i % 5).to_le_bytes().to_vec(),
            DType::I16 => ((i * 37 % 300 - 150) as i16).to_le_bytes().to_vec(),
            _ => vec![(number() * 100.0) as i8 as u8],
        })
        .collect()
}

/// A chunk of each width and codec, with the sign where its type puts it. Another version of zstd may pack a little
/// better or worse, so what decides is that the stored bytes decode, and that the parts that zstd has no hand in are
/// the same.
#[test]
fn every_width_and_codec() {
    let dtypes = [
        (DType::F64, 8, true),
        (DType::F32, 4, true),
        (DType::BF16, 2, true),
        (DType::F8E4M3, 1, false),
        (DType::I64, 8, false),
        (DType::I16, 2, false),
    ];
    for (dtype, width, rotated) in dtypes {
        let raw = elements(dtype);
        let check = |codec: Codec, made: Vec<u8>, raw: &[u8], base: Option<&[u8]>| {
            let stored = golden(&format!("{dtype}_{codec}.bin"), &made);
            assert_eq!(decode(&stored, base), raw, "{dtype}, {codec}");
            assert_eq!(decode(&made, base), raw, "{dtype}, {codec}");
            let head = ChunkHead::parse(&stored).expect("a header");
            assert_eq!((head.codec, u32::from(head.width)), (codec, width));
            assert_eq!(
                Ok(&head),
                ChunkHead::parse(&made).as_ref(),
                "{dtype}, {codec}"
            );
            let blocked = matches!(codec, Codec::Planes | Codec::Delta);
            assert_eq!(head.rotated, rotated && blocked, "{dtype}, {codec}");
            if blocked {
                assert!(made.len().abs_diff(stored.len()) <= 8 + stored.len() / 50);
            } else {
                assert_eq!(made, stored);
            }
        };
        let (codec, chunk) = encode(dtype, &raw);
        assert_eq!(codec, Codec::Planes, "{dtype}");
        check(codec, chunk, &raw, None);
        let element = &raw[..width as usize];
        let (codec, chunk) = encode(dtype, &element.repeat(50));
        check(codec, chunk, &element.repeat(50), None);
        // Too short for planes to be worth their header.
        let two = &raw[..2 * width as usize];
        let (codec, chunk) = encode(dtype, two);
        assert_eq!(codec, Codec::Raw, "{dtype}");
        check(codec, chunk, two, None);
        // The sign changes in every third element, and the lowest bit in every other.
        let mut changed = raw.clone();
        for (i, element) in changed.chunks_exact_mut(width as usize).enumerate() {
            element[width as usize - 1] ^= if i % 3 == 0 { 0x80 } else { 0 };
            element[0] ^= (i % 2) as u8;
        }
        let mut delta = Vec::new();
        let smaller = Encoder::new().encode_delta(
            dtype,
            &changed,
            &raw,
            &ChunkHash::of(&raw),
            usize::MAX,
            &mut delta,
        );
        assert_eq!(smaller, Ok(true));
        check(Codec::Delta, delta, &changed, Some(&raw));
        // Few changes, which are stored alone: the sign of some, the lowest byte of others.
        let mut sparse = raw.clone();
        for at in [3, 4, 700, 2999, 5998] {
            sparse[width as usize * (at + 1) - 1] ^= 0x80;
            sparse[width as usize * at] ^= 0x15;
        }
        let mut delta = Vec::new();
        let smaller = Encoder::new().encode_delta(
            dtype,
            &sparse,
            &raw,
            &ChunkHash::of(&raw),
            usize::MAX,
            &mut delta,
        );
        assert_eq!(smaller, Ok(true));
        let stored = golden(&format!("{dtype}_sparse.bin"), &delta);
        assert_eq!(decode(&stored, Some(&raw)), sparse, "{dtype}, sparse");
        assert_eq!(delta, stored, "{dtype}, sparse");
    }
}
