//! Properties of an element for generic code: its bytes, its value, its text.

use crate::DType;
use crate::decimal;
use crate::float8::{F8E4M3, F8E5M2};
use crate::small_float;
use half::{bf16, f16};

/// The value of an element, exact: every integer fits 128 bits, every float is a double.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i128),
    Float(f64),
}

/// Why a token is not an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    Invalid,
    OutOfRange,
}

/// An element of a dtype with one element per group and a value.
pub(crate) trait Element: Copy + Sized + 'static {
    const DTYPE: DType;
    const BYTES: usize;

    /// Reads `BYTES` bytes; the caller splits them.
    fn load(bytes: &[u8]) -> Self;
    fn store(self, out: &mut Vec<u8>);
    fn to_number(self) -> Number;
    /// Returns `None` if the type cannot represent the value; floats overflow to infinity instead.
    fn from_number(number: Number) -> Option<Self>;
    fn parse(token: &str) -> Result<Self, TokenError>;
    fn print(self, out: &mut String);

    #[inline(always)]
    fn to_f64(self) -> f64 {
        match self.to_number() {
            Number::Int(i) => int_to_f64(i),
            Number::Float(f) => f,
        }
    }
}

/// Integers here have at most 64 bits and a sign, which converts faster than 128.
#[inline(always)]
fn int_to_f64(i: i128) -> f64 {
    match i64::try_from(i) {
        Ok(i) => i as f64,
        Err(_) => i as u64 as f64,
    }
}

/// Returns a double that rounds to any narrower format as the integer itself would: bits that do not fit into a double
/// are kept as an odd last bit.
#[inline(always)]
fn int_to_odd_f64(i: i128) -> f64 {
    let nearest = int_to_f64(i);
    if nearest as i128 == i {
        return nearest;
    }
    let above = (nearest as i128).abs() > i.abs();
    f64::from_bits((nearest.to_bits() - u64::from(above)) | 1)
}

/// Bytes 0 and 1; any other byte counts as true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bool(pub(crate) u8);

impl Element for Bool {
    const DTYPE: DType = DType::Bool;
    const BYTES: usize = 1;

    #[inline(always)]
    fn load(bytes: &[u8]) -> Bool {
        Bool(bytes[0])
    }

    fn store(self, out: &mut Vec<u8>) {
        out.push(self.0);
    }

    #[inline(always)]
    fn to_number(self) -> Number {
        Number::Int(i128::from(self.0 != 0))
    }

    #[inline(always)]
    fn from_number(number: Number) -> Option<Bool> {
        Some(Bool(match number {
            Number::Int(i) => u8::from(i != 0),
            Number::Float(f) => u8::from(f != 0.0),
        }))
    }

    fn parse(token: &str) -> Result<Bool, TokenError> {
        let is = |word: &str| token.eq_ignore_ascii_case(word);
        if token == "1" || is("t") || is("true") {
            Ok(Bool(1))
        } else if token == "0" || is("f") || is("false") {
            Ok(Bool(0))
        } else {
            Err(TokenError::Invalid)
        }
    }

    fn print(self, out: &mut String) {
        out.push_str(if self.0 == 0 { "false" } else { "true" });
    }
}

macro_rules! int_element {
    ($($t:ty, $dtype:ident;)*) => { $(
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            const BYTES: usize = size_of::<$t>();

            #[inline(always)]
            fn load(bytes: &[u8]) -> $t {
                let mut word = [0; size_of::<$t>()];
                word.copy_from_slice(bytes);
                <$t>::from_le_bytes(word)
            }

            #[inline(always)]
            fn store(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            #[inline(always)]
            fn to_number(self) -> Number {
                Number::Int(i128::from(self))
            }

            #[inline(always)]
            fn from_number(number: Number) -> Option<$t> {
                match number {
                    Number::Int(i) => <$t>::try_from(i).ok(),
                    Number::Float(f) => {
                        // Both bounds are exact in a double: the one above the maximum is a power of two.
                        let whole = f.trunc();
                        let above = (<$t>::MAX as u128 + 1) as f64;
                        (whole >= <$t>::MIN as f64 && whole < above).then_some(whole as $t)
                    }
                }
            }

            fn parse(token: &str) -> Result<$t, TokenError> {
                <$t>::try_from(decimal::parse_int(token)?).map_err(|_| TokenError::OutOfRange)
            }

            #[inline]
            fn print(self, out: &mut String) {
                decimal::print_int(i128::from(self), out);
            }
        }
    )* };
}

int_element! {
    u8, U8; i8, I8; u16, U16; i16, I16; u32, U32; i32, I32; u64, U64; i64, I64;
}

macro_rules! float_element {
    ($($t:ty, $bits:ty, $dtype:ident, $nan:literal, $from_int:expr;)*) => { $(
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            const BYTES: usize = size_of::<$t>();

            #[inline(always)]
            fn load(bytes: &[u8]) -> $t {
                let mut word = [0; size_of::<$t>()];
                word.copy_from_slice(bytes);
                <$t>::from_le_bytes(word)
            }

            #[inline(always)]
            fn store(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            #[inline(always)]
            fn to_number(self) -> Number {
                Number::Float(f64::from(self))
            }

            #[inline(always)]
            fn from_number(number: Number) -> Option<$t> {
                Some(match number {
                    Number::Int(i) => $from_int(i) as $t,
                    Number::Float(f) => f as $t,
                })
            }

            #[inline]
            fn parse(token: &str) -> Result<$t, TokenError> {
                const SIGN: u64 = 1 << (<$bits>::BITS - 1);
                if decimal::is_word(token) {
                    // A special value fits into the bits of its type.
                    let bits = decimal::parse_special(token, SIGN, <$t>::INFINITY.to_bits().into(), Some($nan))? as $bits;
                    return Ok(<$t>::from_bits(bits));
                }
                let value: $t = token.parse().map_err(|_| TokenError::Invalid)?;
                if value.is_finite() { Ok(value) } else { Err(TokenError::OutOfRange) }
            }

            #[inline]
            fn print(self, out: &mut String) {
                if self.is_finite() {
                    decimal::print_finite(self, (1e-5..1e16).contains(&self.abs()) || self == 0.0, out);
                } else {
                    decimal::print_special(self.to_bits().into(), <$bits>::BITS, self.is_infinite(), $nan, out);
                }
            }
        }
    )* };
}

float_element! {
    f32, u32, F32, 0x7fc0_0000, int_to_odd_f64;
    f64, u64, F64, 0x7ff8_0000_0000_0000, int_to_f64;
}

macro_rules! small_float_element {
    ($($t:ty, $bits:ty, $dtype:ident, $format:ident;)*) => { $(
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            const BYTES: usize = size_of::<$bits>();

            #[inline(always)]
            fn load(bytes: &[u8]) -> $t {
                let mut word = [0; size_of::<$bits>()];
                word.copy_from_slice(bytes);
                <$t>::from_bits(<$bits>::from_le_bytes(word))
            }

            #[inline(always)]
            fn store(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_bits().to_le_bytes());
            }

            #[inline(always)]
            fn to_number(self) -> Number {
                Number::Float(f64::from(small_float::$format.decode(self.to_bits().into())))
            }

            #[inline(always)]
            fn from_number(number: Number) -> Option<$t> {
                let value = match number {
                    Number::Int(i) => int_to_odd_f64(i),
                    Number::Float(f) => f,
                };
                Some(<$t>::from_bits(small_float::$format.encode(value) as $bits))
            }

            fn parse(token: &str) -> Result<$t, TokenError> {
                Ok(<$t>::from_bits(decimal::parse_small(small_float::$format, token)? as $bits))
            }

            fn print(self, out: &mut String) {
                decimal::print_small(small_float::$format, self.to_bits().into(), <$bits>::BITS, out);
            }
        }
    )* };
}

small_float_element! {
    F8E4M3, u8, F8E4M3, F8E4M3;
    F8E5M2, u8, F8E5M2, F8E5M2;
    f16, u16, F16, F16;
    bf16, u16, BF16, BF16;
}
