//! How fast the loops over bytes are: `cargo bench -p modelstore_tensor`. Prints GB/s of input on one core, the best
//! of several rounds; text in MB/s of text.

#![allow(clippy::expect_used)]

use modelstore_tensor::{DType, Shape, Tensor, convert, slice, stats, text};
use std::hint::black_box;
use std::time::Instant;

/// About the size of a stored chunk, and past the second-level cache.
const BYTES: usize = 4 << 20;

/// Seconds of the best of a few rounds.
fn best(mut f: impl FnMut()) -> f64 {
    let round = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..7).map(|_| round(&mut f)).fold(f64::INFINITY, f64::min)
}

fn report(what: &str, bytes: usize, seconds: f64) {
    println!("{what:28} {:8.2} GB/s", bytes as f64 / seconds / 1e9);
}

/// Values like weights: small, of both signs, some zeros.
fn weights(dtype: DType) -> Tensor {
    let mut state = 1u64;
    let count = BYTES / dtype.block_bytes() as usize;
    let singles: Vec<u8> = (0..count)
        .flat_map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let unit = (state >> 40) as f32 / (1 << 24) as f32;
            let value = if dtype.kind() == modelstore_tensor::dtype::Kind::Int {
                unit * 100.0
            } else {
                unit - 0.5
            };
            value.to_le_bytes()
        })
        .collect();
    let shape = Shape::new(&[count as u64 / 1024, 1024]).expect("a shape");
    let tensor = Tensor::new(DType::F32, shape, singles).expect("fits");
    convert::cast(&tensor.view(), dtype).expect("in range")
}

fn main() {
    for &dtype in DType::ALL
        .iter()
        .filter(|d| stats::scan(**d, &[]).is_some())
    {
        let tensor = weights(dtype);
        // One byte off, as elements behind a header may be.
        let mut shifted = vec![0u8];
        shifted.extend_from_slice(tensor.data());
        let seconds = best(|| {
            black_box(stats::scan(dtype, black_box(&shifted[1..])));
        });
        report(&format!("stats {dtype}"), BYTES, seconds);
    }
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::I64] {
        let tensor = weights(dtype);
        let mut out = String::new();
        let seconds = best(|| {
            out.clear();
            text::format(&tensor.view(), &mut out).expect("a string takes all");
        });
        report(&format!("print {dtype}"), out.len(), seconds);
        let seconds = best(|| drop(black_box(text::parse(&out))));
        report(&format!("parse {dtype}"), out.len(), seconds);
    }
    for (from, to) in [
        (DType::F32, DType::BF16),
        (DType::F32, DType::F16),
        (DType::F32, DType::F8E4M3),
        (DType::BF16, DType::F32),
        (DType::F16, DType::F32),
        (DType::I64, DType::I32),
    ] {
        let tensor = weights(from);
        let seconds = best(|| drop(black_box(convert::cast(&tensor.view(), to))));
        report(&format!("cast {from} to {to}"), BYTES, seconds);
    }
    for dtype in [DType::Q4_0, DType::Q8_0, DType::Q4K, DType::Q6K] {
        let blocks = BYTES as u64 / dtype.block_bytes();
        let shape = Shape::new(&[blocks, dtype.block_elements()]).expect("a shape");
        let data = vec![0x11; (blocks * dtype.block_bytes()) as usize];
        let tensor = Tensor::new(dtype, shape, data).expect("fits");
        let seconds = best(|| drop(black_box(convert::to_f32_vec(&tensor.view()))));
        report(
            &format!("dequantise {dtype} to f32"),
            tensor.shape().elements() as usize * 4,
            seconds,
        );
    }
    let tensor = weights(DType::F32);
    for text in ["::2", ":, 0:512", ":, 3"] {
        let selection = slice::parse(text)
            .and_then(|s| s.resolve(tensor.shape()))
            .expect("a slice");
        let bytes = selection.shape.elements() as usize * 4;
        let mut out = Vec::new();
        let seconds = best(|| {
            out.clear();
            slice::gather(&selection, &tensor.view(), &mut out).expect("fits");
        });
        report(&format!("gather [{text}]"), bytes, seconds);
    }
}
