//! Where the pieces of tensors are in the bytes that arrive.

use modelstore_tensor::{DType, Shape};
use uuid::Uuid;

use crate::{Error, Grid, Piece, grid};

/// Pieces that are short and follow each other are hashed together, up to this size.
const RUN_BYTES: u64 = 256 << 10;

/// A tensor whose bytes are still to come.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its name in messages.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Shape,
    /// A stored tensor that it may be stored as a difference to, if it has the same dtype and shape.
    pub base: Option<Uuid>,
}

/// Tensors whose bytes follow each other without a gap.
pub struct Layout {
    tensors: Vec<Placed>,
    bytes: u64,
}

/// A tensor and where it is.
pub struct Placed {
    pub tensor: Expected,
    pub grid: Grid,
    /// Its first byte.
    start: u64,
}

/// The next piece: the number of its tensor, and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    tensor: usize,
    piece: u32,
}

/// Pieces that follow each other, and their bytes together.
#[derive(Default)]
pub struct Run {
    /// Each with the number of its tensor.
    pub pieces: Vec<(usize, Piece)>,
    pub bytes: usize,
}

impl Layout {
    /// Of tensors in the order of their bytes, cut into chunks of about `chunk_bytes`.
    pub fn new(tensors: Vec<Expected>, chunk_bytes: u64) -> Result<Layout, Error> {
        let mut bytes: u64 = 0;
        let tensors = tensors
            .into_iter()
            .map(|tensor| {
                let start = bytes;
                let len = tensor.shape.byte_len(tensor.dtype)?;
                bytes = bytes.saturating_add(len);
                let grid = grid(tensor.dtype, &tensor.shape, chunk_bytes)?;
                Ok(Placed {
                    tensor,
                    grid,
                    start,
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Layout { tensors, bytes })
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The tensors.
    pub fn tensors(&self) -> &[Placed] {
        &self.tensors
    }

    /// The piece that begins at a byte; `None` if none does. The end of all bytes is a position, too.
    pub fn position(&self, at: u64) -> Option<Position> {
        if at == self.bytes {
            return Some(Position {
                tensor: self.tensors.len(),
                piece: 0,
            });
        }
        // Empty tensors begin where the next one does: the last that begins there has the byte.
        let tensor = self
            .tensors
            .partition_point(|t| t.start <= at)
            .checked_sub(1)?;
        let placed = self.tensors.get(tensor)?;
        let within = at - placed.start;
        let per_piece = u64::from(placed.grid.get(0)?.byte_len);
        let piece = u32::try_from(within / per_piece).ok()?;
        let starts_there = placed.grid.get(piece)?.byte_offset == within;
        starts_there.then_some(Position { tensor, piece })
    }

    /// One past the last byte of the piece at a position; `None` at the end.
    pub fn piece_end(&self, at: Position) -> Option<u64> {
        let mut at = at;
        let (tensor, piece) = self.next(&mut at)?;
        let placed = self.tensors.get(tensor)?;
        Some(placed.start + piece.byte_offset + u64::from(piece.byte_len))
    }

    /// Whether a piece is the last of its tensor.
    pub fn is_last(&self, tensor: usize, piece: &Piece) -> bool {
        let placed = self.tensors.get(tensor);
        placed.is_some_and(|placed| piece.index + 1 == placed.grid.len())
    }

    /// The piece at a position, which moves on.
    fn next(&self, at: &mut Position) -> Option<(usize, Piece)> {
        loop {
            let placed = self.tensors.get(at.tensor)?;
            if let Some(piece) = placed.grid.get(at.piece) {
                at.piece += 1;
                return Some((at.tensor, piece));
            }
            *at = Position {
                tensor: at.tensor + 1,
                piece: 0,
            };
        }
    }

    /// The pieces to be hashed together next, and moves on behind them; `None` at the end.
    pub fn next_run(&self, at: &mut Position) -> Option<Run> {
        let mut run = Run::default();
        let mut after = *at;
        while let Some((tensor, piece)) = self.next(&mut after) {
            let len = piece.byte_len as usize;
            if !run.pieces.is_empty() && (run.bytes + len) as u64 > RUN_BYTES {
                break;
            }
            run.bytes += len;
            run.pieces.push((tensor, piece));
            *at = after;
        }
        (!run.pieces.is_empty()).then_some(run)
    }
}

impl Run {
    /// Cuts off the pieces that are not complete with so many bytes.
    pub fn cut(&mut self, bytes: usize) {
        let mut end = 0;
        let complete = self.pieces.iter().take_while(|(_, piece)| {
            let fits = end + piece.byte_len as usize <= bytes;
            if fits {
                end += piece.byte_len as usize;
            }
            fits
        });
        let complete = complete.count();
        self.pieces.truncate(complete);
        self.bytes = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MIN_CHUNK_BYTES;

    fn layout(dims: &[&[u64]]) -> Layout {
        let tensors = dims
            .iter()
            .map(|dims| Expected {
                name: String::new(),
                dtype: DType::U8,
                shape: Shape::new(dims).expect("a shape"),
                base: None,
            })
            .collect();
        Layout::new(tensors, MIN_CHUNK_BYTES).expect("a layout")
    }

    #[test]
    fn runs_cover_everything_and_positions_find_each_piece() {
        let layout = layout(&[&[0], &[3], &[600_000], &[0, 5], &[1], &[262_144], &[0]]);
        assert_eq!(layout.bytes(), 3 + 600_000 + 1 + 262_144);
        let mut at = layout.position(0).expect("the first");
        let (mut sizes, mut end) = (Vec::new(), 0);
        loop {
            // Where a run ends, the next one is found by its byte.
            let mut found = layout.position(end).expect("a piece or the end");
            let (run, same) = (layout.next_run(&mut at), layout.next_run(&mut found));
            assert_eq!(same.map(|run| run.bytes), run.as_ref().map(|run| run.bytes));
            let Some(run) = run else { break };
            sizes.push((run.pieces.len(), run.bytes));
            end += run.bytes as u64;
        }
        assert_eq!(end, layout.bytes());
        assert_eq!(
            sizes,
            [
                (1, 3),
                (1, 262_144),
                (1, 262_144),
                (2, 600_000 - 2 * 262_144 + 1),
                (1, 262_144)
            ]
        );
        assert_eq!((layout.position(1), layout.position(end + 1)), (None, None));
        assert_eq!(
            layout.piece_end(layout.position(3).expect("a piece")),
            Some(3 + 262_144)
        );
        assert_eq!(layout.piece_end(at), None);
    }

    #[test]
    fn a_run_is_cut_between_pieces() {
        let layout = layout(&[&[10], &[20], &[30]]);
        let mut run = layout
            .next_run(&mut layout.position(0).expect("the first"))
            .expect("a run");
        run.cut(59);
        assert_eq!((run.pieces.len(), run.bytes), (2, 30));
    }
}
