//! The loops of a scan, with a fixed number of lanes on every machine: element `i` belongs to lane `i % LANES`, and
//! lanes are added in a fixed order, so that every machine computes the same bits.

use super::{Stats, higher, lower};

/// A power of two. Two or four vectors, which also hides the latency of the additions.
const LANES: usize = 16;

/// Groups in a block: after each, the lanes are added to the total, so that sums stay small.
const GROUPS: usize = 1 << 8;

/// Maximum number of elements whose mean is the base of all others.
const PILOT: usize = 4096;

/// Numbers relative to a base: their count, their mean and the sum of squared differences from it.
struct Offsets {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Offsets {
    /// Adds a block of `count` numbers with the given sum and sum of squares.
    ///
    /// The difference of sums is harmless here: the base is the mean of some of the numbers, so the loss is small
    /// compared to the deviation of all of them. Blocks are combined as in [`crate::moments`].
    fn add(&mut self, count: f64, sum: f64, sum_squares: f64) {
        if count == 0.0 {
            return;
        }
        let mean = sum / count;
        let squares = sum_squares - sum * mean;
        let squares = if squares < 0.0 { 0.0 } else { squares };
        let total = self.count + count;
        if self.mean.is_finite() && mean.is_finite() {
            let difference = mean - self.mean;
            self.mean += difference * (count / total);
            self.squares += squares + difference * difference * (self.count * (count / total));
        } else {
            self.mean += mean;
            self.squares = f64::NAN;
        }
        self.count = total;
    }
}

/// Returns the single whose upper half a `bf16` is.
#[inline(always)]
pub(super) fn bf16_to_f32(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// Converts an `f16` by integer arithmetic and one subtraction, without branches, so that it vectorises everywhere.
#[inline(always)]
pub(super) fn f16_to_f32(bytes: [u8; 2]) -> f32 {
    const EXPONENT: u32 = 0x7c00 << 13;
    const REBIAS: u32 = (127 - 15) << 23;
    let code = u32::from(u16::from_le_bytes(bytes));
    let magnitude = (code & 0x7fff) << 13;
    let exponent = magnitude & EXPONENT;
    // Infinity and NaN get a second adjustment; subnormals get an exponent, whose leading bit is subtracted again.
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
            let base = pilot(elements, decode);
            let base = base as $float;
            let mut offsets = Offsets { count: 0.0, mean: 0.0, squares: 0.0 };
            let (mut zeros, mut nans, mut infs) = (0u64, 0u64, 0u64);
            // The last group is padded with NaN, which changes nothing but its own counter.
            let mut last = [<$float>::NAN; LANES];
            for (value, &element) in last.iter_mut().zip(rest) {
                *value = decode(element);
            }
            let blocks = groups.chunks(GROUPS).map(Ok).chain(std::iter::once(Err(last)));
            for block in blocks {
                let mut sum = [0f64; LANES];
                let mut sum_squares = [0f64; LANES];
                let mut zero = [0 as $counter; LANES];
                let mut nan = [0 as $counter; LANES];
                let mut inf = [0 as $counter; LANES];
                let mut step = |values: [$float; LANES]| {
                    for i in 0..LANES {
                        let value = values[i];
                        min[i] = if value < min[i] { value } else { min[i] };
                        max[i] = if value > max[i] { value } else { max[i] };
                        let number = if value.is_nan() { base } else { value };
                        let offset = f64::from(number) - f64::from(base);
                        sum[i] += offset;
                        sum_squares[i] += offset * offset;
                        zero[i] += <$counter>::from(value == 0.0);
                        nan[i] += <$counter>::from(value.is_nan());
                        inf[i] += <$counter>::from(value.abs() == <$float>::INFINITY);
                    }
                };
                let count = match block {
                    Ok(groups) => {
                        groups.iter().for_each(|group| step(group.map(decode)));
                        groups.len() * LANES
                    }
                    Err(last) => {
                        step(last);
                        LANES
                    }
                };
                zeros += zero.iter().map(|&n| u64::from(n)).sum::<u64>();
                let block_nans = nan.iter().map(|&n| u64::from(n)).sum::<u64>();
                nans += block_nans;
                offsets.add((count as u64 - block_nans) as f64, add_up(sum), add_up(sum_squares));
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
                mean: if nans < count { f64::from(base) + offsets.mean } else { 0.0 },
                std: if nans < count { (offsets.squares / offsets.count).sqrt() } else { 0.0 },
                abs_max: if nans < count { min.abs().max(max.abs()) } else { 0.0 },
                zeros,
                nans,
                infs,
            }
        }
    };
}

scan_lanes!(
    /// Elements that are singles or convert to singles without rounding.
    singles, f32, u32
);
scan_lanes!(
    /// All other elements.
    doubles, f64, u64
);

/// Returns the mean of the finite ones among the first elements, never beyond their minimum and maximum; 0 for none.
#[inline(always)]
fn pilot<T: Copy, F: Into<f64>>(elements: &[T], decode: impl Fn(T) -> F) -> f64 {
    let (mut count, mut sum) = (0u32, 0.0);
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for &element in elements.iter().take(PILOT) {
        let value = decode(element).into();
        if value.is_finite() {
            count += 1;
            sum += value;
            min = lower(min, value);
            max = higher(max, value);
        }
    }
    if count == 0 {
        0.0
    } else {
        (sum / f64::from(count)).clamp(min, max)
    }
}

/// Returns the sum of elements and the sum of their squares.
#[inline(always)]
pub(super) fn sums<T: Copy>(elements: &[T], decode: impl Fn(T) -> f64 + Copy) -> (f64, f64) {
    let (mut total, mut total_squares) = (0.0, 0.0);
    for block in elements.chunks(GROUPS * LANES) {
        let mut sum = [0f64; LANES];
        let mut sum_squares = [0f64; LANES];
        let (groups, rest) = block.as_chunks::<LANES>();
        for group in groups {
            for i in 0..LANES {
                let value = decode(group[i]);
                sum[i] += value;
                sum_squares[i] += value * value;
            }
        }
        for (i, &element) in rest.iter().enumerate() {
            let value = decode(element);
            sum[i] += value;
            sum_squares[i] += value * value;
        }
        total += add_up(sum);
        total_squares += add_up(sum_squares);
    }
    (total, total_squares)
}

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
