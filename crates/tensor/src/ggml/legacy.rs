//! Blocks of 32 with one scale: `q4_0`, `q4_1`, `q5_0`, `q5_1`, `q8_0`.
//!
//! Nibbles: the low ones are numbers 0 to 15, the high ones 16 to 31. The fifth bits are a 32-bit word.

use super::scale;

/// f16 d, 16 bytes of nibbles: `d * (q - 8)`.
pub(super) fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = scale(block, 0);
    nibbles(&block[2..], out, |_, q| d * f32::from(i16::from(q) - 8));
}

/// f16 d, f16 m, 16 bytes of nibbles: `d * q + m`.
pub(super) fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    nibbles(&block[4..], out, |_, q| d * f32::from(q) + m);
}

/// f16 d, 4 bytes of fifth bits, 16 bytes of nibbles: `d * (q - 16)`.
pub(super) fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = scale(block, 0);
    let fifths = word(&block[2..]);
    nibbles(&block[6..], out, |i, q| {
        d * f32::from(i16::from(q | fifth(fifths, i)) - 16)
    });
}

/// f16 d, f16 m, 4 bytes of fifth bits, 16 bytes of nibbles: `d * q + m`.
pub(super) fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    let fifths = word(&block[4..]);
    nibbles(&block[8..], out, |i, q| {
        d * f32::from(q | fifth(fifths, i)) + m
    });
}

/// f16 d, 32 signed bytes: `d * q`.
pub(super) fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = scale(block, 0);
    for (value, &q) in out.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(q.cast_signed());
    }
}

#[inline(always)]
fn nibbles(bytes: &[u8], out: &mut [f32], number: impl Fn(usize, u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for (i, &byte) in bytes[..16].iter().enumerate() {
        low[i] = number(i, byte & 15);
        high[i] = number(i + 16, byte >> 4);
    }
}

#[inline(always)]
fn fifth(word: u32, i: usize) -> u8 {
    ((word >> i & 1) << 4) as u8
}

#[inline(always)]
fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
