//! Hilbert codes of points on a grid, one at a time and by the array.

use crate::error::{Failure, Result, or_raise, required};
use crate::pg::array::{BigintArray, BigintArrayOut, build, read};
use modelstore_atom::Error;
use modelstore_atom::hilbert::{self, CellBox};
use modelstore_tensor::Shape;
use pgrx::prelude::*;

/// Codes computed between two checks for interrupts: about a millisecond.
const BATCH: usize = 1 << 16;

#[pg_extern(name = "hilbert_encode", immutable, strict, parallel_safe)]
fn hilbert_encode_cell(x: i64, y: i64, order: i32) -> i64 {
    or_raise(hilbert::hilbert_encode(x, y, order).map_err(Failure::from)) as i64
}

#[pg_extern(name = "hilbert_decode", immutable, strict, parallel_safe)]
fn hilbert_decode_cell(
    code: i64,
    order: i32,
) -> TableIterator<'static, (name!(x, i64), name!(y, i64))> {
    let (x, y) = or_raise(hilbert::hilbert_decode(code, order).map_err(Failure::from));
    TableIterator::once((x as i64, y as i64))
}

#[pg_extern(immutable, strict, parallel_safe)]
fn hilbert_encode_many(xs: BigintArray<'_>, ys: BigintArray<'_>, order: i32) -> BigintArrayOut {
    or_raise((|| {
        let (xs, ys) = (numbers(&xs)?, numbers(&ys)?);
        if xs.len() != ys.len() {
            return Err(Error::Lengths(xs.len(), ys.len()).into());
        }
        let mut codes = Vec::with_capacity(xs.len());
        for begin in (0..xs.len()).step_by(BATCH) {
            let end = xs.len().min(begin + BATCH);
            hilbert::hilbert_encode_many(&xs[begin..end], &ys[begin..end], order, &mut codes)
                .map_err(|e| in_array(e, begin))?;
            pgrx::check_for_interrupts!();
        }
        out(&codes)
    })())
}

#[pg_extern(immutable, strict, parallel_safe)]
fn hilbert_decode_many(
    codes: BigintArray<'_>,
    order: i32,
) -> TableIterator<'static, (name!(xs, Vec<i64>), name!(ys, Vec<i64>))> {
    TableIterator::once(or_raise((|| {
        let codes = numbers(&codes)?;
        let (mut xs, mut ys) = (
            Vec::with_capacity(codes.len()),
            Vec::with_capacity(codes.len()),
        );
        for (batch, part) in codes.chunks(BATCH).enumerate() {
            hilbert::hilbert_decode_many(part, order, &mut xs, &mut ys)
                .map_err(|e| in_array(e, batch * BATCH))?;
            pgrx::check_for_interrupts!();
        }
        Ok((xs, ys))
    })()))
}

#[pg_extern(immutable, strict, parallel_safe)]
fn hilbert_encode_point(point: BigintArray<'_>, order: i32) -> i64 {
    or_raise((|| {
        Ok(hilbert::hilbert_encode_nd(&numbers(&point)?, order)? as i64)
    })())
}

#[pg_extern(immutable, strict, parallel_safe)]
fn hilbert_decode_point(code: i64, axes: i32, order: i32) -> BigintArrayOut {
    or_raise((|| {
        let axes = usize::try_from(axes).unwrap_or(0);
        let point = hilbert::hilbert_decode_nd(code, axes, order)?;
        out(&point.into_iter().map(|c| c as i64).collect::<Vec<_>>())
    })())
}

#[pg_extern(immutable, parallel_safe)]
fn hilbert_ranges(
    x_min: Option<i64>,
    y_min: Option<i64>,
    x_max: Option<i64>,
    y_max: Option<i64>,
    order: Option<i32>,
    max_ranges: default!(Option<i32>, "NULL"),
) -> TableIterator<'static, (name!(first_code, i64), name!(last_code, i64))> {
    let ranges = or_raise((|| {
        let cells = CellBox {
            min: [required(x_min, "x_min")?, required(y_min, "y_min")?],
            max: [required(x_max, "x_max")?, required(y_max, "y_max")?],
        };
        let max = max_ranges.map(|max| usize::try_from(max).unwrap_or(0));
        Ok(hilbert::hilbert_ranges(
            cells,
            required(order, "order")?,
            max,
        )?)
    })());
    TableIterator::new(
        ranges
            .into_iter()
            .map(|range| (range.first as i64, range.last as i64)),
    )
}

fn numbers(array: &BigintArray<'_>) -> Result<Vec<i64>> {
    let (_, bytes) = read(array.0.bytes(), size_of::<i64>())?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(words.iter().map(|word| i64::from_ne_bytes(*word)).collect())
}

fn out(numbers: &[i64]) -> Result<BigintArrayOut> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
    let shape = Shape::new(&[numbers.len() as u64])?;
    Ok(BigintArrayOut(build(&shape, pg_sys::INT8OID, &bytes)?))
}

/// Returns an error with the number of the element in the SQL array, counted from 1 over all batches.
fn in_array(e: Error, begin: usize) -> Failure {
    match e {
        Error::Element { index, source } => {
            Failure::from(*source).about(&format!("element {}", begin + index + 1))
        }
        e => e.into(),
    }
}
