//! The scan against a slow obvious one, and its versions against each other.

use super::*;
use crate::convert::to_f64;
use crate::{Shape, TensorView};
use proptest::prelude::*;

/// One element after the other, sums compensated.
fn slow(dtype: DType, data: &[u8]) -> Stats {
    let bytes = dtype.element_bytes().expect("an element type") as u64;
    let shape = Shape::new(&[data.len() as u64 / bytes]).expect("a shape");
    let view = TensorView::new(dtype, shape, data).expect("whole elements");
    let mut stats = Stats::EMPTY;
    let (mut sum, mut squares) = (Kahan::default(), Kahan::default());
    to_f64(&view, &mut |v| {
        stats.count += 1;
        if v.is_nan() {
            stats.nans += 1;
            return;
        }
        stats.min = stats.min.min(v);
        stats.max = stats.max.max(v);
        stats.abs_max = stats.abs_max.max(v.abs());
        stats.zeros += u64::from(v == 0.0);
        stats.infs += u64::from(v.is_infinite());
        sum.add(v);
        squares.add(v * v);
    })
    .expect("numeric");
    stats.sum = sum.total();
    stats.sum_squares = squares.total();
    stats
}

#[derive(Default)]
struct Kahan {
    sum: f64,
    rest: f64,
    plain: f64,
    magnitude: f64,
}

impl Kahan {
    fn add(&mut self, v: f64) {
        self.plain += v;
        self.magnitude += v.abs();
        let y = v - self.rest;
        let t = self.sum + y;
        self.rest = (t - self.sum) - y;
        self.sum = t;
    }

    /// Compensation makes NaN of infinity; the plain sum is right then.
    fn total(&self) -> f64 {
        if self.sum.is_finite() {
            self.sum
        } else {
            self.plain
        }
    }
}

fn close(a: f64, b: f64, scale: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-12 * scale || !scale.is_finite()
}

fn numeric() -> impl Strategy<Value = DType> {
    let dtypes: Vec<DType> = DType::ALL
        .iter()
        .copied()
        .filter(|d| scan(*d, &[]).is_some())
        .collect();
    prop::sample::select(dtypes)
}

proptest! {
    #[test]
    fn agrees_with_the_slow_one(dtype in numeric(), data in prop::collection::vec(any::<u8>(), 0..3000), skip in 0usize..8) {
        let bytes = dtype.element_bytes().expect("an element type");
        let data = data.get(skip..).unwrap_or_default();
        let data = &data[..data.len() / bytes * bytes];
        let fast = scan(dtype, data).expect("numeric");
        let slow = slow(dtype, data);
        let (sum, squares) = (fast.sum, fast.sum_squares);
        prop_assert_eq!(Stats { sum: 0.0, sum_squares: 0.0, ..fast }, Stats { sum: 0.0, sum_squares: 0.0, ..slow });
        let scale = slow.abs_max * slow.count as f64;
        prop_assert!(close(sum, slow.sum, scale), "{sum} {}", slow.sum);
        prop_assert!(close(squares, slow.sum_squares, slow.sum_squares), "{squares} {}", slow.sum_squares);
    }

    #[test]
    fn all_versions_compute_the_same_bits(dtype in numeric(), data in prop::collection::vec(any::<u8>(), 0..3000)) {
        let data = &data[..data.len() / 8 * 8];
        let (fast, plain) = (scan(dtype, data).expect("numeric"), scan_baseline(dtype, data).expect("numeric"));
        prop_assert_eq!(bits(&fast), bits(&plain));
    }

    #[test]
    fn merging_is_scanning_the_whole(data in prop::collection::vec(-1e3f32..1e3, 0..500), cut in 0usize..500) {
        let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        let cut = cut.min(data.len()) * 4;
        let mut merged = scan(DType::F32, &bytes[..cut]).expect("numeric");
        merged.merge(&scan(DType::F32, &bytes[cut..]).expect("numeric"));
        let whole = scan(DType::F32, &bytes).expect("numeric");
        prop_assert!((merged.sum - whole.sum).abs() < 1e-6);
        prop_assert_eq!((merged.min, merged.max, merged.count, merged.zeros), (whole.min, whole.max, whole.count, whole.zeros));
    }
}

/// NaN made of infinities has no defined sign.
fn bits(stats: &Stats) -> Vec<u64> {
    let float = |v: f64| if v.is_nan() { 1 } else { v.to_bits() };
    [
        stats.min,
        stats.max,
        stats.sum,
        stats.sum_squares,
        stats.abs_max,
    ]
    .map(float)
    .into_iter()
    .chain([stats.count, stats.zeros, stats.nans, stats.infs])
    .collect()
}

#[test]
fn every_f16_and_bf16_converts() {
    for code in 0..=u16::MAX {
        let bytes = code.to_le_bytes();
        for (dtype, value) in [
            (DType::F16, half::f16::from_bits(code).to_f64()),
            (DType::BF16, half::bf16::from_bits(code).to_f64()),
        ] {
            let stats = scan(dtype, &bytes).expect("numeric");
            if value.is_nan() {
                assert_eq!((stats.nans, stats.min()), (1, None));
            } else {
                assert_eq!((stats.min, stats.max, stats.sum), (value, value, value));
            }
        }
    }
}

#[test]
fn nothing_and_nothing_but_nan() {
    assert_eq!(scan(DType::F32, &[]), Some(Stats::EMPTY));
    let stats = scan(DType::F32, &f32::NAN.to_le_bytes()).expect("numeric");
    assert_eq!(
        stats,
        Stats {
            count: 1,
            nans: 1,
            ..Stats::EMPTY
        }
    );
    assert_eq!((stats.min(), stats.mean(), stats.std()), (None, None, None));
    assert_eq!(scan(DType::F4, &[0]), None);
    assert_eq!(scan(DType::Q8_0, &[0; 34]), None);
}

#[test]
fn mean_and_deviation() {
    let data: Vec<u8> = [1i32, 2, 3, 4]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let stats = scan(DType::I32, &data).expect("numeric");
    assert_eq!(
        (stats.mean(), stats.std()),
        (Some(2.5), Some(1.25f64.sqrt()))
    );
    assert_eq!(stats.l2(), 30f64.sqrt());
}
