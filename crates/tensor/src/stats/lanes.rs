//! The loops behind a scan, over a fixed number of lanes whatever the machine: element `i` goes to lane `i % LANES`,
//! and lanes are added in a fixed order, so that every machine computes the same bits.

use super::{Stats, higher, lower};

/// A power of two. Two or four vectors, which also hides the latency of the additions.
const LANES: usize = 16;

/// Groups after which the counters of the lanes are emptied; fits 32 bits.
const GROUPS: usize = 1 << 20;

/// The single a `bf16` is the upper half of.
#[inline(always)]
pub(super) fn bf16_to_f32(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// An `f16` by integer arithmetic and one subtraction, without branches, so that it vectorises everywhere.
#[inline(always)]
pub(super) fn f16_to_f32(bytes: [u8; 2]) -> f32 {
    const EXPONENT: u32 = 0x7c00 << 13;
    const REBIAS: u32 = (127 - 15) << 23;
    let code = u32::from(u16::from_le_bytes(bytes));
    let magnitude = (code & 0x7fff) << 13;
    let exponent = magnitude & EXPONENT;
    // Infinity and NaN move up once more; subnormals get an exponent, and its leading bit subtracted again.
    let special = if exponent == EXPONENT { REBIAS } else { 0 };
    let normal = magnitude + REBIAS + special;
    let subnormal =
        f32::from_bits(magnitude + REBIAS + (1 << 23)) - f32::from_bits(REBIAS + (1 << 23));
    let bits = if exponent == 0 {
        subnormal.to_bits()
    } else {
        normal
    };
    f32::from_bits(bits | (code & 0x8000) << 16)
}

macro_rules! scan_lanes {
    ($(#[$doc:meta])* $name:ident, $float:ty, $counter:ty) => {
        $(#[$doc])*
        #[inline(always)]
        pub(super) fn $name<T: Copy>(elements: &[T], decode: impl Fn(T) -> $float + Copy) -> Stats {
            let (groups, rest) = elements.as_chunks::<LANES>();
            let mut min = [<$float>::INFINITY; LANES];
            let mut max = [<$float>::NEG_INFINITY; LANES];
            let mut sum = [0f64; LANES];
            let mut sum_squares = [0f64; LANES];
            let (mut zeros, mut nans, mut infs) = (0u64, 0u64, 0u64);
            // The last group is filled up with NaN, which changes nothing but its own counter.
            let mut last = [<$float>::NAN; LANES];
            for (value, &element) in last.iter_mut().zip(rest) {
                *value = decode(element);
            }
            let blocks = groups.chunks(GROUPS).map(Ok).chain(std::iter::once(Err(last)));
            for block in blocks {
                let mut zero = [0 as $counter; LANES];
                let mut nan = [0 as $counter; LANES];
                let mut inf = [0 as $counter; LANES];
                let mut step = |values: [$float; LANES]| {
                    for i in 0..LANES {
                        let value = values[i];
                        min[i] = if value < min[i] { value } else { min[i] };
                        max[i] = if value > max[i] { value } else { max[i] };
                        let number = f64::from(if value.is_nan() { 0.0 } else { value });
                        sum[i] += number;
                        sum_squares[i] += number * number;
                        zero[i] += <$counter>::from(value == 0.0);
                        nan[i] += <$counter>::from(value.is_nan());
                        inf[i] += <$counter>::from(value.abs() == <$float>::INFINITY);
                    }
                };
                match block {
                    Ok(groups) => groups.iter().for_each(|group| step(group.map(decode))),
                    Err(last) => step(last),
                }
                zeros += zero.iter().map(|&n| u64::from(n)).sum::<u64>();
                nans += nan.iter().map(|&n| u64::from(n)).sum::<u64>();
                infs += inf.iter().map(|&n| u64::from(n)).sum::<u64>();
            }
            let min = min.iter().fold(f64::INFINITY, |a, &b| lower(a, b.into()));
            let max = max.iter().fold(f64::NEG_INFINITY, |a, &b| higher(a, b.into()));
            let nans = nans - (LANES - rest.len()) as u64;
            let count = elements.len() as u64;
            Stats {
                count,
                min,
                max,
                sum: add_up(sum),
                sum_squares: add_up(sum_squares),
                abs_max: if nans < count { min.abs().max(max.abs()) } else { 0.0 },
                zeros,
                nans,
                infs,
            }
        }
    };
}

scan_lanes!(
    /// Elements that are singles or become singles without rounding.
    singles, f32, u32
);
scan_lanes!(
    /// All other elements.
    doubles, f64, u64
);

/// Adds lanes pairwise, the far half to the near half.
fn add_up(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}
