//! Splits elements into byte planes and merges them, optionally rotating the sign bit to the bottom.
//!
//! The loops are plain Rust that LLVM vectorises. They are compiled a second time for AVX2, used if the processor has
//! it.
#![allow(unsafe_code)]

/// Splits whole elements of `width` bytes into `width` consecutive planes in `planes`, which has the length of `raw`.
pub(super) fn split(width: u8, rotated: bool, raw: &[u8], planes: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, the only requirement of the function.
        return unsafe { split_avx2(width, rotated, raw, planes) };
    }
    split_any(width, rotated, raw, planes);
}

/// Merges planes into whole elements of `planes.len()` bytes. Each plane has `out.len() / planes.len()` bytes.
pub(super) fn merge(rotated: bool, planes: &[&[u8]], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, the only requirement of the function.
        return unsafe { merge_avx2(rotated, planes, out) };
    }
    merge_any(rotated, planes, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn split_avx2(width: u8, rotated: bool, raw: &[u8], planes: &mut [u8]) {
    split_any(width, rotated, raw, planes);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn merge_avx2(rotated: bool, planes: &[&[u8]], out: &mut [u8]) {
    merge_any(rotated, planes, out);
}

#[inline(always)]
fn split_any(width: u8, rotated: bool, raw: &[u8], planes: &mut [u8]) {
    let n = raw.len() / usize::from(width.max(1));
    match width {
        2 => {
            let turn = u32::from(rotated);
            let (low, high) = planes.split_at_mut(n);
            for ((e, l), h) in raw.as_chunks::<2>().0.iter().zip(low).zip(high) {
                let v = u16::from_le_bytes(*e).rotate_left(turn);
                *l = v as u8;
                *h = (v >> 8) as u8;
            }
        }
        4 => {
            let turn = u32::from(rotated);
            let (p0, rest) = planes.split_at_mut(n);
            let (p1, rest) = rest.split_at_mut(n);
            let (p2, p3) = rest.split_at_mut(n);
            let outs = p0.iter_mut().zip(p1).zip(p2).zip(p3);
            for (e, (((a, b), c), d)) in raw.as_chunks::<4>().0.iter().zip(outs) {
                let v = u32::from_le_bytes(*e).rotate_left(turn);
                *a = v as u8;
                *b = (v >> 8) as u8;
                *c = (v >> 16) as u8;
                *d = (v >> 24) as u8;
            }
        }
        8 => {
            let turn = u32::from(rotated);
            // One pass per plane: eight outputs at once are more than the vectoriser checks for overlap.
            for (p, plane) in planes.chunks_exact_mut(n.max(1)).enumerate() {
                for (e, byte) in raw.as_chunks::<8>().0.iter().zip(plane) {
                    *byte = (u64::from_le_bytes(*e).rotate_left(turn) >> (8 * p)) as u8;
                }
            }
        }
        _ => planes.copy_from_slice(raw),
    }
}

#[inline(always)]
fn merge_any(rotated: bool, planes: &[&[u8]], out: &mut [u8]) {
    let turn = u32::from(rotated);
    match planes {
        [plane] => out.copy_from_slice(plane),
        [low, high] => {
            for ((e, l), h) in out.as_chunks_mut::<2>().0.iter_mut().zip(*low).zip(*high) {
                let v = u16::from(*l) | u16::from(*h) << 8;
                *e = v.rotate_right(turn).to_le_bytes();
            }
        }
        [p0, p1, p2, p3] => {
            let ins = p0.iter().zip(*p1).zip(*p2).zip(*p3);
            for (e, (((a, b), c), d)) in out.as_chunks_mut::<4>().0.iter_mut().zip(ins) {
                let v =
                    u32::from(*a) | u32::from(*b) << 8 | u32::from(*c) << 16 | u32::from(*d) << 24;
                *e = v.rotate_right(turn).to_le_bytes();
            }
        }
        [p0, p1, p2, p3, p4, p5, p6, p7] => {
            let low = p0.iter().zip(*p1).zip(*p2).zip(*p3);
            let high = p4.iter().zip(*p5).zip(*p6).zip(*p7);
            let elements = out.as_chunks_mut::<8>().0;
            for ((e, (((a, b), c), d)), (((f, g), h), i)) in elements.iter_mut().zip(low).zip(high)
            {
                let v = u64::from_le_bytes([*a, *b, *c, *d, *f, *g, *h, *i]);
                *e = v.rotate_right(turn).to_le_bytes();
            }
        }
        // No element has another width.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_sort_and_restore_the_bytes() {
        for width in [1u8, 2, 4, 8] {
            for elements in [0usize, 1, 2, 15, 16, 17, 63, 64, 65, 1000] {
                for rotated in [false, true] {
                    let n = elements * usize::from(width);
                    let raw: Vec<u8> = (0..n).map(|i| (i * i * 31 + i / 7) as u8).collect();
                    let (mut one, mut two) = (vec![0; n], vec![0; n]);
                    split(width, rotated, &raw, &mut one);
                    split_any(width, rotated, &raw, &mut two);
                    assert_eq!(one, two);
                    if !rotated && elements > 0 {
                        let column: Vec<u8> = raw.iter().copied().step_by(width.into()).collect();
                        assert_eq!(one[..elements], column);
                    }
                    let planes: Vec<&[u8]> = (0..usize::from(width))
                        .map(|p| &one[p * elements..][..elements])
                        .collect();
                    let (mut one, mut two) = (vec![1; n], vec![2; n]);
                    merge(rotated, &planes, &mut one);
                    merge_any(rotated, &planes, &mut two);
                    assert_eq!((&one, &two), (&raw, &raw));
                }
            }
        }
    }

    #[test]
    fn the_exponent_of_a_float_fills_the_top_plane() {
        let mut planes = [0; 4];
        split(4, true, &(-1.0f32).to_le_bytes(), &mut planes);
        assert_eq!(planes, [1, 0, 0, 127]);
    }
}
