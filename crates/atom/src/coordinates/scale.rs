//! Scales counts and sums to the 28 bits of a coordinate.

use crate::AXIS_BITS;

/// The last value of a coordinate.
pub(super) const LAST: u32 = (1 << AXIS_BITS) - 1;

/// Returns a · b / c rounded down, at most `u64::MAX`; 0 if c is 0.
pub(super) fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    if c == 0 {
        return 0;
    }
    // Divisions of 128 bits are slow, and short contents do not need them.
    match a.checked_mul(b) {
        Some(product) => product / c,
        None => saturating(u128::from(a) * u128::from(b) / u128::from(c)),
    }
}

/// Returns the number, at most `u64::MAX`.
pub(super) fn saturating(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Returns the number, at most [`LAST`].
pub(super) fn clamp(number: u64) -> u32 {
    number.min(u64::from(LAST)) as u32
}

/// Returns part / whole as a coordinate: the whole or more is [`LAST`]; 0 of 0 is 0.
pub(super) fn share(part: u64, whole: u64) -> u32 {
    clamp(mul_div(part, LAST.into(), whole))
}

/// Returns log2(1 + value / 2^unit) · 2^octave, linear between powers of two, at most [`LAST`]. Both exponents are
/// below 32.
pub(super) fn log2(value: u64, unit: u32, octave: u32) -> u32 {
    let number = value.saturating_add(1 << unit);
    let power = number.ilog2();
    let beyond = number - (1 << power);
    let fraction = if power > octave {
        beyond >> (power - octave)
    } else {
        beyond << (octave - power)
    };
    clamp((u64::from(power - unit) << octave) + fraction)
}

/// Returns the coordinate of a length in bytes: log2(1 + bytes) · 2^23, which ends at 4 GiB.
pub(super) fn length(bytes: u64) -> u32 {
    log2(bytes, 0, 23)
}

/// Returns a number from 0 to 1 as a coordinate; 1 is [`LAST`].
pub(super) fn unit(number: f64) -> u32 {
    clamp((number * f64::from(1u32 << AXIS_BITS)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_exact_at_powers_and_grow_between() {
        for power in 0..32u32 {
            assert_eq!(length((1 << power) - 1), power << 23);
        }
        assert_eq!(length(2), (1 << 23) + (1 << 22));
        assert_eq!(length((1 << 32) - 2), LAST);
        assert_eq!(length(u64::MAX), LAST);
        assert_eq!(log2(32768 << 13, 13, 24), (15 << 24) + (1 << 9));
        let mut before = 0;
        for value in (0..1 << 28).step_by(9973) {
            let now = log2(value, 12, 24);
            assert!(now >= before);
            // Never further from the logarithm than the line is.
            let exact = (1.0 + value as f64 / 4096.0).log2() * f64::from(1 << 24);
            let off = exact - f64::from(now);
            assert!((-1.0..0.0861 * f64::from(1 << 24)).contains(&off));
            before = now;
        }
    }

    #[test]
    fn shares_saturate() {
        assert_eq!(share(0, 0), 0);
        assert_eq!(share(1, 0), 0);
        assert_eq!(share(1, 2), LAST / 2);
        assert_eq!(share(7, 7), LAST);
        assert_eq!(share(u64::MAX, u64::MAX), LAST);
        assert_eq!(share(u64::MAX, 1), LAST);
        assert_eq!(mul_div(u64::MAX, u64::MAX, 1), u64::MAX);
        assert_eq!(mul_div(1 << 62, 6, 1 << 60), 24);
        assert_eq!(unit(1.0), LAST);
        assert_eq!(unit(0.5), 1 << 27);
    }
}
