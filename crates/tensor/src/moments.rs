//! Mean and standard deviation of numbers that arrive in parts.
//!
//! A variance computed as the difference of two large sums loses all its digits if the numbers are far from zero. Here
//! each part has its own mean and deviation, and parts are combined by the pairwise formula of T. F. Chan, G. H. Golub
//! and R. J. LeVeque, "Algorithms for computing the sample variance: analysis and recommendations", The American
//! Statistician 37 (1983), which only adds nonnegative terms. Deviations are kept rather than their squares, and
//! extreme numbers are scaled, so that nothing overflows or underflows that a double can represent.

/// Magnitudes above this are scaled down before they are squared: the sum of 2^40 squares stays finite.
const LARGE: f64 = 1e140;

/// Magnitudes below this are scaled up before they are squared.
const SMALL: f64 = 1e-100;

/// Returns the power of two by which numbers of at most this magnitude are multiplied before they are squared.
pub(crate) fn scale_for(magnitude: f64) -> f64 {
    const EXPONENT_BIAS: u64 = 1023;
    if magnitude > LARGE && magnitude.is_finite() {
        f64::from_bits((EXPONENT_BIAS - 600) << 52)
    } else if magnitude < SMALL && magnitude > 0.0 {
        f64::from_bits((EXPONENT_BIAS + 600) << 52)
    } else {
        1.0
    }
}

/// The count of some numbers, their mean and their population standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Count of the numbers, without NaN.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation; NaN if one of them is infinite.
    pub std: f64,
}

impl Moments {
    /// The moments of no numbers.
    pub const EMPTY: Moments = Moments {
        count: 0,
        mean: 0.0,
        std: 0.0,
    };

    /// Combines the moments of all parts.
    pub fn merge(parts: &[Moments]) -> Moments {
        let mut parts_with_numbers = parts.iter().filter(|part| part.count > 0);
        let Some(first) = parts_with_numbers.next() else {
            return Moments::EMPTY;
        };
        if parts_with_numbers.next().is_none() {
            return *first;
        }
        let parts = || parts.iter().filter(|part| part.count > 0);
        let count = parts().fold(0u64, |n, part| n.saturating_add(part.count));
        let total = count as f64;
        if parts().any(|part| !part.mean.is_finite()) {
            // Infinity dominates numbers, and two of different signs have no mean.
            let mean = parts().fold(0.0, |mean, part| mean + part.mean / total);
            return Moments {
                count,
                mean,
                std: f64::NAN,
            };
        }
        let scale =
            scale_for(parts().fold(0.0, |most, part| part.mean.abs().max(part.std).max(most)));
        // Means relative to one of them: their differences are exact if the means are close.
        let base = first.mean * scale;
        let offset = |part: &Moments| part.mean * scale - base;
        let shift = parts()
            .map(|part| part.count as f64 * offset(part))
            .sum::<f64>()
            / total;
        let squares = parts().map(|part| {
            let (between, within) = (offset(part) - shift, part.std * scale);
            part.count as f64 * (within * within + between * between)
        });
        Moments {
            count,
            mean: (base + shift) / scale,
            std: (squares.sum::<f64>() / total).sqrt() / scale,
        }
    }

    /// Returns the Euclidean norm of the numbers of all parts.
    pub fn l2(parts: &[Moments]) -> f64 {
        let parts = || parts.iter().filter(|part| part.count > 0);
        if parts().any(|part| !part.mean.is_finite() || part.std.is_nan()) {
            return f64::INFINITY;
        }
        let scale =
            scale_for(parts().fold(0.0, |most, part| part.mean.abs().max(part.std).max(most)));
        let squares = parts().map(|part| {
            let (mean, std) = (part.mean * scale, part.std * scale);
            part.count as f64 * (std * std + mean * mean)
        });
        // An empty sum is -0 in Rust.
        squares.fold(0.0, |sum, square| sum + square).sqrt() / scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u64, mean: f64, std: f64) -> Moments {
        Moments { count, mean, std }
    }

    #[test]
    fn parts_far_from_zero() {
        let merged = Moments::merge(&[
            of(1, 1.7e12, 0.0),
            of(1, 1.7e12 + 1.0, 0.0),
            of(1, 1.7e12 + 2.0, 0.0),
        ]);
        assert_eq!(merged, of(3, 1.7e12 + 1.0, (2.0f64 / 3.0).sqrt()));
        assert_eq!(
            Moments::merge(&[of(0, 9.0, 9.0), of(5, 0.1, 0.25), Moments::EMPTY]),
            of(5, 0.1, 0.25)
        );
        assert_eq!(Moments::merge(&[of(3, 0.1, 0.0); 7]), of(21, 0.1, 0.0));
        assert_eq!(Moments::merge(&[]), Moments::EMPTY);
    }

    #[test]
    fn extremes_neither_overflow_nor_vanish() {
        let most = f64::MAX;
        assert_eq!(
            Moments::merge(&[of(2, most, 0.0), of(2, most, 0.0)]),
            of(4, most, 0.0)
        );
        let merged = Moments::merge(&[of(1, most, 0.0), of(1, -most, 0.0)]);
        assert_eq!((merged.mean, merged.std), (0.0, most));
        let least = f64::from_bits(1);
        let merged = Moments::merge(&[of(1, 3.0 * least, 0.0), of(1, -3.0 * least, 0.0)]);
        assert_eq!((merged.mean, merged.std), (0.0, 3.0 * least));
        let huge = Moments::l2(&[of(1, 3e200, 0.0), of(1, -4e200, 0.0)]);
        assert!((huge / 5e200 - 1.0).abs() < 1e-15);
        assert_eq!(
            Moments::l2(&[of(1, 3e-200, 0.0), of(1, -4e-200, 0.0)]),
            5e-200
        );
        assert_eq!(Moments::l2(&[of(4, most, 0.0)]), f64::INFINITY);
        assert!(Moments::l2(&[]).is_sign_positive());
    }

    #[test]
    fn infinities_are_as_ieee_has_them() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let merged = Moments::merge(&[of(1, inf, nan), of(1, 1.0, 0.0)]);
        assert!(merged.mean == inf && merged.std.is_nan());
        let merged = Moments::merge(&[of(1, inf, nan), of(1, -inf, nan)]);
        assert!(merged.mean.is_nan() && merged.std.is_nan());
        assert_eq!(Moments::l2(&[of(2, nan, nan), of(1, 1.0, 0.0)]), inf);
    }
}
