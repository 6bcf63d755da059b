//! 8-bit floats of the OCP specification, as in numpy's ml_dtypes.
//!
//! `f8_e4m3` is E4M3: no infinities, `S.1111.111` is NaN, the largest number is 448. Overflow becomes NaN.
//! `f8_e5m2` is E5M2: a short f16 with infinities. Both round to nearest, ties to even.

use crate::small_float::{self, SmallFloat};

macro_rules! float8 {
    ($name:ident, $format:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(u8);

        impl $name {
            const FORMAT: SmallFloat = small_float::$format;
            const VALUES: [f32; 256] = values(Self::FORMAT);

            /// Returns the number with these bits.
            pub const fn from_bits(bits: u8) -> $name {
                $name(bits)
            }

            /// Returns the bits.
            pub const fn to_bits(self) -> u8 {
                self.0
            }

            /// Returns the nearest number.
            pub fn from_f32(value: f32) -> $name {
                $name::from_f64(f64::from(value))
            }

            /// Returns the nearest number, rounded once.
            #[inline(always)]
            pub fn from_f64(value: f64) -> $name {
                // The codes of an 8-bit format have 8 bits.
                $name(Self::FORMAT.encode(value) as u8)
            }

            /// Returns the exact value.
            #[inline(always)]
            pub const fn to_f32(self) -> f32 {
                Self::VALUES[self.0 as usize]
            }

            /// Returns whether it is a NaN.
            pub const fn is_nan(self) -> bool {
                Self::FORMAT.is_nan(self.0 as u16)
            }
        }
    };
}

float8!(
    F8E4M3,
    F8E4M3,
    "`f8_e4m3`: sign, 4 bits of exponent, 3 of mantissa, no infinities."
);
float8!(
    F8E5M2,
    F8E5M2,
    "`f8_e5m2`: sign, 5 bits of exponent, 2 of mantissa."
);

const fn values(format: SmallFloat) -> [f32; 256] {
    let mut values = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        values[code] = format.decode(code as u16);
        code += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the value of a code by the definition, in doubles.
    fn by_definition(code: u8, mantissa_bits: u32, bias: i32) -> f64 {
        let mantissa = f64::from(code & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
        let exponent = i32::from(code & 0x7f) >> mantissa_bits;
        let magnitude = if exponent == 0 {
            mantissa * 2f64.powi(1 - bias)
        } else {
            (1.0 + mantissa) * 2f64.powi(exponent - bias)
        };
        if code < 0x80 { magnitude } else { -magnitude }
    }

    #[test]
    fn every_code_has_its_value_and_survives() {
        for code in 0..=255u8 {
            let e4m3 = F8E4M3::from_bits(code);
            if code & 0x7f == 0x7f {
                assert!(e4m3.is_nan() && e4m3.to_f32().is_nan());
            } else {
                assert_eq!(
                    f64::from(e4m3.to_f32()).to_bits(),
                    by_definition(code, 3, 7).to_bits()
                );
            }
            assert_eq!(F8E4M3::from_f32(e4m3.to_f32()), e4m3);
            let e5m2 = F8E5M2::from_bits(code);
            match code & 0x7f {
                0x7c => assert!(e5m2.to_f32().is_infinite() && !e5m2.is_nan()),
                0x7d.. => assert!(e5m2.is_nan() && e5m2.to_f32().is_nan()),
                _ => assert_eq!(
                    f64::from(e5m2.to_f32()).to_bits(),
                    by_definition(code, 2, 15).to_bits()
                ),
            }
            if code & 0x7f != 0x7d {
                assert_eq!(F8E5M2::from_f32(e5m2.to_f32()), e5m2);
            }
        }
    }

    #[test]
    fn every_middle_goes_to_the_even_neighbour_and_a_hair_off_to_the_near_one() {
        for code in 0..0x7eu8 {
            let (low, high) = (F8E4M3(code).to_f32(), F8E4M3(code + 1).to_f32());
            check_between(code, low, high, |v| F8E4M3::from_f64(v).to_bits());
        }
        for code in 0..0x7bu8 {
            let (low, high) = (F8E5M2(code).to_f32(), F8E5M2(code + 1).to_f32());
            check_between(code, low, high, |v| F8E5M2::from_f64(v).to_bits());
        }
    }

    fn check_between(code: u8, low: f32, high: f32, encode: impl Fn(f64) -> u8) {
        let middle = (f64::from(low) + f64::from(high)) / 2.0;
        let even = code + (code & 1);
        assert_eq!(encode(middle), even);
        assert_eq!(encode(-middle), even | 0x80);
        assert_eq!(encode(middle.next_down()), code);
        assert_eq!(encode(middle.next_up()), code + 1);
    }

    #[test]
    fn overflow() {
        assert_eq!(F8E4M3::from_f32(464.0).to_f32(), 448.0);
        assert!(F8E4M3::from_f64(464f64.next_up()).is_nan());
        assert!(F8E4M3::from_f32(f32::NEG_INFINITY).is_nan());
        assert_eq!(F8E5M2::from_f32(61440.0).to_f32(), f32::INFINITY);
        assert_eq!(F8E5M2::from_f64(61440f64.next_down()).to_f32(), 57344.0);
    }
}
