//! Cheap estimates for a plane, to skip compressing incompressible bytes.

/// Bytes sampled per plane.
const SAMPLE: usize = 1024;

/// Returns whether all bytes are equal.
pub(super) fn is_constant(plane: &[u8]) -> bool {
    // The comparison stops at the first difference, which most planes have at the start.
    plane.is_empty() || plane[1..] == plane[..plane.len() - 1]
}

/// Estimates the order-0 entropy in bits per byte from a sample of the plane.
pub(super) fn bits_per_byte(plane: &[u8]) -> f32 {
    let mut counts = [0u16; 256];
    let step = (plane.len() / SAMPLE).max(1);
    let mut n = 0u16;
    for &byte in plane.iter().step_by(step).take(SAMPLE) {
        counts[usize::from(byte)] += 1;
        n += 1;
    }
    if n == 0 {
        return 0.0;
    }
    let mut sum = 0.0f32;
    let mut distinct = 0.0f32;
    for &count in counts.iter().filter(|&&c| c != 0) {
        let c = f32::from(count);
        sum += c * c.log2();
        distinct += 1.0;
    }
    let n = f32::from(n);
    // The last term is the Miller-Madow correction: a small sample looks more regular than its source.
    n.log2() - sum / n + (distinct - 1.0) / (2.0 * n) * std::f32::consts::LOG2_E
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses() {
        assert!(is_constant(&[]) && is_constant(&[7]) && is_constant(&[7; 100]));
        assert!(!is_constant(&[7, 7, 8]));
        assert_eq!(bits_per_byte(&[3; 5000]), 0.0);
        let two: Vec<u8> = (0..8192u32)
            .map(|i| (i.wrapping_mul(0x9E37_79B9) >> 31) as u8)
            .collect();
        assert!((bits_per_byte(&two) - 1.0).abs() < 0.01);
        let all: Vec<u8> = (0..8192u32)
            .map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8)
            .collect();
        assert!(bits_per_byte(&all) > 7.8);
    }
}
