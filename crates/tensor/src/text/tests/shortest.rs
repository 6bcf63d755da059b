//! Decimals of the small floats, exhaustively.

use super::{parse, print};
use crate::convert::to_f64_vec;
use crate::{DType, Shape, Tensor};

/// Every code of the small floats: the text reads back and no shorter decimal would. Enough digits of the exact value
/// are compared with those that were printed.
#[test]
fn small_floats_print_the_shortest_decimal() {
    for (dtype, codes) in [
        (DType::F16, 1u16 << 15),
        (DType::BF16, 1 << 15),
        (DType::F8E4M3, 128),
        (DType::F8E5M2, 128),
    ] {
        let bytes = dtype.block_bytes() as usize;
        for code in 1..codes {
            let tensor = Tensor::new(
                dtype,
                Shape::default(),
                code.to_le_bytes()[..bytes].to_vec(),
            )
            .expect("fits");
            let text = print(&tensor);
            assert_eq!(parse(&text).as_ref(), Ok(&tensor), "{text}");
            let value = to_f64_vec(&tensor.view()).expect("numeric")[0];
            if !value.is_finite() {
                continue;
            }
            let (_, number) = text.split_once(':').expect("a dtype");
            let exponential = format!("{:e}", number.parse::<f64>().expect("a number"));
            let digits = exponential
                .split_once('e')
                .expect("an exponent")
                .0
                .bytes()
                .filter(u8::is_ascii_digit)
                .count();
            assert_no_decimal(&tensor, value, digits - 1);
            assert_nearest(&tensor, value, digits, number);
        }
    }
}

/// The decimals of so many digits on both sides of a value.
fn neighbours(value: f64, digits: usize) -> Vec<String> {
    let text = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').expect("an exponent");
    let whole: i64 = mantissa.replace('.', "").parse().expect("digits");
    let exponent: i64 = exponent.parse().expect("an exponent");
    let exponent = exponent - digits as i64 + 1;
    (whole - 1..=whole + 1)
        .map(|d| format!("{d}e{exponent}"))
        .collect()
}

fn reads_as(decimal: &str, tensor: &Tensor) -> bool {
    parse(&format!("{}:{decimal}", tensor.dtype())).as_ref() == Ok(tensor)
}

fn assert_no_decimal(tensor: &Tensor, value: f64, digits: usize) {
    if digits > 0 {
        for decimal in neighbours(value, digits) {
            assert!(
                !reads_as(&decimal, tensor),
                "{decimal} is shorter than {}",
                print(tensor)
            );
        }
    }
}

/// Where a power of ten separates two decimals of as many digits, the one on the far side may be nearer; the usual
/// algorithms do not look there.
fn assert_nearest(tensor: &Tensor, value: f64, digits: usize, printed: &str) {
    let distance = |text: &str| (text.parse::<f64>().expect("a number") - value).abs();
    let magnitude = |text: &str| {
        format!("{:e}", text.parse::<f64>().expect("a number"))
            .split_once('e')
            .map(|e| e.1.to_owned())
    };
    let rivals = neighbours(value, digits)
        .into_iter()
        .filter(|d| magnitude(d) == magnitude(printed));
    for decimal in rivals.filter(|d| reads_as(d, tensor)) {
        let slack = value * 1e-15;
        assert!(
            distance(printed) <= distance(&decimal) + slack,
            "{decimal} is nearer than {printed}"
        );
    }
}

#[test]
fn decimals_near_a_middle_round_once() {
    // 1 + 2^-11 is the middle between 1 and the next f16; as a double the longer decimals are equal to it.
    for (decimal, code) in [
        ("1.00048828125", 0x3c00u16),
        ("1.0004882812500000000000001", 0x3c01),
        ("1.0004882812499999999999999", 0x3c00),
        ("-100048828125000000000000.1e-23", 0xbc01),
        ("65519.99999999999999999999", 0x7bff),
        ("2.98023223876953125e-8", 0),
        ("2.980232238769531250000000001e-8", 1),
    ] {
        let tensor = parse(&format!("f16:{decimal}")).unwrap_or_else(|e| panic!("{decimal}: {e}"));
        assert_eq!(tensor.data(), code.to_le_bytes(), "{decimal}");
    }
}
