//! Decodes chunks, whole or in part.

use std::ops::Range;

use super::planes::{PlaneDecoder, StoredBlock};
use super::sparse::SparseDecoder;
use super::{PlaneEntry, PlaneKind, xor_in_place};
use crate::header::truncated;
use crate::range::{RangePlan, plan_range};
use crate::{ChunkHead, Codec, Error, Result};

/// Decodes chunks. Owns its buffers and a zstd context: keep one per thread.
pub struct Decoder {
    planes: PlaneDecoder,
    sparse: SparseDecoder,
    /// Whole elements of a block that is only needed in part.
    partial: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// Creates a decoder.
    pub fn new() -> Decoder {
        Decoder {
            planes: PlaneDecoder::new(),
            sparse: SparseDecoder::default(),
            partial: Vec::new(),
        }
    }

    /// Decodes a whole chunk into `out`, which then contains exactly the raw bytes; a delta needs the raw bytes of its
    /// base. Pass a used buffer without clearing it to avoid zeroing. After an error `out` is empty.
    pub fn decode(&mut self, chunk: &[u8], base: Option<&[u8]>, out: &mut Vec<u8>) -> Result<()> {
        let done = ChunkHead::parse(chunk).and_then(|head| {
            check_complete(chunk, &head)?;
            out.resize(head.raw_len as usize, 0);
            self.decode_checked(chunk, base, head, out)
        });
        if done.is_err() {
            out.clear();
        }
        done
    }

    /// Decodes a whole chunk into a buffer of exactly the raw length, whose content is undefined after an error.
    pub fn decode_into(&mut self, chunk: &[u8], base: Option<&[u8]>, out: &mut [u8]) -> Result<()> {
        let head = ChunkHead::parse(chunk)?;
        if out.len() != head.raw_len as usize {
            return Err(Error::OutputLength {
                expected: head.raw_len as usize,
                actual: out.len(),
            });
        }
        check_complete(chunk, &head)?;
        self.decode_checked(chunk, base, head, out)
    }

    fn decode_checked(
        &mut self,
        chunk: &[u8],
        base: Option<&[u8]>,
        head: ChunkHead,
        out: &mut [u8],
    ) -> Result<()> {
        let base = match head.base {
            None => None,
            Some(hash) => {
                let base = base.ok_or(Error::BaseMissing(hash))?;
                if base.len() != out.len() {
                    return Err(Error::BaseLength {
                        hash,
                        expected: out.len(),
                        actual: base.len(),
                    });
                }
                Some(base)
            }
        };
        let plan = plan_range(chunk, 0..head.raw_len)?;
        let end = plan.fetch().end;
        if chunk.len() < end {
            return Err(truncated(end, chunk));
        }
        if chunk.len() > end {
            return Err(Error::TrailingBytes {
                expected: end,
                actual: chunk.len(),
            });
        }
        self.fill(&plan, &chunk[plan.fetch()], out)?;
        if let Some(base) = base {
            xor_in_place(out, base);
        }
        Ok(())
    }

    /// Decodes the raw bytes of a plan into `out`, which then contains exactly those. `fetched` is the part of the
    /// chunk that [`RangePlan::fetch`] names. For a delta, the result is to be XORed with the same range of the base
    /// (see [`crate::codec::xor_in_place`]). After an error `out` is empty.
    pub fn decode_range(
        &mut self,
        plan: &RangePlan,
        fetched: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let done = check_fetched(plan, fetched).and_then(|()| {
            out.resize(plan.raw_range().len(), 0);
            self.fill(plan, fetched, out)
        });
        if done.is_err() {
            out.clear();
        }
        done
    }

    /// Decodes the raw bytes of a plan into a buffer of exactly the length of the range.
    pub fn decode_range_into(
        &mut self,
        plan: &RangePlan,
        fetched: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        check_fetched(plan, fetched)?;
        if out.len() != plan.raw_range().len() {
            return Err(Error::OutputLength {
                expected: plan.raw_range().len(),
                actual: out.len(),
            });
        }
        self.fill(plan, fetched, out)
    }

    /// The callers have checked both lengths.
    fn fill(&mut self, plan: &RangePlan, fetched: &[u8], out: &mut [u8]) -> Result<()> {
        let head = plan.head();
        let range = plan.raw_range();
        match head.codec {
            Codec::Raw => out.copy_from_slice(fetched),
            Codec::Constant => {
                let width = usize::from(head.width);
                let mut element = [0u8; 8];
                element[..width].copy_from_slice(fetched);
                // The range may start inside an element.
                element[..width].rotate_left(range.start % width);
                fill_repeating(&element[..width], out);
            }
            Codec::Planes | Codec::Delta => self.fill_blocks(plan, fetched, out)?,
        }
        Ok(())
    }

    fn fill_blocks(&mut self, plan: &RangePlan, fetched: &[u8], out: &mut [u8]) -> Result<()> {
        let (head, range) = (plan.head(), plan.raw_range());
        let width = usize::from(head.width);
        let (mut fetched, mut out) = (fetched, out);
        for (block, entries) in plan.blocks() {
            let stored: usize = entries.iter().map(|e| e.len).sum();
            let (bytes, rest) = fetched
                .split_at_checked(stored)
                .ok_or_else(|| truncated(stored, fetched))?;
            fetched = rest;
            let block_len = head.block_len(block);
            let block_start = block << head.block_log2;
            let wanted = Range {
                start: range.start.max(block_start) - block_start,
                end: range.end.min(block_start + block_len) - block_start,
            };
            let (target, rest) = out.split_at_mut(wanted.len());
            out = rest;
            let elements = wanted.start / width * width..wanted.end.next_multiple_of(width);
            let stored = StoredBlock {
                number: block,
                raw_len: block_len,
                rotated: head.rotated,
                entries,
                bytes,
            };
            if elements == wanted {
                self.fill_block(&stored, wanted.start, target)?;
            } else {
                let mut partial = std::mem::take(&mut self.partial);
                partial.resize(partial.len().max(elements.len()), 0);
                let whole = &mut partial[..elements.len()];
                let done = self.fill_block(&stored, elements.start, whole);
                target.copy_from_slice(&whole[wanted.start - elements.start..][..wanted.len()]);
                self.partial = partial;
                done?;
            }
        }
        Ok(())
    }

    /// Decodes whole elements of one block.
    fn fill_block(&mut self, block: &StoredBlock<'_>, skip: usize, out: &mut [u8]) -> Result<()> {
        match block.entries {
            [
                PlaneEntry {
                    kind: PlaneKind::Sparse,
                    ..
                },
                ..,
            ] => self.sparse.decode(&mut self.planes, block, skip, out),
            _ => self.planes.decode(block, skip, out),
        }
    }
}

/// Fills `out` with `element` by repeated doubling.
fn fill_repeating(element: &[u8], out: &mut [u8]) {
    let mut filled = element.len().min(out.len());
    out[..filled].copy_from_slice(&element[..filled]);
    while filled < out.len() {
        let more = filled.min(out.len() - filled);
        out.copy_within(..more, filled);
        filled += more;
    }
}

/// Rejects truncated chunks before a buffer is allocated: a chunk of planes has at least its index, a raw one all its
/// bytes.
fn check_complete(chunk: &[u8], head: &ChunkHead) -> Result<()> {
    let needed = head.payload_offset
        + match head.codec {
            Codec::Raw => head.raw_len as usize,
            Codec::Constant => usize::from(head.width),
            Codec::Planes | Codec::Delta => head.index_bytes() + head.blocks(),
        };
    if chunk.len() < needed {
        return Err(truncated(needed, chunk));
    }
    Ok(())
}

fn check_fetched(plan: &RangePlan, fetched: &[u8]) -> Result<()> {
    let needed = plan.fetch().len();
    if fetched.len() != needed {
        return Err(truncated(needed, fetched));
    }
    Ok(())
}
