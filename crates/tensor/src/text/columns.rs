//! The elements of a preview as texts of one width, floats aligned at their points.

use crate::DType;
use crate::dtype::Kind;
use crate::element::Element;

/// Returns the texts of elements, all of one width.
pub(super) fn words<E: Element>(
    data: &[u8],
    offsets: &[u64],
    is_scalar: bool,
    digits: usize,
) -> Vec<String> {
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
