//! SQL arrays as bytes: reads and builds dimensions and elements without a datum per element.
//!
//! Layout after the length word (`src/include/utils/array.h`): number of dimensions, data offset (0 when there are
//! no NULLs), element type, dimensions, lower bounds, then on the next 8-byte boundary the elements.

use crate::error::{Code, Failure, Result};
use crate::pg::varlena::{Building, Detoasted, varlena_argument, varlena_result};
use modelstore_tensor::Shape;
use pgrx::pg_sys;

/// The maximum number of dimensions of an SQL array.
const MAX_DIMENSIONS: usize = 6;

/// Declares the argument and the result wrapper of one array type.
macro_rules! array_type {
    ($arg:ident, $result:ident, $sql:literal, $oid:ident) => {
        #[doc = concat!("A `", $sql, "` argument.")]
        pub struct $arg<'a>(pub Detoasted<'a>);
        #[doc = concat!("A `", $sql, "` result.")]
        pub struct $result(pub Building);
        varlena_argument!($arg, Detoasted, $sql);
        varlena_result!($result, $sql, pg_sys::$oid);
    };
}

array_type!(RealArray, RealArrayOut, "real[]", FLOAT4ARRAYOID);
array_type!(
    DoubleArray,
    DoubleArrayOut,
    "double precision[]",
    FLOAT8ARRAYOID
);
array_type!(SmallintArray, SmallintArrayOut, "smallint[]", INT2ARRAYOID);
array_type!(IntegerArray, IntegerArrayOut, "integer[]", INT4ARRAYOID);
array_type!(BigintArray, BigintArrayOut, "bigint[]", INT8ARRAYOID);

/// A `bytea[]` argument.
pub struct ByteaArray<'a>(pub Detoasted<'a>);
varlena_argument!(ByteaArray, Detoasted, "bytea[]");

impl ByteaArray<'_> {
    /// Returns the elements of all dimensions, in order.
    pub fn views(&self) -> Result<Vec<&[u8]>> {
        Ok(varlenas(self.0.bytes(), 4, "Each element is a value of its own.")?.1)
    }
}

/// A `numeric[]` argument.
pub struct NumericArray<'a>(pub Detoasted<'a>);
varlena_argument!(NumericArray, Detoasted, "numeric[]");

impl NumericArray<'_> {
    /// Returns the shape, and each number as a `numeric` datum.
    pub fn numbers(&self) -> Result<(Shape, impl Iterator<Item = pg_sys::Datum>)> {
        let (shape, numbers) = varlenas(self.0.bytes(), 4, "Every place has a number.")?;
        // A value begins with its length word.
        let datum =
            |bytes: &[u8]| pg_sys::Datum::from(bytes.as_ptr().wrapping_sub(pg_sys::VARHDRSZ));
        Ok((shape, numbers.into_iter().map(datum)))
    }
}

/// Returns the shape and the values of an array of a variable-length type whose values are aligned to `alignment`
/// bytes.
pub fn varlenas<'a>(
    array: &'a [u8],
    alignment: usize,
    why_no_nulls: &str,
) -> Result<(Shape, Vec<&'a [u8]>)> {
    let (shape, mut at) = open(array, why_no_nulls)?;
    let mut values = Vec::new();
    for _ in 0..shape.elements() {
        let (value, end) = varlena(array, at).ok_or_else(malformed)?;
        values.push(value);
        // Alignment is relative to the start of the array, length word included.
        at = (end + pg_sys::VARHDRSZ).next_multiple_of(alignment) - pg_sys::VARHDRSZ;
    }
    Ok((shape, values))
}

/// Returns the bytes of a value inside an array, and where it ends. PostgreSQL neither compresses such values nor
/// stores them out of line.
fn varlena(array: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let word: [u8; 4] = array.get(at..at + 4)?.try_into().ok()?;
    // `src/include/varatt.h`, little-endian: the two low bits are zero, the rest is the length including this word.
    let word = u32::from_le_bytes(word);
    let end = at.checked_add((word >> 2) as usize)?;
    if word & 3 != 0 || end < at + 4 {
        return None;
    }
    Some((array.get(at + 4..end)?, end))
}

fn malformed() -> Failure {
    Failure::new(Code::ERRCODE_DATA_CORRUPTED, "malformed array")
}

/// Returns the shape and the element bytes of an array of fixed-width elements.
pub fn read(array: &[u8], element_bytes: usize) -> Result<(Shape, &[u8])> {
    let (shape, data_offset) = open(array, "Every place has a number.")?;
    let bytes = shape.elements() as usize * element_bytes;
    let data = array
        .get(data_offset..data_offset + bytes)
        .ok_or_else(malformed)?;
    Ok((shape, data))
}

/// Returns the shape of an array and where its elements begin; `why_no_nulls` is the DETAIL if it has NULLs.
fn open(array: &[u8], why_no_nulls: &str) -> Result<(Shape, usize)> {
    let word = |at: usize| -> Result<i32> {
        let bytes: [u8; 4] = array
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .ok_or_else(malformed)?;
        Ok(i32::from_ne_bytes(bytes))
    };
    let rank = usize::try_from(word(0)?)
        .ok()
        .filter(|&n| n <= MAX_DIMENSIONS)
        .ok_or_else(malformed)?;
    if rank == 0 {
        return Ok((Shape::new(&[0])?, array.len()));
    }
    let dims = (0..rank)
        .map(|i| word(12 + 4 * i).map(i64::from))
        .collect::<Result<Vec<_>>>()?;
    let shape = Shape::from_i64(&dims)?;
    let data_offset = match word(4)? {
        0 => header_bytes(rank),
        offset => {
            let bitmap_at = 12 + 8 * rank;
            let elements = shape.elements() as usize;
            let bitmap = array
                .get(bitmap_at..bitmap_at + elements.div_ceil(8))
                .ok_or_else(malformed)?;
            if (0..elements).any(|i| bitmap[i / 8] & (1 << (i % 8)) == 0) {
                return Err(Failure::new(
                    Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                    "array must not contain nulls",
                )
                .detail(why_no_nulls));
            }
            usize::try_from(offset)
                .ok()
                .and_then(|o| o.checked_sub(pg_sys::VARHDRSZ))
                .ok_or_else(malformed)?
        }
    };
    Ok((shape, data_offset))
}

/// Builds an array of these elements; an empty tensor becomes the empty array, whatever its shape.
pub fn build(shape: &Shape, element_type: pg_sys::Oid, elements: &[u8]) -> Result<Building> {
    let dims: Vec<u64> = if shape.rank() == 0 {
        vec![1]
    } else {
        shape.dims().to_vec()
    };
    if dims.len() > MAX_DIMENSIONS {
        return Err(Failure::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!(
                "number of array dimensions ({}) exceeds the maximum allowed ({MAX_DIMENSIONS})",
                dims.len()
            ),
        )
        .detail("Reshape the tensor to fewer dimensions first."));
    }
    let rank = if elements.is_empty() { 0 } else { dims.len() };
    let header = if rank == 0 { 12 } else { header_bytes(rank) };
    let mut array = Building::zeroed(header + elements.len())?;
    let out = array.bytes_mut();
    out[0..4].copy_from_slice(&(rank as i32).to_ne_bytes());
    out[8..12].copy_from_slice(&element_type.to_u32().to_ne_bytes());
    for (i, &dim) in dims.iter().take(rank).enumerate() {
        let dim = i32::try_from(dim).map_err(|_| {
            Failure::new(
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("array dimension {dim} is too large"),
            )
        })?;
        out[12 + 4 * i..16 + 4 * i].copy_from_slice(&dim.to_ne_bytes());
        let lower_bound = 12 + 4 * rank + 4 * i;
        out[lower_bound..lower_bound + 4].copy_from_slice(&1i32.to_ne_bytes());
    }
    out[header..].copy_from_slice(elements);
    Ok(array)
}

/// Bytes between the length word and the elements: the header is padded to 8 bytes, length word included.
fn header_bytes(rank: usize) -> usize {
    (16 + 8 * rank).next_multiple_of(8) - pg_sys::VARHDRSZ
}
