//! Arithmetic of zone maps as IEEE 754 has it: SQL's raises an error where a sum overflows or a product underflows, and
//! one weight of extreme numbers must not make the figures of all others unreadable.

use pgrx::prelude::*;

/// The sum of the elements, NULLs left out; NULL when there is none.
#[pg_extern(immutable, strict, parallel_safe)]
fn zone_sum(values: Vec<Option<f64>>) -> Option<f64> {
    values.into_iter().flatten().reduce(|a, b| a + b)
}

/// The mean of `count` numbers; NULL when there are none.
#[pg_extern(immutable, strict, parallel_safe)]
fn zone_mean(sum: f64, count: i64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

/// The standard deviation of a population of `count` numbers; NULL when there are none.
#[pg_extern(immutable, strict, parallel_safe)]
fn zone_std(sum: f64, sum_squares: f64, count: i64) -> Option<f64> {
    let mean = zone_mean(sum, count)?;
    let variance = sum_squares / count as f64 - mean * mean;
    // Rounding may leave a little less than nothing; NaN stays.
    Some(if variance < 0.0 { 0.0 } else { variance.sqrt() })
}
