//! Reads scattered elements of a tensor, piece by piece.

use std::iter::Peekable;
use std::ops::Range;

use modelstore_tensor::DType;

use crate::Error;
use crate::port::StoredPiece;

/// A run of elements to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Row-major index of the first.
    pub start: u64,
    /// Their number.
    pub count: u64,
    /// Byte offset of the first in the output.
    pub to: usize,
}

impl Run {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.count)
    }
}

/// Runs closer than this are read together: a second read costs more than the bytes in between.
const GAP_BYTES: u64 = 64 << 10;

/// Copies runs of elements out of the pieces that contain them.
pub struct Gather<I: Iterator<Item = Run>> {
    dtype: DType,
    runs: Peekable<I>,
    /// The rest of runs that continue in the next piece.
    carried: Vec<Run>,
}

impl<I: Iterator<Item = Run>> Gather<I> {
    /// Takes runs in the order of their starts; they may overlap.
    pub fn new(dtype: DType, runs: I) -> Gather<I> {
        Gather {
            dtype,
            runs: runs.peekable(),
            carried: Vec::new(),
        }
    }

    /// Copies what a piece contains to `out`; pieces come in order. `read` returns the bytes of elements in the piece.
    pub fn piece<E: From<Error>>(
        &mut self,
        piece: &StoredPiece,
        out: &mut [u8],
        mut read: impl FnMut(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let end = piece.end();
        let gap = GAP_BYTES / self.dtype.block_bytes() * self.dtype.block_elements();
        let mut group: Vec<Run> = Vec::new();
        let mut group_end = 0;
        let before = std::mem::take(&mut self.carried).into_iter();
        let mut before = before.peekable();
        while let Some(run) = before
            .next()
            .or_else(|| self.runs.next_if(|run| run.start < end))
        {
            let here = Run {
                count: run.count.min(end.saturating_sub(run.start)),
                ..run
            };
            if here.count < run.count {
                self.carried.push(Run {
                    start: run.start + here.count,
                    count: run.count - here.count,
                    to: run.to + self.dtype.group_bytes(here.count).map_err(Error::from)?,
                });
            }
            if here.count == 0 {
                continue;
            }
            if here.start.saturating_sub(group_end) > gap && !group.is_empty() {
                self.copy(&group, group_end, out, &mut read)?;
                group.clear();
            }
            group_end = group_end.max(here.end());
            group.push(here);
        }
        self.copy(&group, group_end, out, &mut read)
    }

    /// Returns whether every run was copied completely.
    pub fn is_complete(&mut self) -> bool {
        self.carried.is_empty() && self.runs.peek().is_none()
    }

    fn copy<E: From<Error>>(
        &self,
        group: &[Run],
        end: u64,
        out: &mut [u8],
        read: &mut impl FnMut(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let Some(first) = group.first() else {
            return Ok(());
        };
        let raw = read(first.start..end)?;
        for run in group {
            let from = self.dtype.group_bytes(run.start - first.start);
            let len = self.dtype.group_bytes(run.count).map_err(Error::from)?;
            let from = from.map_err(Error::from)?;
            let parts = raw
                .get(from..from + len)
                .zip(out.get_mut(run.to..run.to + len));
            let Some((bytes, place)) = parts else {
                return Err(Error::OutputLength {
                    expected: run.to + len,
                    actual: out.len(),
                }
                .into());
            };
            place.copy_from_slice(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChunkHash;
    use proptest::prelude::*;

    proptest! {
        /// Any runs out of any pieces, against indexing the whole.
        #[test]
        fn copies_what_indexing_does(
            cuts in prop::collection::vec(1u64..60_000, 1..12),
            wanted in prop::collection::vec((0.0..1.0f64, 0u64..70_000), 0..40),
        ) {
            let total: u64 = cuts.iter().sum();
            let whole: Vec<u8> = (0..total * 2).map(|i| (i * 31 / 7) as u8).collect();
            let mut wanted: Vec<(u64, u64)> = wanted
                .iter()
                .map(|(at, count)| ((at * total as f64) as u64, *count))
                .map(|(start, count)| (start, count.min(total - start)))
                .collect();
            wanted.sort_unstable();
            let (mut runs, mut to) = (Vec::new(), 0);
            for &(start, count) in &wanted {
                runs.push(Run { start, count, to });
                to += count as usize * 2;
            }
            let mut out = vec![0; to];
            let mut gather = Gather::new(DType::I16, runs.iter().copied());
            let mut first_element = 0;
            for &element_count in &cuts {
                let piece = StoredPiece { hash: ChunkHash([0; 32]), first_element, element_count };
                gather.piece(&piece, &mut out, |range| {
                    assert!(first_element <= range.start && range.end <= piece.end());
                    Ok::<_, Error>(whole[range.start as usize * 2..range.end as usize * 2].to_vec())
                })?;
                first_element += element_count;
            }
            prop_assert!(gather.is_complete());
            let expected: Vec<u8> = wanted
                .iter()
                .flat_map(|&(start, count)| &whole[start as usize * 2..(start + count) as usize * 2])
                .copied()
                .collect();
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn what_lies_far_apart_is_read_apart_and_what_is_missing_is_seen() {
        let runs = [0u64, 4_000, 100_000].map(|start| Run {
            start,
            count: 1,
            to: start as usize % 3,
        });
        let piece = StoredPiece {
            hash: ChunkHash([0; 32]),
            first_element: 0,
            element_count: 100_000,
        };
        let (mut reads, mut out) = (Vec::new(), [0; 3]);
        let mut gather = Gather::new(DType::U8, runs.into_iter());
        let read = |range: Range<u64>| {
            reads.push(range.clone());
            Ok::<_, Error>(vec![7; (range.end - range.start) as usize])
        };
        assert_eq!(gather.piece(&piece, &mut out, read), Ok(()));
        assert_eq!(reads.as_slice(), std::slice::from_ref(&(0..4_001)));
        assert!(!gather.is_complete());
        let last = StoredPiece {
            first_element: 100_000,
            ..piece
        };
        let read = |range: Range<u64>| {
            reads.push(range);
            Ok::<_, Error>(vec![7])
        };
        assert_eq!(gather.piece(&last, &mut out, read), Ok(()));
        assert_eq!(reads, [0..4_001, 100_000..100_001]);
        assert!(gather.is_complete());
    }
}
