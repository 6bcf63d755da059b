//! Statistics of many elements in one pass: the zone map of a stored chunk.

use crate::DType;
use crate::element::{Bool, Element};
use crate::float8::{F8E4M3, F8E5M2};
use crate::simd::{Kernel, dispatch};

mod lanes;

/// What a zone map records of some elements. Sums and extremes leave NaN out; extremes include infinities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Elements, NaN included.
    pub count: u64,
    /// The smallest number; +infinity when there is none.
    pub min: f64,
    /// The largest number; -infinity when there is none.
    pub max: f64,
    /// The sum of all numbers.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_squares: f64,
    /// The largest magnitude; 0 when there is no number.
    pub abs_max: f64,
    /// Zeros of either sign.
    pub zeros: u64,
    /// NaNs of any kind.
    pub nans: u64,
    /// Infinities of either sign.
    pub infs: u64,
}

impl Stats {
    /// Of no elements.
    pub const EMPTY: Stats = Stats {
        count: 0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        sum: 0.0,
        sum_squares: 0.0,
        abs_max: 0.0,
        zeros: 0,
        nans: 0,
        infs: 0,
    };

    /// Elements that are not NaN.
    pub fn numbers(&self) -> u64 {
        self.count.saturating_sub(self.nans)
    }

    /// The smallest number.
    pub fn min(&self) -> Option<f64> {
        (self.numbers() > 0).then_some(self.min)
    }

    /// The largest number.
    pub fn max(&self) -> Option<f64> {
        (self.numbers() > 0).then_some(self.max)
    }

    /// The largest magnitude.
    pub fn abs_max(&self) -> Option<f64> {
        (self.numbers() > 0).then_some(self.abs_max)
    }

    /// The mean of all numbers.
    pub fn mean(&self) -> Option<f64> {
        (self.numbers() > 0).then(|| self.sum / self.numbers() as f64)
    }

    /// The standard deviation of all numbers as a population.
    pub fn std(&self) -> Option<f64> {
        let mean = self.mean()?;
        let variance = self.sum_squares / self.numbers() as f64 - mean * mean;
        // Rounding may take it below zero; NaN stays NaN.
        Some(if variance < 0.0 { 0.0 } else { variance.sqrt() })
    }

    /// The Euclidean norm of all numbers.
    pub fn l2(&self) -> f64 {
        self.sum_squares.sqrt()
    }

    /// Adds the statistics of further elements.
    pub fn merge(&mut self, other: &Stats) {
        self.count += other.count;
        self.min = lower(self.min, other.min);
        self.max = higher(self.max, other.max);
        self.sum += other.sum;
        self.sum_squares += other.sum_squares;
        self.abs_max = higher(self.abs_max, other.abs_max);
        self.zeros += other.zeros;
        self.nans += other.nans;
        self.infs += other.infs;
    }
}

/// The lower of two numbers, the first when equal: unlike `f64::min` also defined for zeros of both signs.
#[inline(always)]
fn lower(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// The higher of two numbers, the first when equal.
#[inline(always)]
fn higher(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// The statistics of whole elements; `None` for dtypes without numbers of their own. The bytes need no alignment, and
/// the result is the same to the bit on every machine. 64-bit integers are taken as the nearest doubles.
pub fn scan(dtype: DType, data: &[u8]) -> Option<Stats> {
    dispatch(Scan { dtype, data })
}

/// The statistics of doubles in memory.
pub fn scan_f64(values: &[f64]) -> Stats {
    dispatch(ScanDoubles(values))
}

struct ScanDoubles<'a>(&'a [f64]);

impl Kernel for ScanDoubles<'_> {
    type Output = Stats;

    #[inline(always)]
    fn run(self) -> Stats {
        lanes::doubles(self.0, |v| v)
    }
}

struct Scan<'a> {
    dtype: DType,
    data: &'a [u8],
}

impl Kernel for Scan<'_> {
    type Output = Option<Stats>;

    #[inline(always)]
    fn run(self) -> Option<Stats> {
        let data = self.data;
        Some(match self.dtype {
            DType::F32 => lanes::singles(cut::<4>(data), f32::from_le_bytes),
            DType::BF16 => lanes::singles(cut::<2>(data), lanes::bf16_to_f32),
            DType::F16 => lanes::singles(cut::<2>(data), lanes::f16_to_f32),
            DType::F64 => lanes::doubles(cut::<8>(data), f64::from_le_bytes),
            DType::U16 => lanes::doubles(cut::<2>(data), |b| u16::from_le_bytes(b).into()),
            DType::I16 => lanes::doubles(cut::<2>(data), |b| i16::from_le_bytes(b).into()),
            DType::U32 => lanes::doubles(cut::<4>(data), |b| u32::from_le_bytes(b).into()),
            DType::I32 => lanes::doubles(cut::<4>(data), |b| i32::from_le_bytes(b).into()),
            DType::U64 => lanes::doubles(cut::<8>(data), |b| u64::from_le_bytes(b) as f64),
            DType::I64 => lanes::doubles(cut::<8>(data), |b| i64::from_le_bytes(b) as f64),
            DType::Bool => bytes::<Bool>(data),
            DType::U8 => bytes::<u8>(data),
            DType::I8 => bytes::<i8>(data),
            DType::F8E4M3 => bytes::<F8E4M3>(data),
            DType::F8E5M2 => bytes::<F8E5M2>(data),
            _ => return None,
        })
    }
}

/// The elements as arrays of bytes.
#[inline(always)]
fn cut<const BYTES: usize>(data: &[u8]) -> &[[u8; BYTES]] {
    data.as_chunks().0
}

/// Elements of one byte: counting each of the 256 codes is faster than arithmetic, and exact.
fn bytes<E: Element>(data: &[u8]) -> Stats {
    let mut counts = [0u64; 256];
    // Four tables, or equal neighbours would wait for each other; 32 bits suffice for a block.
    for block in data.chunks(1 << 30) {
        let mut tables = [[0u32; 256]; 4];
        let (quads, rest) = block.as_chunks::<4>();
        for quad in quads {
            for (table, &code) in tables.iter_mut().zip(quad) {
                table[usize::from(code)] += 1;
            }
        }
        rest.iter()
            .for_each(|&code| tables[0][usize::from(code)] += 1);
        for (i, count) in counts.iter_mut().enumerate() {
            *count += tables.iter().map(|t| u64::from(t[i])).sum::<u64>();
        }
    }
    let mut stats = Stats::EMPTY;
    for (code, &count) in (0..=u8::MAX).zip(&counts) {
        let value = E::load(&[code]).to_f64();
        stats.count += count;
        if count == 0 {
            continue;
        }
        if value.is_nan() {
            stats.nans += count;
            continue;
        }
        stats.min = lower(stats.min, value);
        stats.max = higher(stats.max, value);
        stats.abs_max = higher(stats.abs_max, value.abs());
        stats.sum += value * count as f64;
        stats.sum_squares += value * value * count as f64;
        stats.zeros += if value == 0.0 { count } else { 0 };
        stats.infs += if value.is_infinite() { count } else { 0 };
    }
    stats
}

/// The path without special instructions, for comparison.
#[cfg(test)]
fn scan_baseline(dtype: DType, data: &[u8]) -> Option<Stats> {
    Scan { dtype, data }.run()
}

#[cfg(test)]
mod tests;
