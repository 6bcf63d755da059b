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
