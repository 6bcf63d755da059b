//! Splits a tensor into pieces.
//!
//! All pieces but the last have the same size, so the piece of an element is found by a division, and nothing is stored
//! or allocated, however large the tensor claims to be.

use modelstore_tensor::{DType, Shape};

use crate::{Error, Result};

/// Default size of a piece in bytes.
pub const DEFAULT_CHUNK_BYTES: u64 = 1 << 20;
/// The smallest size a user may choose.
pub const MIN_CHUNK_BYTES: u64 = 256 << 10;
/// The largest size a user may choose, and the largest that a decoder accepts.
pub const MAX_CHUNK_BYTES: u64 = 4 << 20;

/// One piece of a tensor: a run of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Position among the tensor's pieces, from 0.
    pub index: u32,
    /// First element, in row-major order.
    pub first_element: u64,
    /// Number of elements.
    pub element_count: u64,
    /// First byte within the tensor's bytes.
    pub byte_offset: u64,
    /// Number of bytes, at most [`MAX_CHUNK_BYTES`].
    pub byte_len: u32,
}

/// The pieces of a tensor, computed on demand. Iterate over it, or look one up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    dtype: DType,
    elements: u64,
    /// Elements of every piece except the last; a multiple of the dtype's group, at least 1.
    per_piece: u64,
    pieces: u32,
}

/// Splits a tensor into pieces as large as possible but at most `target_bytes`: at boundaries of the largest run of
/// inner dimensions that fits (a row of a matrix), else at boundaries of the dtype's groups. An empty tensor has none.
pub fn grid(dtype: DType, shape: &Shape, target_bytes: u64) -> Result<Grid> {
    if !(MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES).contains(&target_bytes) {
        return Err(Error::ChunkSize(target_bytes));
    }
    let bytes = shape.byte_len(dtype)?;
    let elements = shape.elements();
    let unit = unit_elements(dtype, shape, target_bytes);
    let unit_bytes = unit / dtype.block_elements() * dtype.block_bytes();
    let per_piece = target_bytes / unit_bytes * unit;
    let pieces = elements.div_ceil(per_piece);
    let pieces = u32::try_from(pieces).map_err(|_| Error::TooManyPieces {
        bytes,
        piece_bytes: target_bytes,
    })?;
    Ok(Grid {
        dtype,
        elements,
        per_piece,
        pieces,
    })
}

/// Returns the largest product of trailing dimensions, excluding the first, that is whole groups and fits; else a group.
fn unit_elements(dtype: DType, shape: &Shape, target_bytes: u64) -> u64 {
    let group = dtype.block_elements();
    let dims = shape.dims();
    (1..dims.len())
        .map(|skip| dims[skip..].iter().product::<u64>())
        .find(|&run| {
            run != 0
                && dtype
                    .byte_len(run)
                    .is_some_and(|bytes| bytes <= target_bytes)
        })
        .unwrap_or(group)
}

impl Grid {
    /// Returns the number of pieces.
    pub fn len(&self) -> u32 {
        self.pieces
    }

    /// Returns whether the tensor is empty.
    pub fn is_empty(&self) -> bool {
        self.pieces == 0
    }

    /// Returns the number of elements of every piece except the last, which may have fewer.
    pub fn elements_per_piece(&self) -> u64 {
        self.per_piece
    }

    /// Returns the piece with this index; `None` beyond the last.
    pub fn get(&self, index: u32) -> Option<Piece> {
        if index >= self.pieces {
            return None;
        }
        // No product overflows: all are below the tensor's bytes, which Shape::byte_len bounds.
        let first_element = u64::from(index) * self.per_piece;
        let element_count = self.per_piece.min(self.elements - first_element);
        let bytes =
            |elements: u64| elements / self.dtype.block_elements() * self.dtype.block_bytes();
        Some(Piece {
            index,
            first_element,
            element_count,
            byte_offset: bytes(first_element),
            byte_len: bytes(element_count) as u32,
        })
    }

    /// Returns the piece that contains an element; `None` beyond the end of the tensor.
    pub fn piece_of(&self, element: u64) -> Option<Piece> {
        if element >= self.elements {
            return None;
        }
        self.get((element / self.per_piece) as u32)
    }

    /// Returns the pieces in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Piece> + use<> {
        let grid = *self;
        (0..self.pieces as usize).map(move |i| {
            // Always exists, as the index is below the number of pieces.
            grid.get(i as u32).unwrap_or(Piece {
                index: i as u32,
                first_element: 0,
                element_count: 0,
                byte_offset: 0,
                byte_len: 0,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(dtype: DType, dims: &[u64], target: u64) -> Grid {
        grid(dtype, &Shape::new(dims).expect("a shape"), target).expect("a grid")
    }

    #[test]
    fn rows_are_kept_whole_where_they_fit() {
        // 30522 rows of 1536 bytes: 682 rows are the most that fit into a mebibyte.
        let g = cut(DType::F32, &[30522, 384], DEFAULT_CHUNK_BYTES);
        assert_eq!(g.elements_per_piece(), 682 * 384);
        assert_eq!(g.len(), 45);
        // A first-dimension row of 2 MiB does not fit, its inner rows of 4 KiB do.
        let g = cut(DType::F32, &[3, 512, 1000], DEFAULT_CHUNK_BYTES);
        assert_eq!(g.elements_per_piece(), 262 * 1000);
        // Nothing fits: elements.
        let g = cut(DType::F32, &[2, 1 << 20], DEFAULT_CHUNK_BYTES);
        assert_eq!(g.elements_per_piece(), 1 << 18);
        // An odd row of a sub-byte type is not whole bytes.
        let g = cut(DType::F4, &[1 << 20, 7], DEFAULT_CHUNK_BYTES);
        assert_eq!(g.elements_per_piece(), 2 << 20);
        let g = cut(DType::Q6K, &[300_000, 256], DEFAULT_CHUNK_BYTES);
        assert_eq!(g.elements_per_piece(), (1 << 20) / 210 * 256);
    }

    #[test]
    fn pieces_cover_the_tensor_without_gap() {
        for (dtype, dims) in [
            (DType::F32, &[1000, 1000][..]),
            (DType::F64, &[]),
            (DType::U8, &[(1 << 20) + 1]),
            (DType::BF16, &[7, 11, 13, 999]),
            (DType::F6E2M3, &[4 << 20]),
        ] {
            let shape = Shape::new(dims).expect("a shape");
            let g = cut(dtype, dims, MIN_CHUNK_BYTES);
            let (mut element, mut byte) = (0, 0);
            for (i, p) in g.iter().enumerate() {
                assert_eq!(
                    (p.index as usize, p.first_element, p.byte_offset),
                    (i, element, byte)
                );
                assert!(p.byte_len > 0 && u64::from(p.byte_len) <= MIN_CHUNK_BYTES);
                assert_eq!(g.piece_of(p.first_element + p.element_count - 1), Some(p));
                element += p.element_count;
                byte += u64::from(p.byte_len);
            }
            assert_eq!(
                (element, Ok(byte)),
                (shape.elements(), shape.byte_len(dtype))
            );
            assert_eq!((g.get(g.len()), g.piece_of(element)), (None, None));
        }
    }

    #[test]
    fn empty_and_huge_tensors_cost_nothing() {
        assert!(cut(DType::F32, &[0, 7], DEFAULT_CHUNK_BYTES).is_empty());
        let g = cut(DType::F32, &[1 << 28, 1024], DEFAULT_CHUNK_BYTES);
        assert_eq!(g.len(), 1 << 20);
        assert_eq!(
            g.iter().last().map(|p| p.byte_offset),
            Some((1 << 40) - (1 << 20))
        );
        let huge = Shape::new(&[1 << 62]).expect("a shape");
        assert!(matches!(
            grid(DType::U8, &huge, DEFAULT_CHUNK_BYTES),
            Err(Error::TooManyPieces { .. })
        ));
        assert_eq!(grid(DType::U8, &huge, 1), Err(Error::ChunkSize(1)));
    }
}
