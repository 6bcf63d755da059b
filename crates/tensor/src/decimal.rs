//! Numbers as decimal text: exact integers, and the shortest decimal that parses to the same float in its own format of
//! 8, 16, 32 or 64 bits.

use crate::element::TokenError;
use crate::small_float::SmallFloat;
use std::cmp::Ordering;
use std::fmt::Write;

/// Parses an integer; one beyond 64 bits and a sign is out of range of every dtype.
#[inline]
pub(crate) fn parse_int(token: &str) -> Result<i128, TokenError> {
    let (negative, digits) = match token.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    if digits.is_empty() {
        return Err(TokenError::Invalid);
    }
    let mut value = Some(0u64);
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(TokenError::Invalid);
        }
        value = value
            .and_then(|v| v.checked_mul(10))
            .and_then(|v| v.checked_add(u64::from(digit - b'0')));
    }
    let value = i128::from(value.ok_or(TokenError::OutOfRange)?);
    Ok(if negative { -value } else { value })
}

/// Prints an integer of at most 64 bits and a sign.
#[inline]
pub(crate) fn print_int(value: i128, out: &mut String) {
    if value < 0 {
        out.push('-');
    }
    print_u64(value.unsigned_abs() as u64, out);
}

fn print_u64(value: u64, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Returns whether a token is a word like `NaN` and not a number.
#[inline]
pub(crate) fn is_word(token: &str) -> bool {
    let unsigned = token.strip_prefix(['-', '+']).unwrap_or(token);
    unsigned.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Parses `Infinity`, `NaN` or `nan(0x...)`, in any case and with a sign, to bits. `nan` is `None` for a format without
/// a NaN above infinity; `infinity` is then that NaN.
pub(crate) fn parse_special(
    token: &str,
    sign: u64,
    infinity: u64,
    nan: Option<u64>,
) -> Result<u64, TokenError> {
    let (sign_bits, word) = match token.as_bytes() {
        [b'-', ..] => (sign, &token[1..]),
        [b'+', ..] => (0, &token[1..]),
        _ => (0, token),
    };
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    if is("nan") {
        return Ok(sign_bits | nan.unwrap_or(infinity));
    }
    if is("inf") || is("infinity") {
        return if nan.is_some() {
            Ok(sign_bits | infinity)
        } else {
            Err(TokenError::OutOfRange)
        };
    }
    let digits = word
        .get(..6)
        .filter(|start| start.eq_ignore_ascii_case("nan(0x") && word.len() == token.len())
        .and_then(|_| word[6..].strip_suffix(')'))
        .filter(|digits| !digits.starts_with('+'))
        .ok_or(TokenError::Invalid)?;
    let bits = u64::from_str_radix(digits, 16).map_err(|_| TokenError::Invalid)?;
    let magnitude = bits & (sign - 1);
    let fits = bits < sign || bits - sign < sign;
    if fits && (magnitude > infinity || nan.is_none() && magnitude == infinity) {
        Ok(bits)
    } else {
        Err(TokenError::Invalid)
    }
}

/// Prints what [`parse_special`] parses, of a type of `width` bits.
pub(crate) fn print_special(
    bits: u64,
    width: u32,
    infinite: bool,
    canonical_nan: u64,
    out: &mut String,
) {
    let negative = bits >> (width - 1) != 0;
    if infinite {
        out.push_str(if negative { "-Infinity" } else { "Infinity" });
    } else if bits == canonical_nan {
        out.push_str("NaN");
    } else {
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "nan({bits:#0digits$x})",
            digits = width as usize / 4 + 2
        );
    }
}

/// Prints a finite single or double, in positional or exponent form.
#[inline]
pub(crate) fn print_finite<F: std::fmt::Display + std::fmt::LowerExp>(
    value: F,
    positional: bool,
    out: &mut String,
) {
    // Writing to a string does not fail.
    let _ = if positional {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
}

/// Parses a number or special value of a small format, rounded once.
pub(crate) fn parse_small(format: SmallFloat, token: &str) -> Result<u16, TokenError> {
    if is_word(token) {
        let nan = format
            .has_infinity()
            .then_some(format.canonical_nan().into());
        let bits = parse_special(
            token,
            format.sign_bit().into(),
            format.infinity().into(),
            nan,
        )?;
        return Ok(bits as u16);
    }
    let mut value: f64 = token.parse().map_err(|_| TokenError::Invalid)?;
    if value.is_infinite() {
        return Err(TokenError::OutOfRange);
    }
    if format.is_midpoint(value) {
        // The decimal may differ from the midpoint by less than a double shows.
        let bits = value.to_bits();
        value = match compare_magnitude(token, value) {
            Ordering::Less => f64::from_bits(bits - 1),
            Ordering::Equal => value,
            Ordering::Greater => f64::from_bits(bits + 1),
        };
    }
    let code = format.encode(value);
    if format.is_finite(code) {
        Ok(code)
    } else {
        Err(TokenError::OutOfRange)
    }
}

/// Compares the magnitude of a valid decimal with that of a double that is a midpoint of a small format.
fn compare_magnitude(token: &str, value: f64) -> Ordering {
    // A midpoint has at most 134 binary places, thus fewer decimal digits than these.
    let exact = format!("{:.160e}", value.abs());
    normalise(token).cmp(&normalise(&exact))
}

/// Returns the exponent of the first significant digit, and the significant digits without trailing zeros.
fn normalise(decimal: &str) -> (i64, Vec<u8>) {
    let (mantissa, exponent) = decimal.split_once(['e', 'E']).unwrap_or((decimal, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let mantissa = mantissa.trim_start_matches(['+', '-']);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let zeros = digits.iter().take_while(|&&d| d == b'0').count();
    digits.drain(..zeros);
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    (
        exponent.saturating_add(whole.len() as i64 - zeros as i64),
        digits,
    )
}

/// Prints a code of a small format of `width` bits.
pub(crate) fn print_small(format: SmallFloat, code: u16, width: u32, out: &mut String) {
    if !format.is_finite(code) {
        let infinite = !format.is_nan(code);
        print_special(
            code.into(),
            width,
            infinite,
            format.canonical_nan().into(),
            out,
        );
        return;
    }
    if code & format.sign_bit() != 0 {
        out.push('-');
    }
    let magnitude = code & (format.sign_bit() - 1);
    if magnitude == 0 {
        out.push('0');
        return;
    }
    let (digits, exponent) = shortest(format, magnitude);
    print_digits(digits, exponent, out);
}

/// Returns the fewest digits `d` and the power `e` such that `d * 10^e` rounds to the code of a positive finite number;
/// among these the nearest to it. Tested on all codes of all formats, which proves that doubles suffice.
fn shortest(format: SmallFloat, code: u16) -> (u64, i32) {
    let value = f64::from(format.decode(code));
    let below = f64::from(format.decode(code - 1));
    // The largest number is as far from the next power of two as from the number below it.
    let above = if format.is_finite(code + 1) {
        f64::from(format.decode(code + 1))
    } else {
        2.0 * value - below
    };
    let (low, high) = (value / 2.0 + below / 2.0, value / 2.0 + above / 2.0);
    let closed = code & 1 == 0;
    let mut exponent = high.log10().floor() as i32;
    loop {
        let scaled = |x: f64| {
            if exponent < 0 {
                x * POWERS[-exponent as usize]
            } else {
                x / POWERS[exponent as usize]
            }
        };
        let (scaled_low, scaled_high) = (scaled(low), scaled(high));
        let mut first = scaled_low.ceil();
        let mut last = scaled_high.floor();
        if !closed {
            first += f64::from(u8::from(first == scaled_low));
            last -= f64::from(u8::from(last == scaled_high));
        }
        if first <= last {
            let digits = scaled(value).round_ties_even().clamp(first, last);
            return (digits as u64, exponent);
        }
        exponent -= 1;
    }
}

/// Powers of ten down to the smallest that bf16 needs.
const POWERS: [f64; 46] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32,
    1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45,
];

/// Formats `digits * 10^exponent` like singles and doubles.
fn print_digits(digits: u64, exponent: i32, out: &mut String) {
    let count = digits.ilog10() as i32 + 1;
    let point = count + exponent;
    let zeros = |n: i32, out: &mut String| out.extend(std::iter::repeat_n('0', n.max(0) as usize));
    let start = out.len();
    if !(-4..=16).contains(&point) {
        print_u64(digits, out);
        if count > 1 {
            out.insert(start + 1, '.');
        }
        let _ = write!(out, "e{}", point - 1);
    } else if point <= 0 {
        out.push_str("0.");
        zeros(-point, out);
        print_u64(digits, out);
    } else {
        print_u64(digits, out);
        if exponent >= 0 {
            zeros(exponent, out);
        } else {
            out.insert(start + point as usize, '.');
        }
    }
}
