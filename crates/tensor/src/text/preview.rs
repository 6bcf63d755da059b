//! Prints a tensor as numpy prints an array: in columns, wrapped, and of a large one only the corners.
//!
//! This is numpy's `arrayprint.py` for its default options. What is the same in numpy and not obvious here: digits are
//! the shortest that tell an element from others of its dtype, unless there are too many of them, when the exact value
//! is rounded.

use crate::convert::with_element;
use crate::dtype::Kind;
use crate::element::Element;
use crate::{DType, TensorView};
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

/// Returns the texts of elements, all of one width.
fn words<E: Element>(data: &[u8], offsets: &[u64], is_scalar: bool, digits: usize) -> Vec<String> {
    let elements: Vec<E> = offsets
        .iter()
        .filter_map(|&at| data.get(at as usize * E::BYTES..)?.get(..E::BYTES))
        .map(E::load)
        .collect();
    match E::DTYPE.kind() {
        Kind::Float if is_scalar => elements.into_iter().map(scalar).collect(),
        Kind::Float => Columns::of(&elements, digits).words(&elements),
        Kind::Bool => {
            let names = match is_scalar {
                true => ["False", "True"],
                false => ["False", " True"],
            };
            let is_true = |e: &E| e.to_f64() != 0.0;
            let named = elements.iter().map(|e| names[usize::from(is_true(e))]);
            named.map(str::to_owned).collect()
        }
        _ => {
            let texts: Vec<String> = elements.into_iter().map(printed).collect();
            let width = texts.iter().map(String::len).max().unwrap_or(0);
            texts.iter().map(|text| format!("{text:>width$}")).collect()
        }
    }
}

fn printed<E: Element>(element: E) -> String {
    let mut text = String::new();
    element.print(&mut text);
    text
}

/// A decimal number: `0.digits` times ten to the power of `point`.
struct Decimal {
    sign: &'static str,
    digits: String,
    point: i32,
}

impl Decimal {
    /// Reads what `Display`, `LowerExp` and [`Element::print`] write of a finite number.
    fn read(text: &str) -> Decimal {
        let (sign, text) = match text.strip_prefix('-') {
            Some(text) => ("-", text),
            None => ("", text),
        };
        let (number, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let zeros = (all.len() - digits.len()) as i32;
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let digits = digits.trim_end_matches('0').to_owned();
        let point = match digits.is_empty() {
            true => 1,
            false => whole.len() as i32 - zeros + exponent,
        };
        Decimal {
            sign,
            digits,
            point,
        }
    }

    /// Returns the shortest digits of an element. Of two that are as close, numpy takes the even one.
    fn shortest<E: Element>(element: E) -> Decimal {
        let text = printed(element);
        let number = Decimal::read(&text);
        let digits = number.digits.len().saturating_sub(1);
        let rounded = format!("{:.digits$e}", element.to_f64());
        let even = Decimal::read(&rounded);
        let is_same = |e: E| printed(e) == text;
        match even.digits != number.digits && E::parse(&rounded).is_ok_and(is_same) {
            true => even,
            false => number,
        }
    }

    /// Returns the shortest digits of an element, or its exact value rounded to `digits` after the point.
    fn positional<E: Element>(element: E, digits: usize) -> Decimal {
        let shortest = Decimal::shortest(element);
        match shortest.digits.len() as i32 - shortest.point > digits as i32 {
            true => Decimal::read(&format!("{:.digits$}", element.to_f64())),
            false => shortest,
        }
    }

    /// The same with one digit before the point.
    fn scientific<E: Element>(element: E, digits: usize) -> Decimal {
        let shortest = Decimal::shortest(element);
        match shortest.digits.len() > digits + 1 {
            true => Decimal::read(&format!("{:.digits$e}", element.to_f64())),
            false => shortest,
        }
    }

    /// Splits at the point: the whole number with the sign, and the digits after it.
    fn parts(&self) -> (String, String) {
        let (sign, digits) = (self.sign, &self.digits);
        match usize::try_from(self.point) {
            Ok(point) if point > 0 => {
                let whole = digits.get(..point).unwrap_or(digits);
                let fraction = digits.get(point..).unwrap_or_default();
                (format!("{sign}{whole:0<point$}"), fraction.to_owned())
            }
            _ => {
                let zeros = "0".repeat(self.point.unsigned_abs() as usize);
                (format!("{sign}0"), format!("{zeros}{digits}"))
            }
        }
    }

    /// Splits the form with one digit before the point: that digit with the sign, the digits after it, the exponent.
    fn scientific_parts(&self) -> (String, String, i32) {
        let first = self.digits.get(..1).unwrap_or("0");
        let rest = self.digits.get(1..).unwrap_or_default();
        (
            format!("{}{first}", self.sign),
            rest.to_owned(),
            self.point - 1,
        )
    }
}

/// Returns an exponent with its sign and at least two digits.
fn exponent(value: i32, digits: usize) -> String {
    let sign = if value < 0 { '-' } else { '+' };
    format!("{sign}{:0>digits$}", value.unsigned_abs())
}

fn special(value: f64) -> &'static str {
    match (value.is_nan(), value > 0.0) {
        (true, _) => "nan",
        (_, true) => "inf",
        _ => "-inf",
    }
}

/// Returns a float that is not in an array, with all digits.
fn scalar<E: Element>(element: E) -> String {
    let value = element.to_f64();
    if !value.is_finite() {
        return special(value).to_owned();
    }
    let number = Decimal::shortest(element);
    let limit = match E::DTYPE {
        DType::F64 => 1e16,
        DType::F16 => 1e3,
        _ => 1e6,
    };
    if value == 0.0 || (1e-4..limit).contains(&value.abs()) {
        let (whole, fraction) = number.parts();
        let fraction = if fraction.is_empty() { "0" } else { &fraction };
        return format!("{whole}.{fraction}");
    }
    let (first, rest, power) = number.scientific_parts();
    let point = if rest.is_empty() { "" } else { "." };
    format!("{first}{point}{rest}e{}", exponent(power, 2))
}

/// How floats are aligned at their points.
struct Columns {
    digits: usize,
    /// Digits of exponents; none without exponents.
    exponent: Option<usize>,
    /// Characters before the point and after it.
    left: usize,
    right: usize,
    /// Digits after the point, of numbers with exponents.
    fraction: usize,
}

impl Columns {
    fn of<E: Element>(elements: &[E], digits: usize) -> Columns {
        let finite: Vec<E> = (elements.iter().copied())
            .filter(|e| e.to_f64().is_finite())
            .collect();
        let mut columns = Columns {
            digits,
            exponent: None,
            left: 0,
            right: 0,
            fraction: 0,
        };
        if needs_exponents(&finite) {
            let mut size = 2;
            for &element in &finite {
                let (first, rest, power) = Decimal::scientific(element, digits).scientific_parts();
                columns.left = columns.left.max(first.len());
                columns.fraction = columns.fraction.max(rest.len());
                size = size.max(exponent(power, 2).len() - 1);
            }
            columns.exponent = Some(size);
            columns.right = size + 2 + columns.fraction;
        } else {
            for &element in &finite {
                let (whole, fraction) = Decimal::positional(element, digits).parts();
                columns.left = columns.left.max(whole.len());
                columns.right = columns.right.max(fraction.len());
            }
        }
        for element in elements.iter().filter(|e| !e.to_f64().is_finite()) {
            let len = special(element.to_f64()).len();
            columns.left = columns.left.max(len.saturating_sub(columns.right + 1));
        }
        columns
    }

    fn words<E: Element>(&self, elements: &[E]) -> Vec<String> {
        elements.iter().map(|&element| self.word(element)).collect()
    }

    fn word<E: Element>(&self, element: E) -> String {
        let (left, right, value) = (self.left, self.right, element.to_f64());
        if !value.is_finite() {
            return format!("{:>1$}", special(value), left + right + 1);
        }
        match self.exponent {
            None => {
                let (whole, fraction) = Decimal::positional(element, self.digits).parts();
                format!("{whole:>left$}.{fraction:<right$}")
            }
            Some(size) => {
                // Beyond the shortest digits, those of the exact value.
                let number = Decimal::read(&format!("{value:.0$e}", self.fraction));
                let (first, rest, power) = number.scientific_parts();
                let (digits, power) = (self.fraction, exponent(power, size));
                format!("{first:>left$}.{rest:0<digits$}e{power}")
            }
        }
    }
}

/// Large and small numbers, and both next to each other, have exponents. numpy compares in the dtype.
fn needs_exponents<E: Element>(finite: &[E]) -> bool {
    let sizes = finite.iter().map(|e| e.to_f64().abs());
    let sizes = sizes.filter(|size| *size != 0.0);
    let (least, most) = sizes.fold((f64::INFINITY, 0f64), |(least, most), size| {
        (least.min(size), most.max(size))
    });
    if most == 0.0 {
        return false;
    }
    let (limit, small, ratio) = match E::DTYPE {
        DType::F64 => (1e8, 1e-4, most / least),
        DType::F16 => {
            let ratio = half::f16::from_f32(most as f32 / least as f32);
            let small = half::f16::from_f64(1e-4).to_f64();
            (1e3, small, ratio.to_f64())
        }
        _ => (
            1e6,
            f64::from(1e-4f32),
            f64::from(most as f32 / least as f32),
        ),
    };
    most >= limit || least < small || ratio > 1000.0
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
