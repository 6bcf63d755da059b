//! Reductions of a whole tensor to one number, in doubles. As in numpy a NaN among the elements makes the result NaN;
//! [`crate::Stats`] leaves NaN out instead. Quantised tensors are dequantised.

use crate::stats::{self, Stats};
use crate::{Result, TensorView, convert};

/// The statistics of a tensor, quantised ones included.
pub fn stats(view: &TensorView<'_>) -> Result<Stats> {
    if let Some(stats) = stats::scan(view.dtype(), view.data()) {
        return Ok(stats);
    }
    let mut total = Stats::EMPTY;
    convert::for_each_block(view, &mut |block| total.merge(&stats::scan_f64(block)))?;
    Ok(total)
}

/// The number of elements.
pub fn count(view: &TensorView<'_>) -> u64 {
    view.shape().elements()
}

/// The sum; 0 of no elements.
pub fn sum(view: &TensorView<'_>) -> Result<f64> {
    with_nan(view, |s| s.sum)
}

/// The Euclidean norm; 0 of no elements.
pub fn l2(view: &TensorView<'_>) -> Result<f64> {
    with_nan(view, Stats::l2)
}

/// The largest magnitude; 0 of no elements.
pub fn linf(view: &TensorView<'_>) -> Result<f64> {
    with_nan(view, |s| s.abs_max)
}

/// The sum of magnitudes; 0 of no elements.
pub fn l1(view: &TensorView<'_>) -> Result<f64> {
    let mut total = 0.0;
    convert::for_each_block(view, &mut |block| {
        total += block.iter().map(|v| v.abs()).sum::<f64>()
    })?;
    Ok(total)
}

/// The smallest element; `None` of no elements.
pub fn min(view: &TensorView<'_>) -> Result<Option<f64>> {
    if_any(view, |s| s.min)
}

/// The largest element; `None` of no elements.
pub fn max(view: &TensorView<'_>) -> Result<Option<f64>> {
    if_any(view, |s| s.max)
}

/// The mean; `None` of no elements.
pub fn mean(view: &TensorView<'_>) -> Result<Option<f64>> {
    if_any(view, |s| s.sum / s.count as f64)
}

/// The standard deviation as a population, from the differences to the mean; `None` of no elements.
pub fn std(view: &TensorView<'_>) -> Result<Option<f64>> {
    let Some(mean) = mean(view)? else {
        return Ok(None);
    };
    let mut total = 0.0;
    convert::for_each_block(view, &mut |block| {
        total += block.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
    })?;
    Ok(Some((total / count(view) as f64).sqrt()))
}

fn with_nan(view: &TensorView<'_>, f: impl Fn(&Stats) -> f64) -> Result<f64> {
    let stats = stats(view)?;
    Ok(if stats.nans > 0 { f64::NAN } else { f(&stats) })
}

fn if_any(view: &TensorView<'_>, f: impl Fn(&Stats) -> f64) -> Result<Option<f64>> {
    if view.shape().elements() == 0 {
        // An opaque tensor is refused however many elements it has.
        return stats(view).map(|_| None);
    }
    with_nan(view, f).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, text};

    fn of(text: &str) -> crate::Tensor {
        text::parse(text).expect("a tensor")
    }

    #[test]
    fn of_numbers() {
        let tensor = of("i16:[[3,-4],[0,0]]");
        let view = tensor.view();
        assert_eq!(
            (l1(&view), l2(&view), linf(&view)),
            (Ok(7.0), Ok(5.0), Ok(4.0))
        );
        assert_eq!(
            (sum(&view), mean(&view), count(&view)),
            (Ok(-1.0), Ok(Some(-0.25)), 4)
        );
        assert_eq!((min(&view), max(&view)), (Ok(Some(-4.0)), Ok(Some(3.0))));
        assert_eq!(std(&view), Ok(Some((24.75f64 / 4.0).sqrt())));
    }

    #[test]
    fn of_nothing_nan_blocks_and_opaque() {
        let empty = of("f32(0,3):[]");
        assert_eq!(
            (sum(&empty.view()), mean(&empty.view()), std(&empty.view())),
            (Ok(0.0), Ok(None), Ok(None))
        );
        let nan = of("[1,nan]");
        assert!(sum(&nan.view()).is_ok_and(f64::is_nan));
        assert!(max(&nan.view()).is_ok_and(|m| m.is_some_and(f64::is_nan)));
        let blocks = of(&format!(
            "q8_0(2,32):\\x{0}{0}",
            format!("003c{}", "fe".repeat(32))
        ));
        assert_eq!(
            (sum(&blocks.view()), l1(&blocks.view())),
            (Ok(-128.0), Ok(128.0))
        );
        assert_eq!(std(&blocks.view()), Ok(Some(0.0)));
        let opaque = of("f4(2):\\x12");
        assert_eq!(
            sum(&opaque.view()),
            Err(Error::NotNumeric(crate::DType::F4))
        );
    }
}
