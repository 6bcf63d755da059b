//! Every codec decodes to the encoded bytes, whole and in part.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{ALL_DATA, DTYPES, Data, Random, make, range_of};
use modelstore_chunk::codec::xor_in_place;
use modelstore_chunk::{Against, ChunkHash, ChunkHead, Codec, Decoder, Encoder, Error, plan_range};
use modelstore_tensor::DType;
use proptest::prelude::*;

const BLOCK: usize = 32 << 10;
const OVERHEAD: usize = 64;

fn check(encoder: &mut Encoder, decoder: &mut Decoder, dtype: DType, raw: &[u8]) -> Codec {
    let (mut chunk, mut out) = (vec![1; 10], vec![2; 10]);
    let codec = encoder.encode(dtype, raw, &mut chunk).expect("encodes");
    assert!(chunk.len() <= raw.len() + OVERHEAD);
    assert_eq!(ChunkHead::parse(&chunk).expect("a header").codec, codec);
    decoder.decode(&chunk, None, &mut out).expect("decodes");
    assert!(out == raw, "{dtype}, {} bytes, {codec}", raw.len());
    let mut random = Random(raw.len() as u64 + 99);
    for _ in 0..6 {
        let start = random.below(raw.len() + 1);
        let end = start + random.below((raw.len() - start).min(3 * BLOCK) + 1);
        let got = range_of(decoder, &chunk, start, end);
        assert!(
            got == raw[start..end],
            "{dtype}, {start}..{end} of {}, {codec}",
            raw.len()
        );
    }
    assert_eq!(range_of(decoder, &chunk, 0, 0), b"");
    assert_eq!(range_of(decoder, &chunk, raw.len(), raw.len()), b"");
    let beyond = plan_range(&chunk, 0..raw.len() as u32 + 1);
    assert!(matches!(beyond, Err(Error::Range { .. })));
    codec
}

#[test]
fn boundary_lengths_of_every_dtype_and_kind_of_data() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for &dtype in DTYPES {
        let w = dtype.element_bytes().unwrap_or(1);
        for &data in ALL_DATA {
            for len in [
                0,
                w,
                2 * w,
                3 * w,
                17 * w,
                BLOCK - w,
                BLOCK,
                BLOCK + w,
                3 * BLOCK - w,
            ] {
                let codec = check(&mut encoder, &mut decoder, dtype, &make(data, dtype, len));
                if data == Data::Zeros && len > 0 {
                    assert_eq!(codec, Codec::Constant);
                }
                if data == Data::Random && len > 2 * w {
                    assert_eq!(codec, Codec::Raw);
                }
            }
        }
        // Not whole elements: stored byte for byte all the same.
        check(
            &mut encoder,
            &mut decoder,
            dtype,
            &make(Data::Gaussian, dtype, 4 * BLOCK + 1),
        );
    }
}

#[test]
fn largest_chunks() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for (dtype, data) in [
        (DType::F32, Data::Gaussian),
        (DType::F32, Data::Random),
        (DType::I64, Data::Ramp),
        (DType::U8, Data::Mixed),
    ] {
        for len in [1 << 20, 4 << 20] {
            check(&mut encoder, &mut decoder, dtype, &make(data, dtype, len));
        }
    }
    let raw = vec![0; (4 << 20) + 1];
    let refused = encoder.encode(DType::U8, &raw, &mut Vec::new());
    assert_eq!(refused, Err(Error::RawLength((4 << 20) + 1)));
}

#[test]
fn weights_and_regular_data_shrink() {
    let mut encoder = Encoder::new();
    let mut ratio = |dtype, raw: &[u8]| {
        let mut chunk = Vec::new();
        encoder.encode(dtype, raw, &mut chunk).expect("encodes");
        chunk.len() as f64 / raw.len() as f64
    };
    assert!(ratio(DType::F32, &make(Data::Gaussian, DType::F32, 1 << 20)) < 0.84);
    assert!(ratio(DType::BF16, &make(Data::Gaussian, DType::BF16, 1 << 20)) < 0.68);
    assert!(ratio(DType::F16, &make(Data::Gaussian, DType::F16, 1 << 20)) < 0.86);
    assert!(ratio(DType::I64, &make(Data::Ramp, DType::I64, 1 << 20)) < 0.015);
    let widened: Vec<u8> = make(Data::Gaussian, DType::BF16, 1 << 19)
        .as_chunks::<2>()
        .0
        .iter()
        .flat_map(|b| [0, 0, b[0], b[1]])
        .collect();
    assert!(ratio(DType::F32, &widened) < 0.35);
}

#[test]
fn deltas_whole_and_in_part() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let (mut chunk, mut out) = (Vec::new(), Vec::new());
    for &dtype in DTYPES {
        for len in [24, BLOCK, 5 * BLOCK + 24] {
            let base = make(Data::Random, dtype, len);
            let mut raw = base.clone();
            (0..len).step_by(1000).for_each(|i| raw[i] ^= 1 << (i % 8));
            let hash = ChunkHash::of(&base);
            let made = encoder.encode_delta(dtype, &raw, &base, &hash, len + 8, &mut chunk);
            assert_eq!(made, Ok(chunk.len() < len + 8));
            assert!(
                len < BLOCK || chunk.len() < len / 10,
                "{dtype}: {} of {len}",
                chunk.len()
            );
            decoder
                .decode(&chunk, Some(&base), &mut out)
                .expect("decodes");
            assert!(out == raw);
            assert_eq!(
                decoder.decode(&chunk, None, &mut out),
                Err(Error::BaseMissing(hash))
            );
            assert!(out.is_empty());
            assert_eq!(
                decoder.decode(&chunk, Some(&base[1..]), &mut out),
                Err(Error::BaseLength {
                    hash,
                    expected: len,
                    actual: len - 1
                })
            );
            let (start, end) = (len / 3, len / 3 * 2 + 1);
            let mut part = range_of(&mut decoder, &chunk, start, end);
            xor_in_place(&mut part, &base[start..end]);
            assert!(part == raw[start..end]);
        }
    }
    // A base that has nothing in common does not help, nor one of another length.
    let raw = make(Data::Gaussian, DType::F32, BLOCK);
    let other = make(Data::Random, DType::F32, BLOCK);
    let hash = ChunkHash::of(&other);
    let codec = encoder.encode_with_base(
        DType::F32,
        &raw,
        Some(Against::any(&other, &hash)),
        &mut chunk,
    );
    assert_eq!(codec, Ok(Codec::Planes));
    let short = encoder.encode_delta(DType::F32, &raw, &other[4..], &hash, BLOCK, &mut chunk);
    assert_eq!(short, Ok(false));
    let codec = encoder.encode_with_base(
        DType::F32,
        &raw,
        Some(Against::any(&raw, &hash)),
        &mut chunk,
    );
    assert_eq!(codec, Ok(Codec::Delta));
}

#[test]
fn output_buffers_must_fit() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let raw = make(Data::Gaussian, DType::F32, BLOCK);
    let mut chunk = Vec::new();
    encoder
        .encode(DType::F32, &raw, &mut chunk)
        .expect("encodes");
    let mut out = vec![0; BLOCK];
    decoder
        .decode_into(&chunk, None, &mut out)
        .expect("decodes");
    assert!(out == raw);
    let refused = decoder.decode_into(&chunk, None, &mut out[1..]);
    assert_eq!(
        refused,
        Err(Error::OutputLength {
            expected: BLOCK,
            actual: BLOCK - 1
        })
    );
    let plan = plan_range(&chunk, 4..12).expect("a plan");
    let fetched = &chunk[plan.fetch()];
    decoder
        .decode_range_into(&plan, fetched, &mut out[..8])
        .expect("decodes");
    assert!(out[..8] == raw[4..12]);
    assert!(
        decoder
            .decode_range_into(&plan, fetched, &mut out[..9])
            .is_err()
    );
    assert!(
        decoder
            .decode_range(&plan, &fetched[1..], &mut out)
            .is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_under_any_dtype(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        repeat in 1usize..400,
        which in 0..DTYPES.len(),
    ) {
        let raw = bytes.repeat(repeat);
        check(&mut Encoder::new(), &mut Decoder::new(), DTYPES[which], &raw);
    }

    #[test]
    fn any_delta(
        base in proptest::collection::vec(any::<u8>(), 1..500),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..20),
        which in 0..DTYPES.len(),
    ) {
        let mut raw = base.clone();
        for (at, value) in changes {
            let at = at % raw.len();
            raw[at] = value;
        }
        let (mut chunk, mut out) = (Vec::new(), Vec::new());
        let hash = ChunkHash::of(&base);
        Encoder::new().encode_delta(DTYPES[which], &raw, &base, &hash, 0, &mut chunk).unwrap();
        Decoder::new().decode(&chunk, Some(&base), &mut out).unwrap();
        prop_assert_eq!(out, raw);
    }
}
