//! Super-blocks of 256 with scales for groups of 16 or 32: `q2_k` to `q6_k`.

use super::scale;

/// 16 bytes of scale and minimum nibbles, 64 bytes of 2-bit numbers, f16 d, f16 dmin.
pub(super) fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, dmin) = (scale(block, 80), scale(block, 82));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let dl = d * f32::from(scales[group] & 15);
        let ml = dmin * f32::from(scales[group] >> 4);
        let (at, shift) = two_bit_place(group);
        for (value, &byte) in out.iter_mut().zip(&quants[at..]) {
            *value = dl * f32::from(byte >> shift & 3) - ml;
        }
    }
}

/// 32 bytes of third bits, 64 bytes of 2-bit numbers, 12 bytes of 6-bit scales, f16 d.
pub(super) fn q3_k(block: &[u8], out: &mut [f32]) {
    let (highs, quants, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let d = scale(block, 108);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        // Low nibbles of the scales: bytes 0 to 7, low then high half. Upper two bits: bytes 8 to 11.
        let low = packed[group % 8] >> (group / 8 * 4) & 15;
        let high = packed[8 + group % 4] >> (group / 4 * 2) & 3;
        let dl = d * f32::from(i16::from(low | high << 4) - 32);
        let (at, shift) = two_bit_place(group);
        let bit = group / 2;
        let highs = &highs[group % 2 * 16..];
        for ((value, &byte), &high) in out.iter_mut().zip(&quants[at..]).zip(highs) {
            let q = i16::from(byte >> shift & 3) - if high >> bit & 1 == 0 { 4 } else { 0 };
            *value = dl * f32::from(q);
        }
    }
}

/// Returns the position of the sixteen 2-bit numbers of a group: 32 bytes contain eight groups, two at each pair of
/// bits.
fn two_bit_place(group: usize) -> (usize, usize) {
    (group / 8 * 32 + group % 2 * 16, group % 8 / 2 * 2)
}

/// f16 d, f16 dmin, 12 bytes of 6-bit scales and minimums, 128 bytes of nibbles.
pub(super) fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    let quants = &block[16..144];
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, m) = scale_and_minimum(&block[4..16], group);
        let (dl, ml) = (d * f32::from(s), dmin * f32::from(m));
        let shift = group % 2 * 4;
        for (value, &byte) in out.iter_mut().zip(&quants[group / 2 * 32..]) {
            *value = dl * f32::from(byte >> shift & 15) - ml;
        }
    }
}

/// f16 d, f16 dmin, 12 bytes of 6-bit scales and minimums, 32 bytes of fifth bits, 128 bytes of nibbles.
pub(super) fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    let (fifths, quants) = (&block[16..48], &block[48..176]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, m) = scale_and_minimum(&block[4..16], group);
        let (dl, ml) = (d * f32::from(s), dmin * f32::from(m));
        let shift = group % 2 * 4;
        for ((value, &byte), &fifth) in out.iter_mut().zip(&quants[group / 2 * 32..]).zip(fifths) {
            *value = dl * f32::from(byte >> shift & 15 | (fifth >> group & 1) << 4) - ml;
        }
    }
}

/// Eight 6-bit scales and minimums in 12 bytes: the first four in the low six bits of bytes 0 to 3 and 4 to 7, the
/// others in nibbles of bytes 8 to 11 with their upper two bits on top of the first four.
fn scale_and_minimum(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 63, packed[group + 4] & 63);
    }
    let (low, scale_top, minimum_top) = (packed[group + 4], packed[group - 4], packed[group]);
    (
        low & 15 | scale_top >> 6 << 4,
        low >> 4 | minimum_top >> 6 << 4,
    )
}

/// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales, f16 d.
pub(super) fn q6_k(block: &[u8], out: &mut [f32]) {
    let (lows, highs, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = scale(block, 208);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let dl = d * f32::from(scales[group].cast_signed());
        // Half a super-block is 64 bytes of nibbles, low ones first, and 32 bytes of pairs.
        let (half, within) = (group / 8, group % 8);
        let low_at = half * 64 + within % 4 * 16;
        let high_at = half * 32 + within % 2 * 16;
        for ((value, &low), &high) in out.iter_mut().zip(&lows[low_at..]).zip(&highs[high_at..]) {
            let q = low >> (within / 4 * 4) & 15 | (high >> (within / 2 * 2) & 3) << 4;
            *value = dl * f32::from(i16::from(q) - 32);
        }
    }
}
