//! An axis: maps values to positions between 0 and 1, with a range that shows all values.

use crate::ticks::{self, Decimal};

/// Values closer to each other than this, relatively, are drawn as one.
const NARROWEST: f64 = 1e-11;

/// The range of an axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    /// For a logarithmic axis, base-10 logarithms.
    low: f64,
    high: f64,
    is_log: bool,
}

impl Axis {
    /// Creates the axis for some values, with a margin on both sides.
    pub(crate) fn new(values: impl Iterator<Item = f64>, is_log: bool, free: f64) -> Axis {
        let mut range: Option<(f64, f64)> = None;
        for value in values.filter(|v| v.is_finite() && (!is_log || *v > 0.0)) {
            let value = if is_log { value.log10() } else { value };
            let (low, high) = range.unwrap_or((value, value));
            range = Some((low.min(value), high.max(value)));
        }
        let (mut low, mut high) = range.unwrap_or((0.0, 1.0));
        let size = low.abs().max(high.abs());
        if high / 2.0 - low / 2.0 <= size * NARROWEST || high - low < 1e-300 {
            let half = match size {
                _ if is_log || size == 0.0 => 0.5,
                1.0.. => (size * 0.05).max(0.5),
                // Below it even ticks could not be distinguished.
                _ => (size * 0.5).max(1e-300),
            };
            (low, high) = (low - half, high + half);
        } else {
            let part = high * free - low * free;
            (low, high) = (low - part, high + part);
        }
        Axis {
            low: low.max(f64::MIN),
            high: high.min(f64::MAX),
            is_log,
        }
    }

    /// Returns the position of a value between both ends; `None` for values that the axis does not show.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let value = if self.is_log { value.log10() } else { value };
        // Halves, as the difference of two finite numbers need not be finite.
        let place = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        (value.is_finite() && place.is_finite()).then_some(place)
    }

    /// Returns at most about `count` ticks with positions and labels.
    pub(crate) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let ticks = match self.is_log {
            true => ticks::logarithmic(self.low, self.high, count),
            false => ticks::linear(self.low, self.high, count),
        };
        let places = ticks.iter().map(|tick| self.tick_place(*tick));
        let labelled = places.zip(ticks::labels(&ticks));
        labelled
            .filter(|(place, _)| (-1e-9..=1.0 + 1e-9).contains(place))
            .collect()
    }

    fn tick_place(&self, tick: Decimal) -> f64 {
        if self.is_log {
            // The tick itself can be below the smallest float.
            let log = f64::from(tick.exponent) + (tick.mantissa as f64).log10();
            return (log - self.low) / (self.high - self.low);
        }
        self.place(tick.value()).unwrap_or(f64::NAN)
    }
}
