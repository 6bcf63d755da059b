//! Damaged and invented chunks: an error or other bytes, never a panic and never more memory than a chunk may have.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Data, Random, make};
use modelstore_chunk::{ChunkHash, Decoder, Encoder, Error, plan_range};
use modelstore_tensor::DType;
use proptest::prelude::*;

const LARGEST: usize = 4 << 20;

/// A chunk, its raw bytes, and the base of a delta.
type Sample = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// Small chunks of every codec.
fn samples() -> Vec<Sample> {
    let mut encoder = Encoder::new();
    let mut samples = Vec::new();
    for (dtype, data, len) in [
        (DType::F32, Data::Random, 40),
        (DType::F64, Data::Constant, 800),
        (DType::F32, Data::Gaussian, 2000),
        (DType::BF16, Data::Gaussian, 70_000),
        (DType::I64, Data::Ramp, 4000),
        (DType::U8, Data::Mixed, 100),
    ] {
        let raw = make(data, dtype, len);
        let mut chunk = Vec::new();
        encoder.encode(dtype, &raw, &mut chunk).expect("encodes");
        samples.push((chunk, raw, None));
    }
    let base = make(Data::Random, DType::F32, 1200);
    let mut raw = base.clone();
    (0..1200).step_by(90).for_each(|i| raw[i] ^= 5);
    let mut chunk = Vec::new();
    let hash = ChunkHash::of(&base);
    encoder
        .encode_delta(DType::F32, &raw, &base, &hash, 0, &mut chunk)
        .expect("encodes");
    samples.push((chunk, raw, Some(base)));
    let base = make(Data::Gaussian, DType::BF16, 70_000);
    let mut raw = base.clone();
    (0..70_000).step_by(934).for_each(|i| raw[i] ^= i as u8 | 1);
    let mut chunk = Vec::new();
    let hash = ChunkHash::of(&base);
    encoder
        .encode_delta(DType::BF16, &raw, &base, &hash, usize::MAX, &mut chunk)
        .expect("encodes");
    assert_eq!(chunk[44] & 3, 3, "a sparse block");
    samples.push((chunk, raw, Some(base)));
    samples
}

#[test]
fn truncated_anywhere() {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    for (chunk, raw, base) in samples() {
        let step = chunk.len() / 3000 + 1;
        for len in (0..chunk.len()).step_by(step) {
            let got = decoder.decode(&chunk[..len], base.as_deref(), &mut out);
            assert!(
                matches!(got, Err(Error::Truncated { .. })),
                "{len}: {got:?}"
            );
            let _ = plan_range(&chunk[..len], 0..raw.len() as u32);
        }
        let mut longer = chunk.clone();
        longer.push(0);
        let got = decoder.decode(&longer, base.as_deref(), &mut out);
        assert!(matches!(got, Err(Error::TrailingBytes { .. })), "{got:?}");
        decoder
            .decode(&chunk, base.as_deref(), &mut out)
            .expect("still decodes");
        assert!(out == raw);
    }
}

#[test]
fn flipped_bits() {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let mut random = Random(7);
    for (chunk, raw, base) in samples() {
        let hash = ChunkHash::of(&raw);
        let bits: Vec<usize> = if chunk.len() < 2500 {
            (0..chunk.len() * 8).collect()
        } else {
            (0..600)
                .chain((0..800).map(|_| random.below(chunk.len() * 8)))
                .collect()
        };
        for bit in bits {
            let mut damaged = chunk.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match decoder.decode(&damaged, base.as_deref(), &mut out) {
                Err(_) => assert!(out.is_empty()),
                Ok(()) => {
                    assert!(out.len() <= LARGEST);
                    // Same bytes only where a bit says nothing: the width of a raw chunk, the hash of a base, the
                    // rotation of equal bytes, and a few in a zstd frame. Everything else the hash finds.
                    let harmless = out == raw;
                    assert!(harmless || ChunkHash::of(&out) != hash);
                }
            }
            if let Ok(plan) = plan_range(&damaged, 3..30)
                && let Some(fetched) = damaged.get(plan.fetch())
            {
                let _ = decoder.decode_range(&plan, fetched, &mut out);
            }
        }
    }
}

#[test]
fn a_claim_of_four_mebibytes_is_not_believed_before_it_is_checked() {
    let mut decoder = Decoder::new();
    for codec in [0u8, 2] {
        let mut chunk = vec![1, codec, 1, 0];
        chunk.extend_from_slice(&(LARGEST as u32).to_le_bytes());
        chunk.extend_from_slice(&[14, 0, 0, 0]);
        let mut out = Vec::new();
        let got = decoder.decode(&chunk, None, &mut out);
        assert!(matches!(got, Err(Error::Truncated { .. })));
        assert_eq!(out.capacity(), 0);
    }
    let mut chunk = vec![1, 1, 1, 0];
    chunk.extend_from_slice(&(LARGEST as u32 + 1).to_le_bytes());
    chunk.push(9);
    let got = decoder.decode(&chunk, None, &mut Vec::new());
    assert_eq!(got, Err(Error::RawLength(LARGEST as u64 + 1)));
}

#[test]
fn index_entries_that_no_encoder_writes() {
    // One block of 8 bytes, width 1: a single plane.
    let with = |entry: u32, payload: &[u8]| {
        let mut chunk = vec![1, 2, 1, 0, 8, 0, 0, 0, 16, 0, 0, 0];
        chunk.extend_from_slice(&entry.to_le_bytes());
        chunk.extend_from_slice(payload);
        let mut out = Vec::new();
        Decoder::new().decode(&chunk, None, &mut out).map(|()| out)
    };
    assert_eq!(with(8 << 2, b"abcdefgh"), Ok(b"abcdefgh".to_vec()));
    assert_eq!(with(1 << 2 | 2, b"x"), Ok(b"xxxxxxxx".to_vec()));
    for entry in [
        7 << 2,
        9 << 2,
        1,
        8 << 2 | 1,
        2,
        2 << 2 | 2,
        3,
        8 << 2 | 3,
        u32::MAX,
    ] {
        let refused = Error::IndexEntry {
            entry,
            block: 0,
            plane: 0,
        };
        assert_eq!(with(entry, b"abcdefgh"), Err(refused));
    }
    assert_eq!(
        with(7 << 2 | 1, b"abcdefg"),
        Err(Error::Plane { block: 0, plane: 0 })
    );
}

/// A delta of 64 elements, all in one block, and the error it is refused with, whole and in part.
fn refused(codec: u8, width: u8, index: &[u32], body: &[u8]) -> Option<Error> {
    let raw_len = 64 * u32::from(width);
    let mut chunk = vec![1, codec, width, 0];
    chunk.extend_from_slice(&raw_len.to_le_bytes());
    chunk.extend_from_slice(&[0; 32][..if codec == 3 { 32 } else { 0 }]);
    chunk.extend_from_slice(&[15, 0, 0, 0]);
    index
        .iter()
        .for_each(|entry| chunk.extend_from_slice(&entry.to_le_bytes()));
    chunk.extend_from_slice(body);
    let base = vec![0; raw_len as usize];
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let whole = decoder.decode(&chunk, Some(&base), &mut out);
    let part = plan_range(&chunk, 0..1)
        .and_then(|plan| decoder.decode_range(&plan, &chunk[plan.fetch()], &mut out));
    assert_eq!(whole, part);
    whole.err()
}

#[test]
fn sparse_blocks_that_no_encoder_writes() {
    // Elements 3 and 10 of 64 have changed: gaps 3 and 6, with parameter 1 remainders 1 and 0, quotients 1 and 3.
    let good = [2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 7, 9, 0b01, 0b10_0010];
    let of = |body: &[u8]| refused(3, 1, &[(body.len() as u32) << 2 | 3], body);
    let with = |at: usize, value: u8| {
        let mut body = good;
        body[at] = value;
        of(&body)
    };
    assert_eq!(of(&good), None);
    let corrupt = Some(Error::Sparse { block: 0 });
    let entry = |entry, plane| {
        Some(Error::IndexEntry {
            entry,
            block: 0,
            plane,
        })
    };
    // The index: an empty block, one as long as its raw bytes, one in `planes`, bytes of other planes.
    assert_eq!(refused(3, 1, &[3], &[0]), entry(3, 0));
    let long = 64 << 2 | 3;
    assert_eq!(refused(3, 1, &[long], &[0; 64]), entry(long, 0));
    assert_eq!(refused(2, 1, &[16 << 2 | 3], &good), entry(16 << 2 | 3, 0));
    let two = [1, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 6, 0, 0, 0, 1, 2, 0b1000];
    assert_eq!(refused(3, 2, &[19 << 2 | 3, 0], &two), None);
    assert_eq!(refused(3, 2, &[19 << 2 | 3, 6], &two), entry(6, 1));
    assert_eq!(
        refused(3, 2, &[6, 19 << 2 | 3], &two),
        entry(19 << 2 | 3, 1)
    );
    // The number of changes: none, more than elements, not that of the plane.
    assert_eq!(with(0, 0), corrupt);
    assert_eq!(with(0, 65), corrupt);
    assert_eq!(with(3, 255), corrupt);
    assert_eq!(with(0, 3), entry(8, 0));
    // Parameter and reserved bytes.
    assert_eq!(with(4, 21), corrupt);
    assert_eq!(with(4, 255), corrupt);
    (5..8).for_each(|at| assert_eq!(with(at, 1), corrupt));
    // The plane: of kind 3, of another length, not a zstd frame, beyond the block.
    assert_eq!(with(8, 8 | 3), entry(11, 0));
    assert_eq!(with(8, 12), entry(12, 0));
    assert_eq!(with(8, 4 | 1), Some(Error::Plane { block: 0, plane: 0 }));
    for len in 1..14 {
        assert!(of(&good[..len]).is_some(), "{len}");
    }
    // Gaps: none; bits behind the remainders; more or fewer quotients than changes; a byte too many; no such element.
    assert_eq!(of(&good[..14]), corrupt);
    assert_eq!(of(&good[..15]), corrupt);
    assert_eq!(with(14, 0b101), corrupt);
    assert_eq!(with(15, 0b11_0010), corrupt);
    assert_eq!(with(15, 0b10_0000), corrupt);
    assert_eq!(of(&[&good[..], &[0]].concat()), corrupt);
    assert_eq!(of(&[&good[..15], &[2, 0, 0, 1]].concat()), None);
    assert_eq!(of(&[&good[..15], &[2, 0, 0, 0, 1]].concat()), corrupt);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_sparse_blocks(
        width in 0usize..4,
        changed in 1u8..70,
        parameter in 0u8..22,
        plane in any::<u8>(),
        tail in proptest::collection::vec(any::<u8>(), 1..60),
    ) {
        let width = [1u8, 2, 4, 8][width];
        let mut body = vec![changed, 0, 0, 0, parameter, 0, 0, 0];
        // The first plane may be of any kind, the others repeat a zero.
        let first = if plane & 3 == 0 { u32::from(changed) << 2 } else { u32::from(plane) };
        body.extend_from_slice(&first.to_le_bytes());
        (1..width).for_each(|_| body.extend_from_slice(&6u32.to_le_bytes()));
        body.extend_from_slice(&tail);
        let mut index = vec![0; usize::from(width)];
        index[0] = (body.len() as u32) << 2 | 3;
        refused(3, width, &index, &body);
    }

    #[test]
    fn arbitrary_bytes(
        codec in 0u8..5,
        width in 0u8..9,
        raw_len in 0u32..200_000,
        tail in proptest::collection::vec(any::<u8>(), 0..200),
        base in proptest::collection::vec(any::<u8>(), 0..50),
        start in 0u32..200_000,
        len in 0u32..1000,
    ) {
        let mut chunk = vec![1, codec, width, 0];
        chunk.extend_from_slice(&raw_len.to_le_bytes());
        chunk.extend_from_slice(&tail);
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        let _ = decoder.decode(&chunk, None, &mut out);
        let _ = decoder.decode(&chunk, Some(&base), &mut out);
        if let Ok(plan) = plan_range(&chunk, start..start + len)
            && let Some(fetched) = chunk.get(plan.fetch()) {
                let _ = decoder.decode_range(&plan, fetched, &mut out);
            }
    }
}
