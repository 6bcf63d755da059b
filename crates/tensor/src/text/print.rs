//! Writing the text form.

use crate::convert::{elements, with_element};
use crate::element::Element;
use crate::{DType, Shape, TensorView};
use std::fmt::{Result, Write};

/// Text is handed on in pieces of about this size.
const PIECE: usize = 8192;

/// Writes a tensor, so that [`super::parse`] reads the same bits.
pub fn format(view: &TensorView<'_>, out: &mut impl Write) -> Result {
    let (dtype, data) = (view.dtype(), view.data());
    let hexadecimal = match dtype {
        DType::Bool => data.iter().any(|&b| b > 1),
        _ => false,
    };
    out.write_str(dtype.name())?;
    if !hexadecimal {
        with_element!(dtype, E => return print_elements::<E>(view.shape(), data, out), _ => ());
    }
    write!(out, "{}:\\x", view.shape())?;
    let mut piece = String::with_capacity(PIECE + 2);
    for &byte in data {
        let digit = |d: u8| char::from(if d < 10 { b'0' + d } else { b'a' + d - 10 });
        piece.push(digit(byte >> 4));
        piece.push(digit(byte & 15));
        flush(&mut piece, out, PIECE)?;
    }
    flush(&mut piece, out, 0)
}

fn print_elements<E: Element>(shape: &Shape, data: &[u8], out: &mut impl Write) -> Result {
    if shape.elements() == 0 {
        return write!(out, "{shape}:[]");
    }
    let dims = shape.dims();
    // Rank 0 is one row of one element without brackets.
    let (outer, row) = dims
        .split_last()
        .map_or((dims, 1), |(last, outer)| (outer, *last));
    let mut indices = [0u64; Shape::MAX_RANK];
    let mut piece = String::with_capacity(PIECE + 256);
    piece.push(':');
    brackets(&mut piece, '[', dims.len());
    let mut values = elements::<E>(data);
    loop {
        for i in 0..row {
            if i > 0 {
                piece.push(',');
            }
            let Some(value) = values.next() else { break };
            value.print(&mut piece);
            flush(&mut piece, out, PIECE)?;
        }
        // How many dimensions end with this row, besides the row itself.
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
