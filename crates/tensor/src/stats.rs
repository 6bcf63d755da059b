//! Statistics of many elements in one pass: the zone map of a stored chunk.

use crate::DType;
use crate::element::{Bool, Element};
use crate::float8::{F8E4M3, F8E5M2};
use crate::moments::{Moments, scale_for};
use crate::simd::{Kernel, dispatch};

mod lanes;

/// The statistics in a zone map. Everything except the counts ignores NaN; extremes include infinities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Number of elements, including NaN.
    pub count: u64,
    /// The smallest number; +infinity if there is none.
    pub min: f64,
    /// The largest number; -infinity if there is none.
    pub max: f64,
    /// The mean of all numbers; 0 if there is none.
    pub mean: f64,
    /// Their population standard deviation; 0 if there is none, NaN if one is infinite.
    pub std: f64,
    /// The largest magnitude; 0 if there is no number.
    pub abs_max: f64,
    /// Zeros of either sign.
    pub zeros: u64,
    /// NaNs of any kind.
    pub nans: u64,
    /// Infinities of either sign.
    pub infs: u64,
}

impl Stats {
    /// The statistics of no elements.
    pub const EMPTY: Stats = Stats {
        count: 0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        mean: 0.0,
        std: 0.0,
        abs_max: 0.0,
        zeros: 0,
        nans: 0,
        infs: 0,
    };

    /// Returns the number of elements that are not NaN.
    pub fn numbers(&self) -> u64 {
        self.count.saturating_sub(self.nans)
    }

    /// Returns the smallest number.
    pub fn min(&self) -> Option<f64> {
        (self.numbers() > 0).then_some(self.min)
    }

    /// Returns the largest number.
    pub fn max(&self) -> Option<f64> {
        (self.numbers() > 0).then_some(self.max)
    }

    /// Returns the largest magnitude.
    pub fn abs_max(&self) -> Option<f64> {
        (self.numbers() > 0).then_some(self.abs_max)
    }

    /// Returns the mean of all numbers.
    pub fn mean(&self) -> Option<f64> {
        (self.numbers() > 0).then_some(self.mean)
    }

    /// Returns the population standard deviation of all numbers.
    pub fn std(&self) -> Option<f64> {
        (self.numbers() > 0).then_some(self.std)
    }

    /// Returns the Euclidean norm of all numbers.
    pub fn l2(&self) -> f64 {
        Moments::l2(&[self.moments()])
    }

    fn moments(&self) -> Moments {
        Moments {
            count: self.numbers(),
            mean: self.mean,
            std: self.std,
        }
    }

    /// Adds the statistics of further elements.
    pub fn merge(&mut self, other: &Stats) {
        let merged = Moments::merge(&[self.moments(), other.moments()]);
        (self.mean, self.std) = (merged.mean, merged.std);
        self.count += other.count;
        self.min = lower(self.min, other.min);
        self.max = higher(self.max, other.max);
        self.abs_max = higher(self.abs_max, other.abs_max);
        self.zeros += other.zeros;
        self.nans += other.nans;
        self.infs += other.infs;
    }
}

/// Returns the lower of two numbers, the first if equal: unlike `f64::min` also defined for zeros of both signs.
#[inline(always)]
fn lower(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// Returns the higher of two numbers, the first if equal.
#[inline(always)]
fn higher(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// Returns the statistics of whole elements; `None` for non-numeric dtypes. The bytes need no alignment, and the result
/// is the same to the bit on every machine. 64-bit integers are rounded to the nearest doubles.
pub fn scan(dtype: DType, data: &[u8]) -> Option<Stats> {
    dispatch(Scan { dtype, data })
}

/// Returns the statistics of doubles in memory.
pub fn scan_f64(values: &[f64]) -> Stats {
    dispatch(ScanDoubles(values))
}

struct ScanDoubles<'a>(&'a [f64]);

impl Kernel for ScanDoubles<'_> {
    type Output = Stats;

    #[inline(always)]
    fn run(self) -> Stats {
        any_doubles(self.0, |v| v)
    }
}

/// Returns the sum of all elements and the sum of their squares, including NaN; `None` for non-numeric dtypes.
pub(crate) fn sums(dtype: DType, data: &[u8]) -> Option<(f64, f64)> {
    dispatch(Sums { dtype, data })
}

/// Returns the same sums of doubles in memory.
pub(crate) fn sums_f64(values: &[f64]) -> (f64, f64) {
    lanes::sums(values, |v| v)
}

struct Sums<'a> {
    dtype: DType,
    data: &'a [u8],
}

impl Kernel for Sums<'_> {
    type Output = Option<(f64, f64)>;

    #[inline(always)]
    fn run(self) -> Option<(f64, f64)> {
        let data = self.data;
        Some(match self.dtype {
            DType::F32 => lanes::sums(cut::<4>(data), |b| f32::from_le_bytes(b).into()),
            DType::BF16 => lanes::sums(cut::<2>(data), |b| lanes::bf16_to_f32(b).into()),
            DType::F16 => lanes::sums(cut::<2>(data), |b| lanes::f16_to_f32(b).into()),
            DType::F64 => lanes::sums(cut::<8>(data), f64::from_le_bytes),
            DType::U16 => lanes::sums(cut::<2>(data), |b| u16::from_le_bytes(b).into()),
            DType::I16 => lanes::sums(cut::<2>(data), |b| i16::from_le_bytes(b).into()),
            DType::U32 => lanes::sums(cut::<4>(data), |b| u32::from_le_bytes(b).into()),
            DType::I32 => lanes::sums(cut::<4>(data), |b| i32::from_le_bytes(b).into()),
            DType::U64 => lanes::sums(cut::<8>(data), |b| u64::from_le_bytes(b) as f64),
            DType::I64 => lanes::sums(cut::<8>(data), |b| i64::from_le_bytes(b) as f64),
            DType::Bool => lanes::sums(data, |b| Bool(b).to_f64()),
            DType::U8 => lanes::sums(data, f64::from),
            DType::I8 => lanes::sums(data, |b| f64::from(b as i8)),
            DType::F8E4M3 => lanes::sums(data, |b| F8E4M3::load(&[b]).to_f64()),
            DType::F8E5M2 => lanes::sums(data, |b| F8E5M2::load(&[b]).to_f64()),
            _ => return None,
        })
    }
}

/// Scans doubles of any magnitude: if squares would overflow or underflow, the numbers are scaled and scanned again.
#[inline(always)]
fn any_doubles<T: Copy>(elements: &[T], decode: impl Fn(T) -> f64 + Copy) -> Stats {
    let mut stats = lanes::doubles(elements, decode);
    let scale = scale_for(stats.abs_max);
    if scale != 1.0 {
        let scaled = lanes::doubles(elements, |element| decode(element) * scale);
        (stats.mean, stats.std) = (scaled.mean / scale, scaled.std / scale);
    }
    stats
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
            DType::F64 => any_doubles(cut::<8>(data), f64::from_le_bytes),
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

/// Returns the elements as arrays of bytes.
#[inline(always)]
fn cut<const BYTES: usize>(data: &[u8]) -> &[[u8; BYTES]] {
    data.as_chunks().0
}

/// Scans elements of one byte: counting each of the 256 codes is faster than arithmetic, and exact.
fn bytes<E: Element>(data: &[u8]) -> Stats {
    let mut counts = [0u64; 256];
    // Four tables, so that equal neighbours do not wait for each other; 32 bits suffice for a block.
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
    let values = || {
        (0..=u8::MAX)
            .map(|code| E::load(&[code]).to_f64())
            .zip(counts)
    };
    let numbers = || values().filter(|(value, count)| *count > 0 && !value.is_nan());
    let mut stats = Stats::EMPTY;
    for (value, count) in values() {
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
        stats.zeros += if value == 0.0 { count } else { 0 };
        stats.infs += if value.is_infinite() { count } else { 0 };
    }
    let total = stats.numbers() as f64;
    if total > 0.0 {
        stats.mean = numbers().map(|(value, n)| value * n as f64).sum::<f64>() / total;
        let squares = numbers().map(|(value, n)| {
            let difference = value - stats.mean;
            difference * difference * n as f64
        });
        stats.std = (squares.sum::<f64>() / total).sqrt();
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
