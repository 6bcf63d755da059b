//! Inputs that the tests share.

#![allow(dead_code)]

use modelstore_chunk::{ChunkHead, Decoder, PREFIX_BYTES, block_index_len, plan_range};
use modelstore_tensor::DType;

/// A small generator; the tests need bytes, not statistics.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end.max(1)
    }
}

/// What the bytes of an input look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    Zeros,
    Constant,
    Random,
    Gaussian,
    Ramp,
    NanPayloads,
    /// Constant, then random, so that blocks of a chunk differ.
    Mixed,
}

pub const ALL_DATA: &[Data] = &[
    Data::Zeros,
    Data::Constant,
    Data::Random,
    Data::Gaussian,
    Data::Ramp,
    Data::NanPayloads,
    Data::Mixed,
];

/// One dtype of every width and treatment.
pub const DTYPES: &[DType] = &[
    DType::U8,
    DType::F8E4M3,
    DType::I16,
    DType::BF16,
    DType::F16,
    DType::I32,
    DType::F32,
    DType::I64,
    DType::F64,
    DType::C64,
    DType::F6E2M3,
    DType::Q4_1,
];

/// `len` bytes of a kind, as elements of `dtype` where that matters.
pub fn make(data: Data, dtype: DType, len: usize) -> Vec<u8> {
    let mut random = Random(0x5EED_0000 + len as u64);
    let width = dtype.element_bytes().unwrap_or(1);
    let mut out = Vec::with_capacity(len + 8);
    let mut i = 0u64;
    while out.len() < len {
        match data {
            Data::Zeros => out.push(0),
            Data::Constant => {
                out.extend_from_slice(&0x3FB9_1C77_A5E2_0142u64.to_le_bytes()[..width])
            }
            Data::Random => out.extend_from_slice(&random.next().to_le_bytes()),
            Data::Gaussian => {
                let sum: f64 = (0..6)
                    .map(|_| random.next() as f64 / u64::MAX as f64 - 0.5)
                    .sum();
                push_float(dtype, sum * 0.05, &mut out);
            }
            Data::Ramp => out.extend_from_slice(&i.to_le_bytes()[..width]),
            Data::NanPayloads => {
                let bits = random.next() | 0x7FF8_0000_7FC0_7F80;
                out.extend_from_slice(&bits.to_le_bytes()[8 - width..]);
            }
            Data::Mixed if out.len() < len / 2 => out.push(7),
            Data::Mixed => out.extend_from_slice(&random.next().to_le_bytes()),
        }
        i += 1;
    }
    out.truncate(len);
    out
}

fn push_float(dtype: DType, value: f64, out: &mut Vec<u8>) {
    match dtype {
        DType::F64 => out.extend_from_slice(&value.to_le_bytes()),
        DType::BF16 => out.extend_from_slice(&half::bf16::from_f64(value).to_le_bytes()),
        DType::F16 => out.extend_from_slice(&half::f16::from_f64(value).to_le_bytes()),
        _ => out.extend_from_slice(&(value as f32).to_le_bytes()),
    }
}

/// Decodes a range as a store does: header, index, one byte range.
pub fn range_of(decoder: &mut Decoder, chunk: &[u8], start: usize, end: usize) -> Vec<u8> {
    let head = ChunkHead::parse(&chunk[..chunk.len().min(PREFIX_BYTES)]).expect("a header");
    let prefix = &chunk[..block_index_len(&head).min(chunk.len())];
    let plan = plan_range(prefix, start as u32..end as u32).expect("a plan");
    let mut out = vec![0xAA; 3];
    decoder
        .decode_range(&plan, &chunk[plan.fetch()], &mut out)
        .expect("decodes");
    out
}

/// A small change of a weight: one step up or down of bf16, a part of 1e-4 to 1e-3 of f32.
pub fn nudge(dtype: DType, element: &mut [u8], random: &mut Random) {
    let up = random.below(2) == 0;
    match dtype {
        DType::BF16 => {
            let bits = u16::from_le_bytes([element[0], element[1]]);
            let bits = if up {
                bits.wrapping_add(1)
            } else {
                bits.wrapping_sub(1)
            };
            element.copy_from_slice(&bits.to_le_bytes());
        }
        DType::F32 => {
            let value = f32::from_le_bytes([element[0], element[1], element[2], element[3]]);
            let part = 1e-4 + 9e-4 * random.below(1 << 20) as f32 / (1 << 20) as f32;
            let value = value * if up { 1.0 + part } else { 1.0 - part };
            element.copy_from_slice(&value.to_le_bytes());
        }
        _ => element[0] ^= 1 + random.below(3) as u8,
    }
}

/// `base` with `percent` of its elements changed a little, at random places.
pub fn fine_tuned(dtype: DType, base: &[u8], percent: usize) -> Vec<u8> {
    let mut random = Random(percent as u64 + 17);
    let mut raw = base.to_vec();
    for element in raw.chunks_exact_mut(dtype.element_bytes().unwrap_or(1)) {
        if random.below(100) < percent {
            nudge(dtype, element, &mut random);
        }
    }
    raw
}

/// Bytes that a change contains: the positions, for each as likely as any other, and order-0 entropy of each byte of
/// the XOR of changed elements.
pub fn entropy(width: usize, raw: &[u8], base: &[u8]) -> f64 {
    let bits = |count: usize, of: usize| {
        if count == 0 {
            0.0
        } else {
            -(count as f64) * (count as f64 / of as f64).log2()
        }
    };
    let mut counts = vec![[0usize; 256]; width];
    let mut changed = 0;
    for (element, old) in raw.chunks_exact(width).zip(base.chunks_exact(width)) {
        if element != old {
            changed += 1;
            for plane in 0..width {
                counts[plane][usize::from(element[plane] ^ old[plane])] += 1;
            }
        }
    }
    let elements = raw.len() / width;
    let values: f64 = counts
        .iter()
        .flatten()
        .map(|&count| bits(count, changed))
        .sum();
    (bits(changed, elements) + bits(elements - changed, elements) + values) / 8.0
}
