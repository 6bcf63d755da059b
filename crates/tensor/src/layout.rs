//! The layout of a tensor value, both stored (after the varlena word) and sent on the wire.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | dtype code |
//! | 2 | rank, 0 to 32 |
//! | 3 | flags, reserved, 0 |
//! | 4 to 4 + 8 rank | dimensions, signed 64-bit little-endian, outermost first |
//! | the rest | elements, little-endian, row-major |
//!
//! With the 4-byte varlena word in front, the elements of a stored value start at a multiple of 8.

use crate::{DType, Error, Result, Shape, TensorView};

/// The version written.
pub const VERSION: u8 = 1;

/// Bytes before the dimensions.
const FIXED: usize = 4;

/// The longest header: a prefix of this length is enough for [`read_header`].
pub const MAX_HEADER: usize = header_len(Shape::MAX_RANK);

/// Returns the length of the header of a tensor of this rank.
pub const fn header_len(rank: usize) -> usize {
    FIXED + 8 * rank
}

/// A parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The element type.
    pub dtype: DType,
    /// The dimensions.
    pub shape: Shape,
    /// Offset of the elements from the version byte.
    pub payload_offset: usize,
}

impl Head {
    /// Returns the bytes of header and elements together.
    pub fn total_len(&self) -> Result<u64> {
        // The elements have at most i64::MAX bytes, so adding the header cannot overflow.
        Ok(self.shape.byte_len(self.dtype)? + self.payload_offset as u64)
    }
}

/// Returns the header of a tensor, [`header_len`] bytes.
pub fn write_header(dtype: DType, shape: &Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(header_len(shape.rank()));
    // A shape has at most 32 dimensions.
    out.extend([VERSION, dtype.code(), shape.rank() as u8, 0]);
    for dim in shape.dims() {
        out.extend(dim.to_le_bytes());
    }
    out
}

/// Returns header and elements.
pub fn write(view: &TensorView<'_>) -> Vec<u8> {
    let mut out = write_header(view.dtype(), view.shape());
    out.extend_from_slice(view.data());
    out
}

/// Parses the header of a value from all of it or from a prefix of at least the header's length. The result is
/// consistent, whether or not the elements are present.
pub fn read_header(bytes: &[u8]) -> Result<Head> {
    let truncated = |needed| Error::TruncatedHeader {
        needed,
        actual: bytes.len(),
    };
    let Some((&[version, code, rank, flags], rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Err(truncated(FIXED));
    };
    if version != VERSION {
        return Err(Error::UnknownVersion(version));
    }
    if flags != 0 {
        return Err(Error::UnknownFlags(flags));
    }
    let dtype = DType::from_code(code)?;
    let rank = usize::from(rank);
    if rank > Shape::MAX_RANK {
        return Err(Error::RankTooLarge(rank));
    }
    let (words, _) = rest.as_chunks::<8>();
    let words = words
        .get(..rank)
        .ok_or_else(|| truncated(header_len(rank)))?;
    let mut dims = [0i64; Shape::MAX_RANK];
    for (dim, word) in dims.iter_mut().zip(words) {
        *dim = i64::from_le_bytes(*word);
    }
    let shape = Shape::from_i64(&dims[..rank])?;
    shape.byte_len(dtype)?;
    Ok(Head {
        dtype,
        shape,
        payload_offset: header_len(rank),
    })
}

/// Parses a whole value without copying its elements.
pub fn read(bytes: &[u8]) -> Result<TensorView<'_>> {
    let head = read_header(bytes)?;
    let expected = head.total_len()?;
    let actual = bytes.len() as u64;
    match actual.cmp(&expected) {
        std::cmp::Ordering::Less => Err(Error::TruncatedPayload { expected, actual }),
        std::cmp::Ordering::Greater => Err(Error::TrailingBytes { expected, actual }),
        std::cmp::Ordering::Equal => Ok(TensorView::trusted(
            head.dtype,
            head.shape,
            &bytes[head.payload_offset..],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Vec<u8> {
        let shape = Shape::new(&[2, 3]).expect("a shape");
        let data: Vec<u8> = (0..24).collect();
        write(&TensorView::new(DType::F32, shape, &data).expect("fits"))
    }

    #[test]
    fn a_value_reads_back_and_its_header_reads_from_a_prefix() {
        let bytes = valid();
        let view = read(&bytes).expect("valid");
        assert_eq!(
            (view.dtype(), view.shape().dims()),
            (DType::F32, &[2, 3][..])
        );
        assert_eq!(write(&view), bytes);
        let head = read_header(&bytes[..header_len(2)]).expect("valid");
        assert_eq!((head.payload_offset, head.total_len()), (20, Ok(44)));
    }

    #[test]
    fn each_defect_has_its_error() {
        let with = |at: usize, byte: u8| {
            let mut bytes = valid();
            bytes[at] = byte;
            read(&bytes).expect_err("must be refused")
        };
        assert_eq!(with(0, 2), Error::UnknownVersion(2));
        assert_eq!(with(1, 99), Error::UnknownDTypeCode(99));
        assert_eq!(with(2, 33), Error::RankTooLarge(33));
        assert_eq!(with(3, 0x10), Error::UnknownFlags(0x10));
        assert_eq!(with(11, 0x80), Error::NegativeDimension(i64::MIN + 2));
        assert!(matches!(with(11, 0x7f), Error::ShapeTooLarge(_)));
        assert!(matches!(
            with(10, 0x7f),
            Error::TooLarge { .. } | Error::TruncatedPayload { .. }
        ));
        assert!(matches!(
            with(1, DType::Q8_0.code()),
            Error::PartialBlock { .. }
        ));
        let bytes = valid();
        for len in 0..header_len(2) {
            assert!(matches!(
                read(&bytes[..len]),
                Err(Error::TruncatedHeader { .. })
            ));
        }
        for len in header_len(2)..bytes.len() {
            assert!(matches!(
                read(&bytes[..len]),
                Err(Error::TruncatedPayload { .. })
            ));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(
            read(&longer),
            Err(Error::TrailingBytes {
                expected: 44,
                actual: 45
            })
        );
    }
}
