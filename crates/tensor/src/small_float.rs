//! Binary floats of 8 and 16 bits: one rounding and one decoding routine for all of them.

/// A format with the sign bit on top, then the exponent, then the mantissa.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmallFloat {
    exponent_bits: u32,
    mantissa_bits: u32,
    /// No infinities: only the code with all bits set is NaN, as in OCP's E4M3.
    finite_only: bool,
}

pub(crate) const F16: SmallFloat = SmallFloat::new(5, 10, false);
pub(crate) const BF16: SmallFloat = SmallFloat::new(8, 7, false);
pub(crate) const F8E4M3: SmallFloat = SmallFloat::new(4, 3, true);
pub(crate) const F8E5M2: SmallFloat = SmallFloat::new(5, 2, false);

impl SmallFloat {
    const fn new(exponent_bits: u32, mantissa_bits: u32, finite_only: bool) -> SmallFloat {
        SmallFloat {
            exponent_bits,
            mantissa_bits,
            finite_only,
        }
    }

    const fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// Returns the sign bit.
    pub(crate) const fn sign_bit(self) -> u16 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// Returns the smallest code, without sign, that is not finite.
    const fn first_special(self) -> u16 {
        if self.finite_only {
            self.sign_bit() - 1
        } else {
            ((1 << self.exponent_bits) - 1) << self.mantissa_bits
        }
    }

    /// Returns the positive quiet NaN without payload.
    pub(crate) const fn canonical_nan(self) -> u16 {
        if self.finite_only {
            self.first_special()
        } else {
            self.first_special() | 1 << (self.mantissa_bits - 1)
        }
    }

    /// Returns positive infinity, or NaN if there is none.
    pub(crate) const fn infinity(self) -> u16 {
        self.first_special()
    }

    pub(crate) const fn has_infinity(self) -> bool {
        !self.finite_only
    }

    pub(crate) const fn is_finite(self, code: u16) -> bool {
        code & (self.sign_bit() - 1) < self.first_special()
    }

    pub(crate) const fn is_nan(self, code: u16) -> bool {
        let magnitude = code & (self.sign_bit() - 1);
        magnitude > self.first_special() || self.finite_only && magnitude == self.first_special()
    }

    /// Returns the significand of a finite number and the number of its bits that are rounded away.
    #[inline(always)]
    fn split(self, magnitude: u64) -> (u64, u32, i32) {
        let exponent = (magnitude >> 52) as i32 - 1023;
        let significand = magnitude & ((1 << 52) - 1) | 1 << 52;
        let above = exponent - (1 - self.bias());
        let shift = 52 - self.mantissa_bits as i32 + (-above).clamp(0, 64);
        (significand, shift as u32, above)
    }

    /// Rounds to nearest, ties to even. Overflow gives infinity, or NaN if there is none.
    #[inline(always)]
    pub(crate) fn encode(self, value: f64) -> u16 {
        let bits = value.to_bits();
        let sign = if bits >> 63 == 0 { 0 } else { self.sign_bit() };
        let magnitude = bits & (u64::MAX >> 1);
        if magnitude >= 0x7ff << 52 {
            return sign | self.encode_special(magnitude);
        }
        let (significand, shift, above) = self.split(magnitude);
        // From 54 on even the largest significand is below half of the smallest number. Subnormal doubles, whose
        // significand has no leading bit, are far below.
        if shift >= 54 {
            return sign;
        }
        let half_less_one = (1u64 << (shift - 1)) - 1;
        let rounded = (significand + half_less_one + (significand >> shift & 1)) >> shift;
        // The leading bit of the significand adds the one by which the exponent field exceeds `above`.
        let code = rounded + ((above.max(0) as u64) << self.mantissa_bits);
        sign | code.min(u64::from(self.first_special())) as u16
    }

    fn encode_special(self, magnitude: u64) -> u16 {
        let payload = magnitude & ((1 << 52) - 1);
        if payload == 0 || self.finite_only {
            self.first_special()
        } else {
            self.canonical_nan() | (payload >> (52 - self.mantissa_bits)) as u16
        }
    }

    /// Returns whether a finite number is exactly between two neighbours of the format.
    pub(crate) fn is_midpoint(self, value: f64) -> bool {
        let (significand, shift, _) = self.split(value.to_bits() & (u64::MAX >> 1));
        shift < 54 && significand & ((1 << shift) - 1) == 1 << (shift - 1)
    }

    /// Returns the exact value; the payload of a NaN moves to the top of the mantissa and the NaN becomes quiet.
    #[inline(always)]
    pub(crate) const fn decode(self, code: u16) -> f32 {
        let magnitude = (code & (self.sign_bit() - 1)) as u32;
        let sign = if code & self.sign_bit() == 0 {
            0
        } else {
            1 << 31
        };
        let up = 23 - self.mantissa_bits;
        let bits = if self.is_nan(code) {
            0x7fc0_0000 | (magnitude & ((1 << self.mantissa_bits) - 1)) << up
        } else if magnitude >= self.first_special() as u32 {
            0x7f80_0000
        } else if magnitude >> self.mantissa_bits == 0 {
            let unit = 1023 + 1 - self.bias() - self.mantissa_bits as i32;
            let unit = f64::from_bits((unit as u64) << 52);
            ((magnitude as f64 * unit) as f32).to_bits()
        } else {
            (magnitude << up) + (((127 - self.bias()) as u32) << 23)
        };
        f32::from_bits(sign | bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_agrees_on_every_code_and_every_code_survives() {
        for code in 0..=u16::MAX {
            let f16 = half::f16::from_bits(code);
            assert_eq!(
                F16.decode(code).to_bits(),
                f16.to_f32().to_bits(),
                "{code:#06x}"
            );
            let bf16 = half::bf16::from_bits(code);
            assert_eq!(
                BF16.decode(code).to_bits(),
                bf16.to_f32().to_bits(),
                "{code:#06x}"
            );
            for format in [F16, BF16] {
                if !format.is_nan(code) {
                    assert_eq!(format.encode(f64::from(format.decode(code))), code);
                }
            }
        }
    }

    #[test]
    fn half_agrees_on_rounding_of_singles() {
        for bits in (0..=u32::MAX).step_by(7919) {
            let value = f32::from_bits(bits);
            if !value.is_nan() {
                assert_eq!(
                    F16.encode(value.into()),
                    half::f16::from_f32(value).to_bits(),
                    "{value:e}"
                );
                assert_eq!(
                    BF16.encode(value.into()),
                    half::bf16::from_f32(value).to_bits(),
                    "{value:e}"
                );
            }
        }
    }

    #[test]
    fn doubles_round_once() {
        // Slightly above the midpoint between 1 and the next f16: rounding to single first would lose the difference.
        let middle = 1.0 + 2f64.powi(-11);
        assert!(F16.is_midpoint(middle));
        assert_eq!(F16.encode(middle), 0x3c00);
        assert_eq!(F16.encode(middle + 2f64.powi(-50)), 0x3c01);
        assert_eq!(F16.encode(f64::from_bits(1)), 0);
        assert_eq!(F16.encode(-2f64.powi(-25)), 0x8000);
        assert_eq!(F16.encode(2f64.powi(-25) + 2f64.powi(-70)), 1);
        assert_eq!(F16.encode(65519.99), 0x7bff);
        assert_eq!(F16.encode(65520.0), 0x7c00);
        assert_eq!(BF16.encode(f64::MAX), 0x7f80);
    }
}
