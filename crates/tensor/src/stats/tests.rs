//! The scan against a slow obvious one, and its versions against each other.

use super::*;
use crate::convert::to_f64;
use crate::{Shape, TensorView};
use proptest::prelude::*;

/// One element after the other; numbers twice, the second time relative to their mean.
fn slow(dtype: DType, data: &[u8]) -> Stats {
    let bytes = dtype.element_bytes().expect("an element type") as u64;
    let shape = Shape::new(&[data.len() as u64 / bytes]).expect("a shape");
    let view = TensorView::new(dtype, shape, data).expect("whole elements");
    let mut stats = Stats::EMPTY;
    let mut numbers = Vec::new();
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
        numbers.push(v);
    })
    .expect("numeric");
    if stats.infs > 0 {
        stats.mean = numbers.iter().fold(0.0, |sum, v| sum + v / 1e6);
        stats.std = f64::NAN;
    } else if !numbers.is_empty() {
        // By what makes the largest magnitude about one; twice, for what no power of two undoes at once.
        let exponent = stats.abs_max.max(f64::MIN_POSITIVE).log2() as i32;
        let scaled = |v: f64| v * 2f64.powi(-exponent / 2) * 2f64.powi(exponent / 2 - exponent);
        let back = |v: f64| v * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
        let count = numbers.len() as f64;
        let base = scaled(numbers[0]);
        let offsets: Vec<f64> = numbers.iter().map(|&v| scaled(v) - base).collect();
        let mean = compensated(offsets.iter().copied()) / count;
        let squares = compensated(offsets.iter().map(|v| (v - mean) * (v - mean)));
        stats.mean = back(base + mean);
        stats.std = back((squares / count).sqrt());
    }
    stats
}

/// The sum, with what each addition loses.
fn compensated(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut rest) = (0f64, 0f64);
    for value in values {
        let total = sum + value;
        let (large, small) = if sum.abs() >= value.abs() {
            (sum, value)
        } else {
            (value, sum)
        };
        rest += (large - total) + small;
        sum = total;
    }
    sum + rest
}

/// Equal to a few of the last bits of `scale`.
fn close(a: f64, b: f64, scale: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-13 * scale
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
        prop_assert_eq!(Stats { mean: 0.0, std: 0.0, ..fast }, Stats { mean: 0.0, std: 0.0, ..slow });
        prop_assert!(close(fast.mean, slow.mean, slow.abs_max), "{} {}", fast.mean, slow.mean);
        prop_assert!(close(fast.std, slow.std, slow.std), "{} {}", fast.std, slow.std);
    }

    #[test]
    fn all_versions_compute_the_same_bits(dtype in numeric(), data in prop::collection::vec(any::<u8>(), 0..3000)) {
        let data = &data[..data.len() / 8 * 8];
        let (fast, plain) = (scan(dtype, data).expect("numeric"), scan_baseline(dtype, data).expect("numeric"));
        prop_assert_eq!(bits(&fast), bits(&plain));
    }

    #[test]
    fn merging_is_scanning_the_whole(data in prop::collection::vec(number(), 0..500), far in prop::sample::select(vec![0.0, 1e8, -1.7e12]), cut in 0usize..500) {
        let bytes: Vec<u8> = data.iter().flat_map(|v| (v + far).to_le_bytes()).collect();
        let cut = cut.min(data.len()) * 8;
        let mut merged = scan(DType::F64, &bytes[..cut]).expect("numeric");
        merged.merge(&scan(DType::F64, &bytes[cut..]).expect("numeric"));
        let whole = scan(DType::F64, &bytes).expect("numeric");
        prop_assert!(close(merged.mean, whole.mean, whole.abs_max));
        // The means themselves are rounded to doubles.
        prop_assert!((merged.std - whole.std).abs() <= 1e-13 * whole.std + 1e-15 * whole.abs_max, "{} {}", merged.std, whole.std);
        prop_assert_eq!(Stats { mean: 0.0, std: 0.0, ..merged }, Stats { mean: 0.0, std: 0.0, ..whole });
    }
}

/// Mostly numbers, sometimes none.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![9 => -1e3f64..1e3, 1 => Just(f64::NAN), 1 => Just(0.0)]
}

/// NaN made of infinities has no defined sign.
fn bits(stats: &Stats) -> Vec<u64> {
    let float = |v: f64| if v.is_nan() { 1 } else { v.to_bits() };
    [stats.min, stats.max, stats.mean, stats.std, stats.abs_max]
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
                assert_eq!((stats.min, stats.max, stats.mean), (value, value, value));
                assert!(if value.is_finite() {
                    stats.std == 0.0
                } else {
                    stats.std.is_nan()
                });
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

fn of_doubles(values: &[f64]) -> Stats {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    scan(DType::F64, &data).expect("numeric")
}

#[test]
fn the_deviation_of_numbers_far_from_zero() {
    let close = |values: &[f64], std: f64| {
        let found = of_doubles(values).std().expect("numbers");
        assert!((found / std - 1.0).abs() < 1e-7, "{found} {std}");
    };
    let third = (2.0f64 / 3.0).sqrt();
    close(&[100000000.1, 100000000.2, 100000000.3], third / 10.0);
    close(&[1.7e12, 1.7e12 + 1.0, 1.7e12 + 2.0], third);
    close(&[3e-310, 6e-310, 9e-310], 3e-310 * third);
    close(&[1e300, 2e300, 3e300], 1e300 * third);
    close(&[f64::MAX, -f64::MAX], f64::MAX);
    let dates: Vec<u8> = (0..100_000i64)
        .flat_map(|i| (1_700_000_000_000 + i % 3).to_le_bytes())
        .collect();
    let stats = scan(DType::I64, &dates).expect("numeric");
    assert!((stats.std - third).abs() < 1e-4 && (stats.mean - 1_700_000_000_001.0).abs() < 1e-3);
    // What comes first lies far from the rest.
    let mut outlier = vec![1e12; 10];
    outlier.extend((0..300_000).map(|i| f64::from(i % 2)));
    let n = outlier.len() as f64;
    let mean = compensated(outlier.iter().copied()) / n;
    let squares = compensated(outlier.iter().map(|v| (v - mean) * (v - mean)));
    let std = (squares / n).sqrt();
    let found = of_doubles(&outlier).std;
    assert!((found / std - 1.0).abs() < 1e-13, "{found} {std}");
}

#[test]
fn equal_numbers_deviate_by_nothing() {
    for value in [0.1, -1e300, 5e-324, f64::MAX, 1.7e12 + 0.3] {
        let stats = of_doubles(&vec![value; 100_003]);
        assert_eq!((stats.mean, stats.std), (value, 0.0));
    }
    let singles: Vec<u8> = std::iter::repeat_n(0.1f32, 99_999)
        .flat_map(f32::to_le_bytes)
        .collect();
    let stats = scan(DType::F32, &singles).expect("numeric");
    assert_eq!((stats.mean, stats.std), (f64::from(0.1f32), 0.0));
}

#[test]
fn sums_are_of_all_elements() {
    for dtype in DType::ALL {
        assert_eq!(sums(*dtype, &[]).is_some(), scan(*dtype, &[]).is_some());
    }
    let data: Vec<u8> = (0..70_000i32).flat_map(|i| (i - 5).to_le_bytes()).collect();
    let exact: i64 = (0..70_000i64).map(|i| i - 5).sum();
    let squares: i64 = (0..70_000i64).map(|i| (i - 5) * (i - 5)).sum();
    assert_eq!(
        sums(DType::I32, &data),
        Some((exact as f64, squares as f64))
    );
    assert_eq!(sums(DType::I8, &[0xff, 2]), Some((1.0, 5.0)));
    assert_eq!(sums(DType::Bool, &[1, 0, 7]), Some((2.0, 2.0)));
    assert!(sums(DType::F8E4M3, &[0x7f]).is_some_and(|s| s.0.is_nan()));
}
