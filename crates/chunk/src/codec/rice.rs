//! Positions as gaps in a Rice code: S. W. Golomb, "Run-length encodings", IEEE Transactions on Information Theory,
//! 1966, with the divisor a power of two as in R. F. Rice, "Some practical universal noiseless coding techniques", JPL
//! Publication 79-22, 1979.
//!
//! A gap is the number of elements between a position and the previous one. Its low `parameter` bits are its remainder,
//! the others its quotient. For positions without a pattern the gaps are distributed geometrically, and a Rice code
//! takes at most about 4 % more bits than their entropy. All remainders come first, then all quotients in unary, so
//! that decoding one code does not depend on the end of the previous one.

use crate::header::MAX_BLOCK_LOG2;

/// The largest parameter: a gap is below 2^20, the maximum number of elements in a block.
pub(super) const MAX_PARAMETER: u8 = MAX_BLOCK_LOG2;

/// Returns the bits that the gaps take.
fn bits(gaps: &[u32], parameter: u8) -> u64 {
    let quotients: u64 = gaps.iter().map(|&gap| u64::from(gap >> parameter)).sum();
    gaps.len() as u64 * (1 + u64::from(parameter)) + quotients
}

/// Returns the parameter with which the gaps take the fewest bits.
pub(super) fn parameter(gaps: &[u32]) -> u8 {
    let sum: u64 = gaps.iter().map(|&gap| u64::from(gap)).sum();
    let mean = sum / (gaps.len() as u64).max(1);
    // It is near the log2 of the mean, and the cost has one minimum.
    let mut best = (mean.checked_ilog2().unwrap_or(0) as u8).min(MAX_PARAMETER);
    let mut fewest = bits(gaps, best);
    while best > 0 && bits(gaps, best - 1) <= fewest {
        best -= 1;
        fewest = bits(gaps, best);
    }
    while best < MAX_PARAMETER && bits(gaps, best + 1) < fewest {
        best += 1;
        fewest = bits(gaps, best);
    }
    best
}

/// Returns the bytes of the remainders of `count` gaps.
pub(super) fn remainder_bytes(count: usize, parameter: u8) -> usize {
    (count * usize::from(parameter)).div_ceil(8)
}

/// Appends the remainders, then the quotients, each padded with zeros to a whole byte.
pub(super) fn append(gaps: &[u32], parameter: u8, out: &mut Vec<u8>) {
    let mask = (1u32 << parameter) - 1;
    let (mut word, mut filled) = (0u64, 0u32);
    for &gap in gaps {
        word |= u64::from(gap & mask) << filled;
        filled += u32::from(parameter);
        if filled >= 32 {
            out.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= 32;
            filled -= 32;
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);

    let start = out.len();
    let unary = bits(gaps, parameter) - gaps.len() as u64 * u64::from(parameter);
    out.resize(start + unary.div_ceil(8) as usize, 0);
    let quotients = &mut out[start..];
    let mut bit = 0;
    for &gap in gaps {
        bit += (gap >> parameter) as usize;
        quotients[bit / 8] |= 1 << (bit % 8);
        bit += 1;
    }
}

/// Calls `each` with the number and the position of every gap in turn. `stored` is exactly what [`append`] wrote for
/// `count` gaps. Returns `None`, possibly after some calls, if it is not, or if a position is not below `elements`.
pub(super) fn positions(
    stored: &[u8],
    parameter: u8,
    count: usize,
    elements: usize,
    mut each: impl FnMut(usize, usize),
) -> Option<()> {
    if parameter > MAX_PARAMETER {
        return None;
    }
    let (remainders, quotients) = stored.split_at_checked(remainder_bytes(count, parameter))?;
    let used = count * usize::from(parameter) % 8;
    let padded = used > 0 && remainders.last().is_some_and(|last| last >> used != 0);
    // The last byte of the quotients contains the final bit of the last one.
    if padded || quotients.last().is_none_or(|&last| last == 0) {
        return None;
    }
    let mask = (1u32 << parameter) - 1;
    let ends = |eight: &[u8]| word(eight).count_ones() as usize;
    if quotients.chunks(8).map(ends).sum::<usize>() != count {
        return None;
    }
    let (mut number, mut sum, mut first) = (0usize, 0u64, 0usize);
    for (at, eight) in quotients.chunks(8).enumerate() {
        let mut word = word(eight);
        while word != 0 {
            let bit = at * 64 + word.trailing_zeros() as usize;
            word &= word - 1;
            // The quotients so far are the zeros before this bit.
            let remainder = (remainder_word(remainders, first / 8) >> (first % 8)) & mask;
            first += usize::from(parameter);
            sum += u64::from(remainder);
            let position = (((bit - number) as u64) << parameter) + sum + number as u64;
            if position >= elements as u64 {
                return None;
            }
            each(number, position as usize);
            number += 1;
        }
    }
    Some(())
}

/// Reads up to 8 bytes, little-endian.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    if let Ok(eight) = bytes.try_into() {
        return u64::from_le_bytes(eight);
    }
    let rest = bytes.iter().rev();
    rest.fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Reads 4 bytes, little-endian, zero-padded at the end: room for 7 bits of the previous remainder and one of 20 bits.
#[inline(always)]
fn remainder_word(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => word(bytes.get(at..).unwrap_or(&[])) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stored: &[u8], parameter: u8, count: usize, elements: usize) -> Option<Vec<usize>> {
        let mut got = Vec::new();
        positions(stored, parameter, count, elements, |number, position| {
            assert_eq!(number, got.len());
            got.push(position);
        })?;
        Some(got)
    }

    #[test]
    fn gaps_of_every_size_come_back() {
        let gaps = [0u32, 1, 5, 0, 0, 300, 70_000, 2, 31, 0];
        let mut next = 0;
        let expected: Vec<usize> = gaps
            .iter()
            .map(|&gap| {
                next += gap as usize + 1;
                next - 1
            })
            .collect();
        let elements = expected[gaps.len() - 1] + 1;
        for parameter in 0..=MAX_PARAMETER {
            let mut stored = Vec::new();
            append(&gaps, parameter, &mut stored);
            let whole = read(&stored, parameter, gaps.len(), elements);
            assert_eq!(whole.as_ref(), Some(&expected), "{parameter}");
            assert_eq!(
                stored.len(),
                remainder_bytes(gaps.len(), parameter)
                    + (bits(&gaps, parameter) as usize - gaps.len() * usize::from(parameter))
                        .div_ceil(8)
            );
            assert_eq!(read(&stored, parameter, gaps.len(), elements - 1), None);
            assert_eq!(read(&stored, parameter, gaps.len() - 1, elements), None);
            assert_eq!(read(&stored, parameter, gaps.len() + 1, elements), None);
            assert_eq!(read(&stored[1..], parameter, gaps.len(), elements), None);
            stored.push(0);
            assert_eq!(read(&stored, parameter, gaps.len(), elements), None);
        }
        assert_eq!(read(&[], 0, 0, 1), None);
        assert_eq!(read(&[1], MAX_PARAMETER + 1, 1, 1), None);
        // Three remainders of one bit leave five bits that are zero.
        assert_eq!(read(&[0b111, 0b111], 1, 3, 9), Some(vec![1, 3, 5]));
        assert_eq!(read(&[0b1111, 0b111], 1, 3, 9), None);
    }

    #[test]
    fn the_parameter_is_the_best() {
        for gaps in [
            vec![0; 100],
            vec![7; 50],
            vec![1 << 19],
            (0..2000).collect(),
            [vec![0; 500], vec![100_000]].concat(),
        ] {
            let best = (0..=MAX_PARAMETER).min_by_key(|&p| bits(&gaps, p));
            assert_eq!(
                bits(&gaps, parameter(&gaps)),
                bits(&gaps, best.expect("21 of them"))
            );
        }
        assert_eq!(parameter(&[]), 0);
    }
}
