//! The curve in the plane: against the package whose orientation it has, and what makes it a Hilbert curve.
#![allow(clippy::unwrap_used)]

use modelstore_atom::Error;
use modelstore_atom::hilbert::{
    hilbert_decode, hilbert_decode_many, hilbert_encode, hilbert_encode_many, hilbert_encode_nd,
};
use proptest::prelude::*;

/// Numbers without end from a seed (SplitMix64).
fn random(seed: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    })
}

#[test]
fn at_order_1_as_the_documentation_says() {
    let along: Vec<_> = (0..4)
        .map(|code| hilbert_decode(code, 1).unwrap())
        .collect();
    assert_eq!(along, [(0, 0), (0, 1), (1, 1), (1, 0)]);
}

#[test]
fn first_step_depends_on_the_order_and_the_end_does_not() {
    for order in 1..=31 {
        let second = if order % 2 == 1 { (0, 1) } else { (1, 0) };
        assert_eq!(hilbert_decode(0, order), Ok((0, 0)));
        assert_eq!(hilbert_decode(1, order), Ok(second));
        let end = (1u64 << (2 * order)) - 1;
        assert_eq!(hilbert_decode(end, order), Ok(((1 << order) - 1, 0)));
    }
}

#[test]
fn every_cell_of_small_grids_is_where_the_package_has_it() {
    for order in 1..=10 {
        let side = 1usize << order;
        for (x, y) in (0..side).flat_map(|x| (0..side).map(move |y| (x, y))) {
            let expected = hilbert_curve::convert_2d_to_1d(x, y, side) as u64;
            let code = hilbert_encode(x as u64, y as u64, order).unwrap();
            assert_eq!(code, expected, "({x}, {y}) at order {order}");
            assert_eq!(hilbert_decode(code, order), Ok((x as u64, y as u64)));
            assert_eq!(hilbert_encode_nd(&[x as u64, y as u64], order), Ok(code));
            if code > 0 {
                let (a, b) = hilbert_decode(code - 1, order).unwrap();
                assert_eq!(a.abs_diff(x as u64) + b.abs_diff(y as u64), 1);
            }
        }
    }
}

#[test]
fn ten_million_cells_of_large_grids_are_where_the_package_has_them() {
    for order in [16, 28, 31] {
        let side = 1u64 << order;
        let mut numbers = random(order as u64).map(|n| (n % side) as i64);
        let xs: Vec<i64> = numbers.by_ref().take(10_000_000).collect();
        let ys: Vec<i64> = numbers.take(10_000_000).collect();
        let mut codes = Vec::new();
        hilbert_encode_many(&xs, &ys, order, &mut codes).unwrap();
        for ((&x, &y), &code) in xs.iter().zip(&ys).zip(&codes) {
            let expected = hilbert_curve::convert_2d_to_1d(x as usize, y as usize, side as usize);
            assert_eq!(code as usize, expected, "({x}, {y}) at order {order}");
            let back = hilbert_curve::convert_1d_to_2d(code as usize, side as usize);
            assert_eq!(back, (x as usize, y as usize));
            assert_eq!(hilbert_encode(x, y, order), Ok(code as u64));
        }
        let (mut xs_back, mut ys_back) = (Vec::new(), Vec::new());
        hilbert_decode_many(&codes, order, &mut xs_back, &mut ys_back).unwrap();
        assert!(xs_back == xs && ys_back == ys);
    }
}

#[test]
fn what_the_grid_does_not_have_is_named() {
    let message = |error: Error| (error.to_string(), error.detail().unwrap());
    for order in [-1, 0, 32, i32::MAX] {
        let error = hilbert_encode(0, 0, order).unwrap_err();
        assert_eq!(error, Error::Order { order, axes: 2 });
        assert_eq!(hilbert_decode(0, order), Err(error));
    }
    let (text, detail) = message(hilbert_encode(0, 0, 32).unwrap_err());
    assert_eq!(text, "order 32 of a hilbert curve is out of range");
    assert_eq!(
        detail,
        "The order of a curve of 2 axes is 1 to 31, for codes of at most 63 bits."
    );
    let (text, detail) = message(hilbert_encode(8, -1, 3).unwrap_err());
    assert_eq!(text, "coordinate x = 8 is out of range");
    assert_eq!(detail, "Coordinates at order 3 are 0 to 7.");
    assert_eq!(
        message(hilbert_encode(u64::MAX, 0, 31).unwrap_err()).0,
        "coordinate x = 18446744073709551615 is out of range"
    );
    assert_eq!(
        message(hilbert_encode(7, -1, 3).unwrap_err()).0,
        "coordinate y = -1 is out of range"
    );
    let (text, detail) = message(hilbert_decode(64, 3).unwrap_err());
    assert_eq!(text, "hilbert code 64 is out of range");
    assert_eq!(detail, "Codes of this curve are 0 to 63.");
    assert!(hilbert_decode(i64::MIN, 31).is_err());
}

#[test]
fn arrays_name_the_bad_element_and_leave_the_output_alone() {
    let mut codes = vec![7];
    let error = hilbert_encode_many(&[1, 2, 3], &[0, -1, 9], 2, &mut codes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "element 1: coordinate y = -1 is out of range"
    );
    assert_eq!(
        error.detail().unwrap(),
        "Coordinates at order 2 are 0 to 3."
    );
    let error = hilbert_encode_many(&[1, 2], &[0], 2, &mut codes).unwrap_err();
    assert_eq!(error, Error::Lengths(2, 1));
    assert_eq!(codes, [7]);
    hilbert_encode_many(&[], &[], 2, &mut codes).unwrap();
    hilbert_encode_many(&[1], &[0], 2, &mut codes).unwrap();
    assert_eq!(codes, [7, 1]);

    let (mut xs, mut ys) = (vec![7], vec![]);
    let error = hilbert_decode_many(&[0, 15, 16], 2, &mut xs, &mut ys).unwrap_err();
    assert_eq!(
        error.to_string(),
        "element 2: hilbert code 16 is out of range"
    );
    assert_eq!((&xs, &ys), (&vec![7], &vec![]));
    hilbert_decode_many(&[15, 1], 2, &mut xs, &mut ys).unwrap();
    assert_eq!((xs, ys), (vec![7, 3, 1], vec![0, 0]));
}

proptest! {
    #[test]
    fn successive_codes_are_neighbours(order in 1..=31i32, at: u64) {
        let code = at % ((1 << (2 * order)) - 1);
        let (a, b) = (hilbert_decode(code, order)?, hilbert_decode(code + 1, order)?);
        prop_assert_eq!(a.0.abs_diff(b.0) + a.1.abs_diff(b.1), 1);
        prop_assert_eq!(hilbert_encode(a.0, a.1, order)?, code);
    }

    #[test]
    fn nothing_panics(x: i64, y: i64, order: i32) {
        let small = order.rem_euclid(40);
        for order in [order, small] {
            let _ = hilbert_encode(x, y, order);
            let _ = hilbert_decode(x, order);
            let _ = hilbert_encode_many(&[x], &[y], order, &mut Vec::new());
            let _ = hilbert_decode_many(&[x], order, &mut Vec::new(), &mut Vec::new());
        }
    }
}
