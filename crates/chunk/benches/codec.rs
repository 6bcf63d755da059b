//! Speed and ratio of the codecs, one thread: `cargo bench --bench codec`.
//!
//! Measures synthetic data and, when `MODELSTORE_BENCH_FILE` names a safetensors file, its data read as the dtype of
//! `MODELSTORE_BENCH_DTYPE` (f32 unless set); an f32 file also converted to bf16 and f16. Prints the median of five
//! runs in MB/s of raw bytes; `slice` is the time to decode 16 KiB out of the middle of a chunk. Deltas are of data of
//! which some elements have changed a little, with the entropy of the changes (tests/common) as a ratio beside them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::Instant;

use modelstore_chunk::{Decoder, Encoder, plan_range};
use modelstore_tensor::DType;

const CHUNK: usize = 1 << 20;
const RUNS: usize = 5;

fn main() {
    println!(
        "{:<22} {:>7} {:>9} {:>9} {:>9}",
        "data", "ratio", "encode", "decode", "slice µs"
    );
    let weights = gaussian(16 << 20);
    report("gaussian f32", DType::F32, &f32_bytes(&weights));
    report("gaussian bf16", DType::BF16, &bf16_bytes(&weights));
    report("gaussian f16", DType::F16, &f16_bytes(&weights));
    let widened: Vec<f32> = weights
        .iter()
        .map(|&w| half::bf16::from_f32(w).to_f32())
        .collect();
    report("bf16 held as f32", DType::F32, &f32_bytes(&widened));
    let ramp: Vec<u8> = (0..2 << 20).flat_map(|i: i64| i.to_le_bytes()).collect();
    report("0, 1, 2, … i64", DType::I64, &ramp);
    let doubles: Vec<u8> = weights
        .iter()
        .flat_map(|&w| (f64::from(w) * 1.1).to_le_bytes())
        .collect();
    report("gaussian f64", DType::F64, &doubles);
    let bits: Vec<u8> = weights
        .iter()
        .flat_map(|w| w.to_bits().wrapping_mul(0x9E37_79B9).to_le_bytes())
        .collect();
    report("random u8", DType::U8, &bits);
    for (dtype, base) in [
        (DType::F32, f32_bytes(&weights)),
        (DType::BF16, bf16_bytes(&weights)),
    ] {
        for percent in [1, 5, 20, 100] {
            report_delta(dtype, percent, &base);
        }
    }
    let Ok(path) = std::env::var("MODELSTORE_BENCH_FILE") else {
        return;
    };
    let file = std::fs::read(path).expect("a readable file");
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let data = &file[8 + header..];
    let name = std::env::var("MODELSTORE_BENCH_DTYPE").unwrap_or("f32".into());
    let dtype = DType::from_name(&name).expect("a dtype");
    report(&format!("file {name}"), dtype, data);
    if dtype == DType::F32 {
        let values: Vec<f32> = data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        report("file as bf16", DType::BF16, &bf16_bytes(&values));
        report("file as f16", DType::F16, &f16_bytes(&values));
    }
}

fn report(name: &str, dtype: DType, data: &[u8]) {
    let mut encoder = Encoder::new();
    let mut chunks: Vec<Vec<u8>> = data.chunks(CHUNK).map(|_| Vec::new()).collect();
    let encode = median(|| {
        for (raw, out) in data.chunks(CHUNK).zip(&mut chunks) {
            encoder.encode(dtype, raw, out).expect("encodes");
        }
    });
    print(name, encode, data, &chunks);
}

fn report_delta(dtype: DType, percent: usize, base: &[u8]) {
    let data = common::fine_tuned(dtype, base, percent);
    let width = dtype.element_bytes().expect("whole bytes");
    let mut encoder = Encoder::new();
    let mut chunks: Vec<Vec<u8>> = data.chunks(CHUNK).map(|_| Vec::new()).collect();
    let hash = modelstore_chunk::ChunkHash::of(b"");
    let encode = median(|| {
        for ((raw, base), out) in data.chunks(CHUNK).zip(base.chunks(CHUNK)).zip(&mut chunks) {
            encoder
                .encode_delta(dtype, raw, base, &hash, usize::MAX, out)
                .expect("encodes");
        }
    });
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    for ((chunk, base), raw) in chunks
        .iter()
        .zip(base.chunks(CHUNK))
        .zip(data.chunks(CHUNK))
    {
        decoder
            .decode(chunk, Some(base), &mut out)
            .expect("decodes");
        assert_eq!(out, raw);
    }
    let decode = median(|| {
        for (chunk, base) in chunks.iter().zip(base.chunks(CHUNK)) {
            decoder
                .decode(chunk, Some(base), &mut out)
                .expect("decodes");
        }
    });
    let slice = slice(&mut decoder, &chunks);
    let name = format!(
        "{dtype}, {percent} % ({:.4})",
        common::entropy(width, &data, base) / data.len() as f64
    );
    line(&name, data.len(), &chunks, encode, decode, slice);
}

fn print(name: &str, encode: f64, data: &[u8], chunks: &[Vec<u8>]) {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    for (chunk, raw) in chunks.iter().zip(data.chunks(CHUNK)) {
        decoder.decode(chunk, None, &mut out).expect("decodes");
        assert_eq!(out, raw);
    }
    let decode = median(|| {
        for chunk in chunks {
            decoder.decode(chunk, None, &mut out).expect("decodes");
            black_box(&out);
        }
    });
    let slice = slice(&mut decoder, chunks);
    line(name, data.len(), chunks, encode, decode, slice);
}

/// Microseconds for 16 KiB of a chunk, the mean of those that are not all but empty.
fn slice(decoder: &mut Decoder, chunks: &[Vec<u8>]) -> f64 {
    let mut out = Vec::new();
    let sliced: Vec<&Vec<u8>> = chunks.iter().filter(|c| c.len() > CHUNK / 400).collect();
    let seconds = median(|| {
        for chunk in &sliced {
            if let Ok(plan) = plan_range(chunk, 500_000..516_384) {
                let fetched = &chunk[plan.fetch()];
                decoder
                    .decode_range(&plan, fetched, &mut out)
                    .expect("decodes");
            }
        }
    });
    seconds * 1e6 / sliced.len().max(1) as f64
}

fn line(name: &str, raw: usize, chunks: &[Vec<u8>], encode: f64, decode: f64, slice: f64) {
    let stored: usize = chunks.iter().map(Vec::len).sum();
    let rate = |seconds: f64| raw as f64 / 1e6 / seconds;
    println!(
        "{name:<22} {:>7.4} {:>9.0} {:>9.0} {slice:>9.1}",
        stored as f64 / raw as f64,
        rate(encode),
        rate(decode)
    );
}

fn median(mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

/// Normally distributed values of the size of weights.
fn gaussian(count: usize) -> Vec<f32> {
    let mut state = 0x1234_5678_9ABC_DEF1u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 + 0.5) / (1u64 << 24) as f32
    };
    (0..count / 4)
        .map(|_| {
            let (radius, angle) = (uniform(), uniform());
            0.04 * (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
        })
        .collect()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn bf16_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&v| half::bf16::from_f32(v).to_le_bytes())
        .collect()
}

fn f16_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&v| half::f16::from_f32(v).to_le_bytes())
        .collect()
}
