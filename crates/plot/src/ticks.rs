//! Ticks of an axis: round numbers, stored as decimals so that a label shows no rounding error.

/// A number `mantissa · 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) mantissa: i64,
    pub(crate) exponent: i32,
}

impl Decimal {
    pub(crate) fn value(self) -> f64 {
        let text = format!("{}e{}", self.mantissa, self.exponent);
        text.parse().unwrap_or(f64::NAN)
    }

    /// Returns the exponent of the first digit: 3 for 1234.
    fn magnitude(self) -> Option<i32> {
        let digits = self.mantissa.unsigned_abs().checked_ilog10()?;
        Some(self.exponent + digits as i32)
    }

    /// Formats it in full.
    fn plain(self) -> String {
        if self.mantissa == 0 {
            return "0".into();
        }
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs().to_string();
        if self.exponent >= 0 {
            return format!("{sign}{digits}{}", "0".repeat(self.exponent as usize));
        }
        let places = self.exponent.unsigned_abs() as usize;
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (whole, part) = padded.split_at(padded.len() - places);
        format!("{sign}{whole}.{part}")
    }

    /// Formats it with one digit before the point and a power of ten.
    fn scientific(self) -> String {
        let Some(magnitude) = self.magnitude() else {
            return "0".into();
        };
        let scaled = Decimal {
            exponent: self.exponent - magnitude,
            ..self
        };
        let plain = scaled.plain();
        let digits = match plain.contains('.') {
            true => plain.trim_end_matches('0').trim_end_matches('.'),
            // Trailing zeros are only part of the mantissa.
            false => &plain,
        };
        format!("{digits}e{magnitude}")
    }

    /// Formats it in thousands, millions, …
    fn with_prefix(self, prefix: usize) -> String {
        let scaled = Decimal {
            exponent: self.exponent - 3 * prefix as i32,
            ..self
        };
        match self.mantissa {
            0 => "0".into(),
            _ => format!("{}{}", scaled.plain(), PREFIXES[prefix]),
        }
    }
}

const PREFIXES: [&str; 5] = ["", "k", "M", "G", "T"];

/// Returns at most about `count` round numbers from `low` to `high`, which are finite and not too close to each other.
pub(crate) fn linear(low: f64, high: f64, count: usize) -> Vec<Decimal> {
    let count = count.max(1) as f64;
    let rough = high / count - low / count;
    let mut exponent = rough.log10().floor() as i32;
    let unit = |exponent| {
        Decimal {
            mantissa: 1,
            exponent,
        }
        .value()
    };
    let mut factor = 10;
    for candidate in [1, 2, 5] {
        // What is left below 1 by rounding is 1.
        if rough / unit(exponent) <= candidate as f64 * (1.0 + 1e-9) {
            factor = candidate;
            break;
        }
    }
    if factor == 10 {
        (factor, exponent) = (1, exponent + 1);
    }
    let step = factor as f64 * unit(exponent);
    if !step.is_finite() || step <= 0.0 {
        return Vec::new();
    }
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    if first.abs().max(last.abs()) > 1e15 || last - first > 1000.0 {
        return Vec::new();
    }
    (first as i64..=last as i64)
        .map(|k| Decimal {
            mantissa: k * factor,
            exponent,
        })
        .collect()
}

/// Returns at most about `count` round numbers between two powers of ten given by their logarithms.
pub(crate) fn logarithmic(low: f64, high: f64, count: usize) -> Vec<Decimal> {
    let (first, last) = (low.ceil() as i32, high.floor() as i32);
    let decades = (last - first + 1).max(0) as usize;
    let power = |exponent| Decimal {
        mantissa: 1,
        exponent,
    };
    if decades >= 3 || decades > count {
        let least = decades.div_ceil(count.max(2)) as i32;
        let strides = [1, 2, 5, 10, 20, 50, 100, 200];
        let stride = strides.into_iter().find(|&s| s >= least).unwrap_or(500);
        let is_round = |exponent: &i32| exponent.rem_euclid(stride) == 0;
        return (first..=last).filter(is_round).map(power).collect();
    }
    let within = |d: &Decimal| {
        let log = f64::from(d.exponent) + (d.mantissa as f64).log10();
        (low..=high).contains(&log)
    };
    let of_decade = |exponent| [1, 2, 5].map(|mantissa| Decimal { mantissa, exponent });
    let ticks: Vec<Decimal> = (first - 1..=last)
        .flat_map(of_decade)
        .filter(within)
        .collect();
    if ticks.len() >= 3 {
        return ticks;
    }
    let (low, high) = (10f64.powf(low), 10f64.powf(high));
    let mut ticks = linear(low, high, count);
    ticks.retain(|tick| tick.mantissa > 0);
    ticks
}

/// Returns the labels of all ticks of an axis, in one style.
pub(crate) fn labels(ticks: &[Decimal]) -> Vec<String> {
    let magnitudes = || ticks.iter().filter_map(|tick| tick.magnitude());
    let largest = magnitudes().max().unwrap_or(0);
    let finest = ticks.iter().map(|tick| tick.exponent).min().unwrap_or(0);
    let mixed = ticks.iter().any(|tick| tick.exponent != finest);
    let prefix = (largest / 3).clamp(0, 4) as usize;
    ticks
        .iter()
        .map(|tick| match (largest, finest) {
            (-4..=4, -5..) => tick.plain(),
            // Each power of ten has its own prefix.
            (5..=14, -3..) if mixed => {
                let own = tick.magnitude().unwrap_or(0).div_euclid(3).clamp(0, 4);
                tick.with_prefix(own as usize)
            }
            (5..=14, _) if 3 * prefix as i32 - finest <= 3 => tick.with_prefix(prefix),
            // Times in seconds since 1970 and other numbers far from zero.
            (5..=14, -3..) => tick.plain(),
            _ => tick.scientific(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear_labels(low: f64, high: f64) -> String {
        labels(&linear(low, high, 5)).join(" ")
    }

    fn log_labels(low: f64, high: f64) -> String {
        labels(&logarithmic(low.log10(), high.log10(), 8)).join(" ")
    }

    #[test]
    fn linear_labels_are_round() {
        assert_eq!(linear_labels(0.0, 0.5), "0 0.1 0.2 0.3 0.4 0.5");
        assert_eq!(linear_labels(0.0, 1.0), "0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(linear_labels(-3.0, 3.0), "-2 0 2");
        assert_eq!(linear_labels(0.0, 10000.0), "0 2000 4000 6000 8000 10000");
        assert_eq!(linear_labels(0.0, 1e6), "0 0.2M 0.4M 0.6M 0.8M 1.0M");
        assert_eq!(linear_labels(0.0, 5e5), "0 100k 200k 300k 400k 500k");
        assert_eq!(
            linear_labels(0.0, 1e-4),
            "0 0.00002 0.00004 0.00006 0.00008 0.00010"
        );
        assert_eq!(linear_labels(0.0, 5e-6), "0 1e-6 2e-6 3e-6 4e-6 5e-6");
        assert_eq!(linear_labels(0.0, 1e300), "0 2e299 4e299 6e299 8e299 1e300");
        let far = linear_labels(1_700_000_000.0, 1_700_000_010.0);
        assert!(far.starts_with("1700000000 1700000002"), "{far}");
        assert!(!linear_labels(f64::MIN, f64::MAX).is_empty());
        assert!(linear(0.0, 5e-324, 5).len() <= 6);
    }

    #[test]
    fn logarithmic_labels_are_powers() {
        assert_eq!(log_labels(0.001, 100.0), "0.001 0.01 0.1 1 10 100");
        assert_eq!(log_labels(1.0, 1e6), "1 10 100 1k 10k 100k 1M");
        assert_eq!(log_labels(1e-7, 1e-3), "1e-7 1e-6 1e-5 1e-4 1e-3");
        assert_eq!(log_labels(0.9, 30.0), "1 2 5 10 20");
        assert_eq!(log_labels(2.1, 2.35).split(' ').next(), Some("2.10"));
        let wide = log_labels(1e-300, 1e300);
        assert!(
            wide.starts_with("1e-300 1e-200 ") && wide.split(' ').count() == 7,
            "{wide}"
        );
    }
}
