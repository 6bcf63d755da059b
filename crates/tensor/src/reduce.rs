//! Reductions of a whole tensor to one number, in doubles. As in numpy, a NaN among the elements makes the result NaN;
//! [`crate::Stats`] ignores NaN instead. Quantised tensors are dequantised. Each calls `check` often enough for a
//! session to notice that it is cancelled; `check` may unwind.

use crate::stats::{self, Stats};
use crate::{Result, TensorView, convert};

/// Bytes between two checks: about a millisecond. A multiple of every element size.
const STEP: usize = 4 << 20;

/// Elements between two checks if they are converted one by one.
const STEP_ELEMENTS: usize = 1 << 18;

/// Returns the statistics of a tensor, including quantised ones.
pub fn stats(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<Stats> {
    let mut total = Stats::EMPTY;
    if stats::scan(view.dtype(), &[]).is_some() {
        for piece in view.data().chunks(STEP) {
            if let Some(stats) = stats::scan(view.dtype(), piece) {
                total.merge(&stats);
            }
            check();
        }
        return Ok(total);
    }
    // Blocks of a quantised tensor are short; their numbers are collected before they are scanned.
    let mut gathered = Vec::with_capacity(STEP_ELEMENTS);
    convert::for_each_block(view, &mut |block| {
        gathered.extend_from_slice(block);
        if gathered.len() >= STEP_ELEMENTS {
            total.merge(&stats::scan_f64(&gathered));
            gathered.clear();
            check();
        }
    })?;
    total.merge(&stats::scan_f64(&gathered));
    Ok(total)
}

/// Returns the sum of all elements and that of their squares.
fn sums(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<(f64, f64)> {
    let (mut sum, mut squares) = (0.0, 0.0);
    if stats::sums(view.dtype(), &[]).is_some() {
        for piece in view.data().chunks(STEP) {
            if let Some(more) = stats::sums(view.dtype(), piece) {
                (sum, squares) = (sum + more.0, squares + more.1);
            }
            check();
        }
        return Ok((sum, squares));
    }
    for_each_block(view, check, &mut |block| {
        let more = stats::sums_f64(block);
        (sum, squares) = (sum + more.0, squares + more.1);
    })?;
    Ok((sum, squares))
}

fn for_each_block(
    view: &TensorView<'_>,
    check: &mut dyn FnMut(),
    f: &mut dyn FnMut(&[f64]),
) -> Result<()> {
    let mut seen = 0;
    convert::for_each_block(view, &mut |block| {
        f(block);
        seen += block.len();
        if seen >= STEP_ELEMENTS {
            seen = 0;
            check();
        }
    })
}

/// Returns the number of elements.
pub fn count(view: &TensorView<'_>) -> u64 {
    view.shape().elements()
}

/// Returns the sum; 0 for no elements.
pub fn sum(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<f64> {
    Ok(sums(view, check)?.0)
}

/// Returns the Euclidean norm; 0 for no elements.
pub fn l2(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<f64> {
    let squares = sums(view, check)?.1;
    // If squares overflow or underflow, the norm itself need not.
    if squares.is_nan() || squares.is_finite() && squares > f64::MIN_POSITIVE / f64::EPSILON {
        return Ok(squares.sqrt());
    }
    with_nan(view, check, Stats::l2)
}

/// Returns the largest magnitude; 0 for no elements.
pub fn linf(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<f64> {
    with_nan(view, check, |s| s.abs_max)
}

/// Returns the sum of magnitudes; 0 for no elements.
pub fn l1(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<f64> {
    let mut total = 0.0;
    for_each_block(view, check, &mut |block| {
        total += block.iter().map(|v| v.abs()).sum::<f64>()
    })?;
    Ok(total)
}

/// Returns the smallest element; `None` for no elements.
pub fn min(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<Option<f64>> {
    if_any(view, check, |s| s.min)
}

/// Returns the largest element; `None` for no elements.
pub fn max(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<Option<f64>> {
    if_any(view, check, |s| s.max)
}

/// Returns the mean; `None` for no elements.
pub fn mean(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<Option<f64>> {
    if_any(view, check, |s| s.mean)
}

/// Returns the population standard deviation; `None` for no elements.
pub fn std(view: &TensorView<'_>, check: &mut dyn FnMut()) -> Result<Option<f64>> {
    if_any(view, check, |s| s.std)
}

fn with_nan(
    view: &TensorView<'_>,
    check: &mut dyn FnMut(),
    f: impl Fn(&Stats) -> f64,
) -> Result<f64> {
    let stats = stats(view, check)?;
    Ok(if stats.nans > 0 { f64::NAN } else { f(&stats) })
}

fn if_any(
    view: &TensorView<'_>,
    check: &mut dyn FnMut(),
    f: impl Fn(&Stats) -> f64,
) -> Result<Option<f64>> {
    if view.shape().elements() == 0 {
        // An opaque tensor is refused regardless of its number of elements.
        return stats(view, check).map(|_| None);
    }
    with_nan(view, check, f).map(Some)
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
            (
                l1(&view, &mut || ()),
                l2(&view, &mut || ()),
                linf(&view, &mut || ())
            ),
            (Ok(7.0), Ok(5.0), Ok(4.0))
        );
        assert_eq!(
            (
                sum(&view, &mut || ()),
                mean(&view, &mut || ()),
                count(&view)
            ),
            (Ok(-1.0), Ok(Some(-0.25)), 4)
        );
        assert_eq!(
            (min(&view, &mut || ()), max(&view, &mut || ())),
            (Ok(Some(-4.0)), Ok(Some(3.0)))
        );
        assert_eq!(std(&view, &mut || ()), Ok(Some((24.75f64 / 4.0).sqrt())));
    }

    #[test]
    fn of_nothing_nan_blocks_and_opaque() {
        let empty = of("f32(0,3):[]");
        assert_eq!(
            (
                sum(&empty.view(), &mut || ()),
                mean(&empty.view(), &mut || ()),
                std(&empty.view(), &mut || ())
            ),
            (Ok(0.0), Ok(None), Ok(None))
        );
        let nan = of("[1,nan]");
        assert!(sum(&nan.view(), &mut || ()).is_ok_and(f64::is_nan));
        assert!(max(&nan.view(), &mut || ()).is_ok_and(|m| m.is_some_and(f64::is_nan)));
        let blocks = of(&format!(
            "q8_0(2,32):\\x{0}{0}",
            format!("003c{}", "fe".repeat(32))
        ));
        assert_eq!(
            (
                sum(&blocks.view(), &mut || ()),
                l1(&blocks.view(), &mut || ())
            ),
            (Ok(-128.0), Ok(128.0))
        );
        assert_eq!(std(&blocks.view(), &mut || ()), Ok(Some(0.0)));
        let opaque = of("f4(2):\\x12");
        assert_eq!(
            sum(&opaque.view(), &mut || ()),
            Err(Error::NotNumeric(crate::DType::F4))
        );
    }

    #[test]
    fn far_from_zero_and_at_the_ends() {
        let check = &mut || ();
        let seconds = of("i64:[1700000000000,1700000000001,1700000000002]");
        assert_eq!(std(&seconds.view(), check), Ok(Some((2.0f64 / 3.0).sqrt())));
        assert_eq!(sum(&seconds.view(), check), Ok(5100000000003.0));
        for scale in ["200", "-200", "307", "-308"] {
            let ends = of(&format!("f64:[3e{scale},-4e{scale}]"));
            let one: f64 = format!("1e{scale}").parse().expect("a number");
            let near = |found: f64, expected: f64| (found / one - expected).abs() < 1e-14;
            assert!(
                l2(&ends.view(), check).is_ok_and(|l2| near(l2, 5.0)),
                "{scale}"
            );
            let deviation = std(&ends.view(), check);
            assert!(
                deviation.is_ok_and(|std| std.is_some_and(|std| near(std, 3.5))),
                "{scale}"
            );
        }
        let zero = of("f64:[0,-0]");
        assert_eq!(
            (l2(&zero.view(), check), std(&zero.view(), check)),
            (Ok(0.0), Ok(Some(0.0)))
        );
        let infinite = of("[inf,1]");
        assert_eq!(l2(&infinite.view(), check), Ok(f64::INFINITY));
        assert!(std(&infinite.view(), check).is_ok_and(|s| s.is_some_and(f64::is_nan)));
    }

    #[test]
    fn a_long_tensor_is_taken_in_steps() {
        let count = STEP / 4 * 3 + 5;
        let values = (0..count).map(|i| 1e4 + (i % 7) as f32);
        let data = values.flat_map(f32::to_le_bytes).collect();
        let shape = crate::Shape::new(&[count as u64]).expect("a shape");
        let long = crate::Tensor::new(crate::DType::F32, shape, data).expect("fits");
        let mut checks = 0;
        let deviation = std(&long.view(), &mut || checks += 1);
        assert!(deviation.is_ok_and(|s| s.is_some_and(|s| (s - 2.0).abs() < 1e-6)));
        assert_eq!(checks, 4);
        let exact: f64 = (0..count).map(|i| 1e4 + (i % 7) as f64).sum();
        assert_eq!(sum(&long.view(), &mut || checks += 1), Ok(exact));
        assert_eq!(checks, 8);
    }
}
