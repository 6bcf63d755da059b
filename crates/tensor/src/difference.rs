//! Compares two sequences of numbers: the Euclidean norm and the largest magnitude of their difference, and the cosine
//! of the angle between them. Products that would overflow or underflow are scaled.

use crate::moments::scale_for;

/// Numbers whose products are summed before the sum is added to the total.
const BLOCK: usize = 1024;

/// A sum that may exceed a double: `value * 2^exponent`.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    value: f64,
    exponent: i32,
}

impl Sum {
    /// Adds the sum of products of numbers that were scaled by these powers of two.
    fn add(&mut self, value: f64, a_scale: f64, b_scale: f64) {
        if value == 0.0 {
            return;
        }
        let exponent = -(exponent_of(a_scale) + exponent_of(b_scale));
        if self.value == 0.0 {
            *self = Sum { value, exponent };
            return;
        }
        let highest = self.exponent.max(exponent);
        let down = |value: f64, exponent: i32| times_power(value, exponent - highest);
        *self = Sum {
            value: down(self.value, self.exponent) + down(value, exponent),
            exponent: highest,
        };
    }

    /// Returns the square root; its exponent is half of the even one of the sum.
    fn sqrt(self) -> Sum {
        Sum {
            value: self.value.sqrt(),
            exponent: self.exponent / 2,
        }
    }

    fn to_f64(self) -> f64 {
        times_power(self.value, self.exponent)
    }
}

/// Returns the exponent of a power of two.
fn exponent_of(power: f64) -> i32 {
    (power.to_bits() >> 52) as i32 - 1023
}

/// Returns `value * 2^exponent`, in steps that are powers of two themselves.
fn times_power(mut value: f64, mut exponent: i32) -> f64 {
    while exponent != 0 {
        let step = exponent.clamp(-1000, 1000);
        value *= f64::from_bits(((1023 + step) as u64) << 52);
        exponent -= step;
    }
    value
}

/// The difference of two sequences that arrive in parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Difference {
    squares: Sum,
    max_abs: f64,
    dot: Sum,
    xx: Sum,
    yy: Sum,
}

impl Difference {
    /// Adds the same number of elements of each.
    pub fn add(&mut self, xs: &[f64], ys: &[f64]) {
        for (xs, ys) in xs.chunks(BLOCK).zip(ys.chunks(BLOCK)) {
            self.add_block(xs, ys);
        }
    }

    fn add_block(&mut self, xs: &[f64], ys: &[f64]) {
        let ([x_most, y_most, most], _) = by_lanes(xs, ys, |[x_most, y_most, most, _], x, y| {
            [
                larger(x_most, x.abs()),
                larger(y_most, y.abs()),
                larger(most, (y - x).abs()),
                0.0,
            ]
        })
        .split(larger);
        let (x_scale, y_scale, scale) = (scale_for(x_most), scale_for(y_most), scale_for(most));
        let ([squares, dot, xx], yy) = by_lanes(xs, ys, |[squares, dot, xx, yy], x, y| {
            let difference = (y - x) * scale;
            let (x, y) = (x * x_scale, y * y_scale);
            [
                squares + difference * difference,
                dot + x * y,
                xx + x * x,
                yy + y * y,
            ]
        })
        .split(|a, b| a + b);
        // The square of a NaN alone is NaN.
        let most = if squares.is_nan() { f64::NAN } else { most };
        self.max_abs = if self.max_abs.is_nan() || most.is_nan() {
            f64::NAN
        } else {
            larger(self.max_abs, most)
        };
        self.squares.add(squares, scale, scale);
        self.dot.add(dot, x_scale, y_scale);
        self.xx.add(xx, x_scale, x_scale);
        self.yy.add(yy, y_scale, y_scale);
    }

    /// Returns the Euclidean norm of the difference.
    pub fn l2(&self) -> f64 {
        self.squares.sqrt().to_f64()
    }

    /// Returns its largest magnitude; NaN if it contains a NaN.
    pub fn max_abs(&self) -> f64 {
        self.max_abs
    }

    /// Returns the cosine of the two; `None` if one of them is zero or a number is not finite.
    pub fn cosine(&self) -> Option<f64> {
        let (x, y) = (self.xx.sqrt(), self.yy.sqrt());
        let norms = x.value * y.value;
        let cosine = times_power(
            self.dot.value / norms,
            self.dot.exponent - x.exponent - y.exponent,
        );
        (norms > 0.0 && norms.is_finite()).then(|| cosine.clamp(-1.0, 1.0))
    }
}

/// Returns the larger of two numbers; ignores a NaN in second place.
#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// Lanes processed in parallel.
const LANES: usize = 8;

/// Four values for each lane.
struct Lanes([[f64; 4]; LANES]);

impl Lanes {
    /// Combines all lanes with `join`; the last value is returned separately.
    fn split(self, join: impl Fn(f64, f64) -> f64) -> ([f64; 3], f64) {
        let [a, b, c, d] = self.0.into_iter().fold([0.0; 4], |all, lane| {
            std::array::from_fn(|i| join(all[i], lane[i]))
        });
        ([a, b, c], d)
    }
}

/// Runs `step` on all pairs, element `i` in lane `i % LANES`; everything starts at 0.
#[inline(always)]
fn by_lanes(xs: &[f64], ys: &[f64], step: impl Fn([f64; 4], f64, f64) -> [f64; 4]) -> Lanes {
    let mut lanes = [[0.0; 4]; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (xs.as_chunks::<LANES>(), ys.as_chunks::<LANES>());
    for (xs, ys) in xs.iter().zip(ys) {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], xs[i], ys[i]);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane = step(*lane, x, y);
    }
    Lanes(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(xs: &[f64], ys: &[f64]) -> (f64, f64, Option<f64>) {
        let mut difference = Difference::default();
        difference.add(xs, ys);
        (difference.l2(), difference.max_abs(), difference.cosine())
    }

    #[test]
    fn plain_numbers() {
        assert_eq!(
            of(&[1.0, 0.0], &[4.0, 4.0]),
            (5.0, 4.0, Some(1.0 / 2f64.sqrt()))
        );
        assert_eq!(of(&[0.0], &[2.0]), (2.0, 2.0, None));
        assert_eq!(of(&[], &[]), (0.0, 0.0, None));
        let (l2, max_abs, cosine) = of(&[1.0, f64::NAN], &[1.0, 2.0]);
        assert!(l2.is_nan() && max_abs.is_nan() && cosine.is_none());
        assert_eq!(of(&[f64::INFINITY], &[1.0]).0, f64::INFINITY);
    }

    #[test]
    fn extremes_neither_overflow_nor_vanish() {
        for scale in [1e200, 1e-200, 1e300, 1e-300, 1.0] {
            let (l2, max_abs, cosine) = of(&[0.0, 3.0 * scale], &[3.0 * scale, -scale]);
            assert!((l2 / (5.0 * scale) - 1.0).abs() < 1e-15, "{scale}");
            assert_eq!(max_abs, 4.0 * scale);
            let expected = -1.0 / 10f64.sqrt();
            assert!(
                cosine.is_some_and(|c| (c - expected).abs() < 1e-15),
                "{scale} {cosine:?}"
            );
        }
        // One of them large, the other small.
        let cosine = of(&[1e200, 1e200], &[1e-200, 0.0]).2;
        assert!(cosine.is_some_and(|c| (c - 0.5f64.sqrt()).abs() < 1e-15));
        // Blocks of different magnitude in both orders.
        let mut xs = vec![1e-200; 2 * BLOCK];
        xs[0] = 1e200;
        let ys = vec![0.0; 2 * BLOCK];
        assert_eq!(of(&xs, &ys).0, 1e200);
        xs.reverse();
        assert_eq!(of(&xs, &ys).0, 1e200);
    }
}
