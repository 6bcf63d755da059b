//! Smoothing of noisy curves.

use crate::{Error, Result};

/// Replaces each y by the exponential moving average of those so far, corrected for the start as in Adam (Kingma and Ba
/// 2014, section 3) and in TensorBoard: `weight` is the share of the past, 0 for no smoothing. A y that is not finite stays
/// and does not count.
pub fn smooth(points: &mut [(f64, f64)], weight: f64) -> Result<()> {
    if !(0.0..1.0).contains(&weight) {
        return Err(Error::Smoothing(weight.to_string()));
    }
    let (mut mean, mut bias) = (0.0, 1.0);
    for (_, y) in points {
        if y.is_finite() {
            mean = mean * weight + *y * (1.0 - weight);
            bias *= weight;
            *y = mean / (1.0 - bias);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smoothed(ys: &[f64], weight: f64) -> Vec<f64> {
        let mut points: Vec<(f64, f64)> = ys.iter().map(|&y| (0.0, y)).collect();
        assert_eq!(smooth(&mut points, weight), Ok(()));
        points.into_iter().map(|(_, y)| y).collect()
    }

    /// By hand: (0.5·1 + 0.25·0 …) over the sum of the weights.
    #[test]
    fn of_few_values() {
        assert_eq!(smoothed(&[1.0, 0.0, 4.0], 0.0), [1.0, 0.0, 4.0]);
        let found = smoothed(&[1.0, 0.0, 4.0], 0.5);
        let expected = [1.0, 0.25 / 0.75, (0.125 + 2.0) / 0.875];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        // A constant stays, whatever the weight.
        assert!(
            smoothed(&[3.0; 50], 0.99)
                .iter()
                .all(|y| (y - 3.0).abs() < 1e-9)
        );
    }

    #[test]
    fn gaps_stay_and_do_not_count() {
        let found = smoothed(&[2.0, f64::NAN, 2.0, f64::INFINITY], 0.9);
        assert!((found[0] - 2.0).abs() < 1e-12 && (found[2] - 2.0).abs() < 1e-12);
        assert!(found[1].is_nan() && found[3] == f64::INFINITY);
    }

    #[test]
    fn weights_out_of_range() {
        for weight in [-0.1, 1.0, 2.0, f64::NAN] {
            assert_eq!(
                smooth(&mut [], weight),
                Err(Error::Smoothing(weight.to_string()))
            );
        }
    }
}
