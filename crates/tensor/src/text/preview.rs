//! Prints a tensor as numpy prints an array: in columns, wrapped, and of a large one only the corners.
//!
//! This is numpy's `arrayprint.py` for its default options. What is the same in numpy and not obvious here: digits are
//! the shortest that tell an element from others of its dtype, unless there are too many of them, when the exact value
//! is rounded.

use crate::TensorView;
use crate::convert::with_element;
use crate::dtype::Kind;
use crate::text::columns::words;
use std::fmt::{Result, Write};

/// Characters in a line.
const LINE_WIDTH: usize = 75;

/// Elements shown at each end of an axis.
const EDGE_ITEMS: u64 = 3;

/// More elements than this are never shown, however many axes have corners.
pub const MAX_PREVIEW_ELEMENTS: u64 = 100_000;

/// Bytes shown at each end of data without a text form.
const EDGE_BYTES: usize = 16;

/// Prints a tensor; one of more than `max_elements` elements only with the ends of its axes. Floats have at most `digits`
/// digits after the point.
pub fn preview(
    view: &TensorView<'_>,
    max_elements: u64,
    digits: usize,
    out: &mut impl Write,
) -> Result {
    let dims = view.shape().dims();
    let elements = view.shape().elements();
    if matches!(view.dtype().kind(), Kind::Opaque | Kind::Quantised) {
        return bytes(view, out);
    }
    if elements == 0 {
        return out.write_str("[]");
    }
    let max_elements = max_elements.min(MAX_PREVIEW_ELEMENTS);
    let is_summary = elements > max_elements;
    let shown = |edge: u64| -> Vec<u64> {
        let ends = |dim: &u64| match is_summary {
            true => (*dim).min(2 * edge),
            false => *dim,
        };
        dims.iter().map(ends).collect()
    };
    // numpy would print them all: an array of many axes has many corners.
    let fits = |edge: &u64| {
        let shown = shown(*edge);
        let count = shown
            .iter()
            .try_fold(1u64, |all, dim| all.checked_mul(*dim));
        count.is_some_and(|count| count <= MAX_PREVIEW_ELEMENTS)
    };
    let Some(edge) = (1..=EDGE_ITEMS).rev().find(fits) else {
        return out.write_str("[...]");
    };
    let shown = shown(edge);
    let mut offsets = Vec::new();
    corners(dims, &shown, edge, 0, &mut offsets);
    let words = with_element!(view.dtype(), E => words::<E>(view.data(), &offsets, dims.is_empty(), digits), _ => Vec::new());
    let mut page = Page {
        dims,
        shown: &shown,
        words: words.iter(),
        out,
    };
    page.axis(0)
}

/// Lists the places of the elements that are shown, in order.
fn corners(dims: &[u64], shown: &[u64], edge: u64, at: u64, offsets: &mut Vec<u64>) {
    let (Some((dim, dims)), Some((count, shown))) = (dims.split_first(), shown.split_first())
    else {
        offsets.push(at);
        return;
    };
    for n in 0..*count {
        let is_leading = count == dim || n < edge;
        let index = if is_leading { n } else { dim - (count - n) };
        corners(dims, shown, edge, at * dim + index, offsets);
    }
}

/// Lays words out in brackets.
struct Page<'a, W> {
    dims: &'a [u64],
    /// How much of each dimension.
    shown: &'a [u64],
    words: std::slice::Iter<'a, String>,
    out: &'a mut W,
}

impl<W: Write> Page<'_, W> {
    fn axis(&mut self, axis: usize) -> Result {
        let left = self.dims.len() - axis;
        if left == 0 {
            let word = self.words.next().map_or("", String::as_str);
            return self.out.write_str(word);
        }
        let (dim, shown) = (self.dims[axis], self.shown[axis]);
        // Where "..." is.
        let gap = (shown < dim).then_some(shown / 2);
        self.out.write_str("[")?;
        if left == 1 {
            self.row(axis, shown, gap)?;
        } else {
            let indent = " ".repeat(axis + 1);
            let line_end = "\n".repeat(left - 1);
            for n in 0..shown {
                if gap == Some(n) {
                    write!(self.out, "{indent}...{line_end}")?;
                }
                if n > 0 {
                    self.out.write_str(&indent)?;
                }
                self.axis(axis + 1)?;
                if n + 1 < shown {
                    self.out.write_str(&line_end)?;
                }
            }
        }
        self.out.write_str("]")
    }

    fn row(&mut self, axis: usize, shown: u64, gap: Option<u64>) -> Result {
        let indent = axis + 1;
        // Room for the brackets that close here.
        let width = LINE_WIDTH - axis - 1;
        let mut line = String::new();
        for n in 0..shown {
            if gap == Some(n) {
                self.extend(&mut line, "...", indent, width)?;
                line.push(' ');
            }
            let word = self.words.next().map_or("", String::as_str);
            self.extend(&mut line, word, indent, width)?;
            if n + 1 < shown {
                line.push(' ');
            }
        }
        self.out.write_str(&line)
    }

    fn extend(&mut self, line: &mut String, word: &str, indent: usize, width: usize) -> Result {
        if indent + line.len() + word.len() > width && !line.is_empty() {
            writeln!(self.out, "{}", line.trim_end())?;
            self.out.write_str(&" ".repeat(indent))?;
            line.clear();
        }
        line.push_str(word);
        Ok(())
    }
}

/// Prints data that has no text form.
fn bytes(view: &TensorView<'_>, out: &mut impl Write) -> Result {
    let data = view.data();
    write!(out, "{}{}:\\x", view.dtype(), view.shape())?;
    let (start, end) = match data.len() <= 2 * EDGE_BYTES {
        true => (data, &data[..0]),
        false => (&data[..EDGE_BYTES], &data[data.len() - EDGE_BYTES..]),
    };
    start.iter().try_for_each(|b| write!(out, "{b:02x}"))?;
    if !end.is_empty() {
        out.write_str("...")?;
    }
    end.iter().try_for_each(|b| write!(out, "{b:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse;

    fn shown(text: &str, max_elements: u64, digits: usize) -> String {
        let tensor = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let mut out = String::new();
        assert!(preview(&tensor.view(), max_elements, digits, &mut out).is_ok());
        out
    }

    /// What numpy 2.4 prints; pgrx-tests compares more with numpy itself.
    #[test]
    fn as_numpy_prints() {
        for (text, expected) in [
            ("[1,2.5,-3]", "[ 1.   2.5 -3. ]"),
            ("f64:[0.1,1e-9]", "[1.e-01 1.e-09]"),
            ("f64:[nan,-inf,1]", "[ nan -inf   1.]"),
            ("i64:[[1,-20],[300,4]]", "[[  1 -20]\n [300   4]]"),
            ("bool:[true,false]", "[ True False]"),
            ("f32:0.1", "0.1"),
            ("f64:1e16", "1e+16"),
            ("f32:1e6", "1e+06"),
            ("bool:true", "True"),
            ("f32(0,3):[]", "[]"),
            (
                "i8:[[[1],[2]],[[3],[4]]]",
                "[[[1]\n  [2]]\n\n [[3]\n  [4]]]",
            ),
        ] {
            assert_eq!(shown(text, 1000, 8), expected, "{text}");
        }
        assert_eq!(shown("f64:[0.123456789,2]", 1000, 4), "[0.1235 2.    ]");
        let row = "[1,2,3,4,5,6,7,8,9]";
        assert_eq!(shown(&format!("u8:{row}"), 8, 8), "[1 2 3 ... 7 8 9]");
        assert_eq!(shown("f4(2,4):\\x01234567", 8, 8), "f4(2,4):\\x01234567");
    }

    #[test]
    fn many_axes_are_bounded() {
        let dims = [7u64; 7].map(|d| d.to_string()).join(",");
        let zeros = "0".repeat(2 * 7usize.pow(7));
        let text = shown(&format!("bool({dims}):\\x{zeros}"), 1000, 8);
        assert_eq!(text.matches("False").count(), 4usize.pow(7));
        let dims = [2u64; 17].map(|d| d.to_string()).join(",");
        let zeros = "0".repeat(2 << 17);
        let text = shown(&format!("bool({dims}):\\x{zeros}"), 1000, 8);
        assert_eq!(text, "[...]");
    }
}
