//! Prints the text form.

use crate::convert::{elements, with_element};
use crate::dtype::Kind;
use crate::element::{Element, Number};
use crate::{DType, Shape, TensorView};
use faster_hex::hex_encode;
use std::fmt::{Result, Write};

/// Text is passed on in pieces of about this size.
const PIECE: usize = 8192;

/// Prints a tensor so that [`super::parse`] gives the same bits. `out` gets it in small pieces, and may unwind.
pub fn format(view: &TensorView<'_>, out: &mut impl Write) -> Result {
    out.write_str(view.dtype().name())?;
    if !is_hexadecimal(view) {
        // Without elements the brackets do not show the shape.
        if view.shape().elements() == 0 {
            write!(out, "{}", view.shape())?;
        }
        out.write_str(":")?;
        with_element!(view.dtype(), E => return print_elements::<E>(view, E::print, out), _ => ());
    }
    write!(out, "{}:\\x", view.shape())?;
    digits(view.data(), out)
}

/// Prints the elements as nested JSON lists. A number parses to the same one in its dtype; floats below 32 bits are
/// printed with their exact value, not the shortest decimal: 65504, not 65500. Values that JSON numbers cannot express
/// are strings: -0, whose sign other parsers drop, infinities, NaN, hexadecimal digits.
pub fn format_json(view: &TensorView<'_>, out: &mut impl Write) -> Result {
    if !is_hexadecimal(view) {
        with_element!(view.dtype(), E => return print_elements::<E>(view, print_json, out), _ => ());
    }
    out.write_str("\"\\\\x")?;
    digits(view.data(), out)?;
    out.write_str("\"")
}

fn print_json<E: Element>(value: E, out: &mut String) {
    match value.to_number() {
        Number::Float(f) if !f.is_finite() || f == 0.0 && f.is_sign_negative() => {
            out.push('"');
            value.print(out);
            out.push('"');
        }
        Number::Float(f) if E::BYTES < 4 => f.print(out),
        _ => value.print(out),
    }
}

/// Returns whether the elements are printed as hexadecimal digits.
fn is_hexadecimal(view: &TensorView<'_>) -> bool {
    match view.dtype() {
        // The maximum of a piece at a time, which the compiler vectorises.
        DType::Bool => (view.data().chunks(PIECE))
            .any(|piece| piece.iter().fold(0, |most, &b| most.max(b)) > 1),
        dtype => matches!(dtype.kind(), Kind::Opaque | Kind::Quantised),
    }
}

fn digits(data: &[u8], out: &mut impl Write) -> Result {
    let mut digits = [0; PIECE];
    for piece in data.chunks(PIECE / 2) {
        let digits = &mut digits[..2 * piece.len()];
        out.write_str(hex_encode(piece, digits).map_err(|_| std::fmt::Error)?)?;
    }
    Ok(())
}

fn print_elements<E: Element>(
    view: &TensorView<'_>,
    print: impl Fn(E, &mut String),
    out: &mut impl Write,
) -> Result {
    let (shape, data) = (view.shape(), view.data());
    if shape.elements() == 0 {
        return out.write_str("[]");
    }
    let dims = shape.dims();
    // Rank 0 is one row of one element without brackets.
    let (outer, row) = dims
        .split_last()
        .map_or((dims, 1), |(last, outer)| (outer, *last));
    let mut indices = [0u64; Shape::MAX_RANK];
    let mut piece = String::with_capacity(PIECE + 256);
    brackets(&mut piece, '[', dims.len());
    let mut values = elements::<E>(data);
    loop {
        for i in 0..row {
            if i > 0 {
                piece.push(',');
            }
            let Some(value) = values.next() else { break };
            print(value, &mut piece);
            flush(&mut piece, out, PIECE)?;
        }
        // The number of dimensions that end with this row, besides the row itself.
        let mut ended = 0;
        for (index, &dim) in indices.iter_mut().zip(outer).take(outer.len()).rev() {
            *index += 1;
            if *index < dim {
                break;
            }
            *index = 0;
            ended += 1;
        }
        if ended == outer.len() {
            break;
        }
        brackets(&mut piece, ']', ended + 1);
        piece.push(',');
        brackets(&mut piece, '[', ended + 1);
    }
    brackets(&mut piece, ']', dims.len());
    flush(&mut piece, out, 0)
}

fn brackets(piece: &mut String, bracket: char, count: usize) {
    piece.extend(std::iter::repeat_n(bracket, count));
}

#[inline]
fn flush(piece: &mut String, out: &mut impl Write, above: usize) -> Result {
    if piece.len() > above {
        out.write_str(piece)?;
        piece.clear();
    }
    Ok(())
}
