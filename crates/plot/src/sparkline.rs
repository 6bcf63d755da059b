//! A line of block characters, one a value.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws values as block characters between their smallest and largest: the middle one if all are equal, a space for
/// NaN, the lowest and highest for infinities.
///
/// If the width is smaller than the number of values, each character is the mean of a group of them without its NaNs;
/// group sizes differ by at most one value.
pub fn sparkline(values: &[f64], width: Option<usize>) -> String {
    let width = width.unwrap_or(values.len()).min(values.len());
    let edge = |bucket: usize| (bucket as u128 * values.len() as u128 / width as u128) as usize;
    let means: Vec<f64> = (0..width)
        .map(|bucket| mean(&values[edge(bucket)..edge(bucket + 1)]))
        .collect();
    let finite = || means.iter().copied().filter(|v| v.is_finite());
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    means.iter().map(|&v| block(v, low, high)).collect()
}

fn block(value: f64, low: f64, high: f64) -> char {
    if value.is_nan() {
        return ' ';
    }
    if value.is_infinite() {
        return BLOCKS[if value > 0.0 { 7 } else { 0 }];
    }
    if low == high {
        return BLOCKS[3];
    }
    // An eighth each, as the difference of two finite numbers need not be finite.
    let share = (value / 8.0 - low / 8.0) / (high / 8.0 - low / 8.0);
    let place = if share.is_finite() { share * 8.0 } else { 3.0 };
    BLOCKS[(place as usize).min(7)]
}

/// Returns the mean of the values that are not NaN, without intermediate overflow; NaN for none, or for infinities of
/// both signs.
fn mean(values: &[f64]) -> f64 {
    let numbers = || values.iter().copied().filter(|v| !v.is_nan());
    let count = numbers().count() as f64;
    if count == 1.0 {
        return numbers().sum();
    }
    let sum: f64 = numbers().sum();
    if sum.is_infinite() && numbers().all(f64::is_finite) {
        return numbers().map(|v| v / count).sum();
    }
    sum / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_blocks() {
        let up: Vec<f64> = (0..8).map(f64::from).collect();
        assert_eq!(sparkline(&up, None), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[2.0, 1.0, 3.0], None), "▅▁█");
        assert_eq!(sparkline(&[-1e308, 0.0, 1e308], None), "▁▅█");
        assert_eq!(sparkline(&[f64::MIN, f64::MAX], None), "▁█");
        assert_eq!(sparkline(&[0.0, 5e-324], None).chars().count(), 2);
    }

    #[test]
    fn what_has_no_height_has_a_character() {
        assert_eq!(sparkline(&[], None), "");
        assert_eq!(sparkline(&[1.0], Some(0)), "");
        assert_eq!(sparkline(&[7.0, 7.0, 7.0], None), "▄▄▄");
        assert_eq!(sparkline(&[f64::NAN, 1.0, 2.0, f64::NAN], None), " ▁█ ");
        assert_eq!(
            sparkline(&[f64::NEG_INFINITY, 5.0, f64::INFINITY], None),
            "▁▄█"
        );
    }

    #[test]
    fn a_width_makes_means() {
        assert_eq!(sparkline(&[0.0, 2.0, 4.0, 6.0, 9.0, 9.0], Some(3)), "▁▅█");
        assert_eq!(
            sparkline(&[0.0, f64::NAN, f64::NAN, f64::NAN, 8.0, 8.0], Some(3)),
            "▁ █"
        );
        assert_eq!(sparkline(&[1.0, 2.0], Some(100)), "▁█");
        assert_eq!(sparkline(&[f64::MAX, f64::MAX, 0.0, 0.0], Some(2)), "█▁");
        let many: Vec<f64> = (0..1001).map(f64::from).collect();
        assert_eq!(sparkline(&many, Some(8)), "▁▂▃▄▅▆▇█");
    }
}
