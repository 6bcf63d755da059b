//! Ranges that cover a box: against looking at every cell, and on grids too large for that.
#![allow(clippy::unwrap_used)]

use modelstore_atom::Error;
use modelstore_atom::hilbert::{
    CellBox, CodeRange, MAX_RANGES, hilbert_decode, hilbert_encode, hilbert_ranges,
};
use proptest::prelude::*;

fn cells(x: (i64, i64), y: (i64, i64)) -> CellBox {
    CellBox {
        min: [x.0, y.0],
        max: [x.1, y.1],
    }
}

fn contains(cells: &CellBox, code: u64, order: i32) -> bool {
    let (x, y) = hilbert_decode(code, order).unwrap();
    let at = [x as i64, y as i64];
    (0..2).all(|axis| (cells.min[axis]..=cells.max[axis]).contains(&at[axis]))
}

/// The ranges by looking at each code of the curve.
fn by_looking(cells: &CellBox, order: i32) -> Vec<CodeRange> {
    let mut ranges: Vec<CodeRange> = Vec::new();
    for code in (0..1 << (2 * order)).filter(|&code| contains(cells, code, order)) {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == code => range.last = code,
            _ => ranges.push(CodeRange {
                first: code,
                last: code,
            }),
        }
    }
    ranges
}

/// What holds for any answer: in order, apart, at most so many, and from a cell of the box to a cell of the box.
fn check_form(ranges: &[CodeRange], cells: &CellBox, order: i32, most: usize) {
    assert!((1..=most).contains(&ranges.len()));
    assert!(ranges.windows(2).all(|two| two[0].last + 1 < two[1].first));
    for range in ranges {
        assert!(range.first <= range.last);
        assert!(contains(cells, range.first, order) && contains(cells, range.last, order));
    }
}

fn covers(ranges: &[CodeRange], code: u64) -> bool {
    let next = ranges.partition_point(|range| range.last < code);
    ranges.get(next).is_some_and(|range| range.first <= code)
}

fn codes(ranges: &[CodeRange]) -> u64 {
    ranges
        .iter()
        .map(|range| range.last - range.first + 1)
        .sum()
}

/// A grid of order up to 6 and a box in it.
fn small_box() -> impl Strategy<Value = (i32, CellBox)> {
    (1..=6i32, any::<[u32; 4]>()).prop_map(|(order, corners)| {
        let [a, b, c, d] = corners.map(|n| i64::from(n) % (1 << order));
        (order, cells((a.min(b), a.max(b)), (c.min(d), c.max(d))))
    })
}

proptest! {
    #[test]
    fn without_a_maximum_they_are_exact((order, cells) in small_box()) {
        let ranges = hilbert_ranges(cells, order, None)?;
        check_form(&ranges, &cells, order, MAX_RANGES);
        prop_assert_eq!(ranges, by_looking(&cells, order));
    }

    #[test]
    fn a_maximum_joins_over_the_smallest_gaps((order, cells) in small_box(), most in 1..40usize) {
        let ranges = hilbert_ranges(cells, order, Some(most))?;
        check_form(&ranges, &cells, order, most);
        let exact = by_looking(&cells, order);
        prop_assert!(exact.iter().all(|range| covers(&ranges, range.first)
            && ranges.iter().any(|r| r.first <= range.first && range.last <= r.last)));
        prop_assert_eq!(ranges.len(), most.min(exact.len()));
        let mut gaps: Vec<u64> = exact.windows(2).map(|w| w[1].first - w[0].last - 1).collect();
        gaps.sort_unstable();
        let joined: u64 = gaps[..exact.len() - ranges.len()].iter().sum();
        prop_assert_eq!(codes(&ranges), codes(&exact) + joined);
    }

    #[test]
    fn a_medium_box_is_exact_in_a_large_grid(x in 0..(1i64 << 31) - 300, y in 0..(1i64 << 31) - 300,
        width in 1..300i64, height in 1..300i64) {
        let cells = cells((x, x + width - 1), (y, y + height - 1));
        let ranges = hilbert_ranges(cells, 31, None)?;
        check_form(&ranges, &cells, 31, MAX_RANGES);
        // As many codes as cells, and no cell without its code.
        prop_assert_eq!(codes(&ranges), (width * height) as u64);
        for (x, y) in (x..x + width).flat_map(|x| [(x, y), (x, y + height - 1)]) {
            prop_assert!(covers(&ranges, hilbert_encode(x, y, 31)?));
        }
        // A maximum that is not reached changes nothing.
        prop_assert_eq!(hilbert_ranges(cells, 31, Some(MAX_RANGES))?, ranges.clone());
        prop_assert_eq!(hilbert_ranges(cells, 31, Some(ranges.len()))?, ranges);
    }
}

proptest! {
    // Each is some thousand times the work of one above.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_cell_of_a_large_box_is_missed(
        order in 7..=31i32,
        corners: [u32; 4],
        most in 1..300usize,
        inside in prop::collection::vec(any::<(u32, u32)>(), 200),
    ) {
        let [a, b, c, d] = corners.map(|n| i64::from(n) % (1 << order));
        // Every other box is thin, where there are the most ranges.
        let d = if a % 2 == 0 { c } else { d };
        let cells = cells((a.min(b), a.max(b)), (c.min(d), c.max(d)));
        let ranges = hilbert_ranges(cells, order, Some(most))?;
        check_form(&ranges, &cells, order, most);
        for (x, y) in inside {
            let x = cells.min[0] + i64::from(x) % (cells.max[0] - cells.min[0] + 1);
            let y = cells.min[1] + i64::from(y) % (cells.max[1] - cells.min[1] + 1);
            prop_assert!(covers(&ranges, hilbert_encode(x, y, order)?));
        }
    }
}

#[test]
fn the_whole_grid_is_one_range() {
    for order in 1..=31 {
        let end = (1 << order) - 1;
        let last = (1 << (2 * order)) - 1;
        let whole = hilbert_ranges(cells((0, end), (0, end)), order, None);
        assert_eq!(whole, Ok(vec![CodeRange { first: 0, last }]));
    }
}

#[test]
fn thin_boxes_through_the_largest_grid_end_soon() {
    let end = (1i64 << 31) - 1;
    let row = cells((0, end), (1 << 30, 1 << 30));
    let all_but_a_row = cells((0, end), (0, end - 1));
    let all_but_the_rim = cells((1, end - 1), (1, end - 1));
    for window in [row, all_but_a_row, all_but_the_rim] {
        assert_eq!(hilbert_ranges(window, 31, None), Err(Error::TooManyRanges));
        for most in [1, 64, 10_000] {
            let ranges = hilbert_ranges(window, 31, Some(most)).unwrap();
            check_form(&ranges, &window, 31, most);
            for x in (1..end).step_by(9_999_991) {
                let y = window.max[1];
                assert!(covers(&ranges, hilbert_encode(x, y, 31).unwrap()));
            }
        }
    }
    // 64 ranges say a good deal about a row: most codes are not in them.
    let ranges = hilbert_ranges(row, 31, Some(64)).unwrap();
    assert_eq!(ranges.len(), 64);
    assert!(codes(&ranges) < 1 << 58, "{}", codes(&ranges));
}

#[test]
fn what_is_no_box_is_named() {
    let message = |window, most| hilbert_ranges(window, 3, most).unwrap_err().to_string();
    assert_eq!(
        message(cells((0, 8), (0, 0)), None),
        "coordinate x = 8 is out of range"
    );
    assert_eq!(
        message(cells((0, 0), (-1, 0)), None),
        "coordinate y = -1 is out of range"
    );
    assert_eq!(
        message(cells((0, 0), (5, 4)), None),
        "box from 5 to 4 along y is empty"
    );
    let one = cells((2, 2), (3, 3));
    assert_eq!(message(one, Some(0)), "maximum of 0 ranges is out of range");
    assert_eq!(
        message(one, Some(MAX_RANGES + 1)),
        "maximum of 1000001 ranges is out of range"
    );
    assert!(hilbert_ranges(one, 0, None).is_err() && hilbert_ranges(one, 32, None).is_err());
    assert_eq!(
        Error::TooManyRanges.to_string(),
        "box needs more than 1000000 ranges of hilbert codes"
    );
}
