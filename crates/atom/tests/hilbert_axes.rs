//! Curves over several axes: against a Python package, and what makes them Hilbert curves.
#![allow(clippy::unwrap_used)]

use modelstore_atom::Error;
use modelstore_atom::hilbert::{
    MAX_AXES, hilbert_decode_nd, hilbert_encode, hilbert_encode_nd, max_order,
};
use proptest::prelude::*;

/// From the Python package `hilbertcurve`: data/README.md.
const GOLDEN: &str = include_str!("data/hilbertcurve.csv");

#[test]
fn codes_are_those_of_the_python_package() {
    let mut count = 0;
    for line in GOLDEN.lines().skip(1) {
        let [axes, order, code, point] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let axes: usize = axes.parse().unwrap();
        let (order, code) = (order.parse().unwrap(), code.parse::<u64>().unwrap());
        let point: Vec<u64> = point.split(' ').map(|c| c.parse().unwrap()).collect();
        assert_eq!(hilbert_encode_nd(&point, order), Ok(code), "{line}");
        assert_eq!(
            hilbert_decode_nd(code, axes, order).as_ref(),
            Ok(&point),
            "{line}"
        );
        if let [x, y] = point[..] {
            assert_eq!(hilbert_encode(x, y, order), Ok(code), "{line}");
        }
        count += 1;
    }
    assert_eq!(count, 340);
}

#[test]
fn small_curves_go_through_every_cell_once_and_from_neighbour_to_neighbour() {
    for axes in 2..=MAX_AXES {
        for order in (1..=max_order(axes)).take_while(|order| axes as u32 * order <= 16) {
            let order = order as i32;
            let mut before: Option<Vec<u64>> = None;
            for code in 0..1u64 << (axes as i32 * order) {
                let point = hilbert_decode_nd(code, axes, order).unwrap();
                // As each code comes back from its point, no two points are equal.
                assert_eq!(hilbert_encode_nd(&point, order), Ok(code));
                if let Some(before) = before {
                    assert_eq!(distance(&before, &point), 1, "before {code} of {axes} axes");
                }
                before = Some(point);
            }
        }
    }
}

fn distance(a: &[u64], b: &[u64]) -> u64 {
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).sum()
}

#[test]
fn what_a_curve_does_not_have_is_named() {
    assert_eq!(hilbert_encode_nd::<u64>(&[], 1), Err(Error::Axes(0)));
    assert_eq!(hilbert_encode_nd(&[0], 1), Err(Error::Axes(1)));
    assert_eq!(hilbert_encode_nd(&[0; 9], 1), Err(Error::Axes(9)));
    assert_eq!(hilbert_decode_nd(0, 9, 1), Err(Error::Axes(9)));
    assert_eq!(Error::Axes(9).detail().unwrap(), "A curve has 2 to 8 axes.");
    for (axes, largest) in [(2, 31), (3, 21), (4, 15), (5, 12), (6, 10), (7, 9), (8, 7)] {
        let end = hilbert_encode_nd(&vec![(1i64 << largest) - 1; axes], largest);
        assert!(end.unwrap() < 1 << 63);
        for order in [-1, 0, largest + 1] {
            let error = Error::Order { order, axes };
            assert_eq!(hilbert_encode_nd(&vec![0; axes], order), Err(error.clone()));
            assert_eq!(hilbert_decode_nd(0, axes, order), Err(error));
        }
    }
    let error = hilbert_encode_nd(&[0, 0, 0, 8], 3).unwrap_err();
    assert_eq!(error.to_string(), "coordinate m = 8 is out of range");
    let error = hilbert_encode_nd(&[0, 0, -8], 3).unwrap_err();
    assert_eq!(error.to_string(), "coordinate z = -8 is out of range");
    let error = hilbert_decode_nd(i64::MIN, 3, 21).unwrap_err();
    assert_eq!(
        error.detail().unwrap(),
        format!("Codes of this curve are 0 to {}.", i64::MAX)
    );
    assert!(hilbert_decode_nd(512, 3, 3).is_err());
}

proptest! {
    #[test]
    fn points_come_back_and_the_next_code_is_next_to_it(axes in 2..=MAX_AXES, order: u32, at: u64) {
        let order = 1 + order % max_order(axes);
        let code = at % ((1 << (axes as u32 * order)) - 1);
        let point = hilbert_decode_nd(code, axes, order as i32)?;
        prop_assert_eq!(hilbert_encode_nd(&point, order as i32)?, code);
        let next = hilbert_decode_nd(code + 1, axes, order as i32)?;
        prop_assert_eq!(distance(&point, &next), 1);
    }
}
