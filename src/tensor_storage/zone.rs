//! Statistics of a tensor from the zone maps of its pieces, by [`modelstore_tensor::moments`]. Arithmetic follows IEEE
//! 754: SQL raises an error if a sum overflows or a product underflows, and one weight with extreme numbers must not
//! make the statistics of all others unreadable.

use crate::error::{Code, Failure, Result, or_raise};
use modelstore_tensor::Moments;
use pgrx::prelude::*;

#[pg_extern(immutable, strict, parallel_safe)]
fn zone_mean(counts: Vec<Option<i64>>, means: Vec<Option<f64>>) -> Option<f64> {
    let deviations = vec![Some(0.0); means.len()];
    merged(&counts, &means, &deviations).map(|all| all.mean)
}

#[pg_extern(immutable, strict, parallel_safe)]
fn zone_std(
    counts: Vec<Option<i64>>,
    means: Vec<Option<f64>>,
    stds: Vec<Option<f64>>,
) -> Option<f64> {
    merged(&counts, &means, &stds).map(|all| all.std)
}

#[pg_extern(immutable, strict, parallel_safe)]
fn zone_l2(
    counts: Vec<Option<i64>>,
    means: Vec<Option<f64>>,
    stds: Vec<Option<f64>>,
) -> Option<f64> {
    let pieces = or_raise(pieces(&counts, &means, &stds));
    (!pieces.is_empty()).then(|| Moments::l2(&pieces))
}

fn merged(counts: &[Option<i64>], means: &[Option<f64>], stds: &[Option<f64>]) -> Option<Moments> {
    let pieces = or_raise(pieces(counts, means, stds));
    (!pieces.is_empty()).then(|| Moments::merge(&pieces))
}

/// Skips pieces without numbers.
fn pieces(
    counts: &[Option<i64>],
    means: &[Option<f64>],
    stds: &[Option<f64>],
) -> Result<Vec<Moments>> {
    if counts.len() != means.len() || counts.len() != stds.len() {
        return Err(Failure::new(
            Code::ERRCODE_ARRAY_ELEMENT_ERROR,
            format!(
                "arrays of {}, {} and {} elements have different lengths",
                counts.len(),
                means.len(),
                stds.len()
            ),
        )
        .detail("Pass one element per piece in each array."));
    }
    let pieces = counts.iter().zip(means).zip(stds);
    Ok(pieces
        .filter_map(|((&count, &mean), &std)| {
            let count = u64::try_from(count?).ok().filter(|&count| count > 0)?;
            Some(Moments {
                count,
                mean: mean?,
                std: std?,
            })
        })
        .collect())
}
