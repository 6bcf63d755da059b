//! Finds the bytes of an encoded chunk that contain a range of its raw bytes.
//!
//! A slice of a stored tensor reads a prefix of [`PREFIX_BYTES`](crate::PREFIX_BYTES) (the header), as much as
//! [`block_index_len`] asks for, then the one byte range that [`RangePlan::fetch`] names.

use std::ops::Range;

use crate::codec::PlaneEntry;
use crate::header::{read_u32, truncated};
use crate::{ChunkHead, Codec, Error, Result};

/// Returns the number of bytes from the start of the chunk that [`plan_range`] needs: the header, and the index if
/// there is one. At most 8 236, and 1 068 for a chunk of 1 MiB of eight-byte elements as encoded here.
pub fn block_index_len(head: &ChunkHead) -> usize {
    head.payload_offset + head.index_bytes()
}

/// Which bytes of a chunk to read, and how to decode them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangePlan {
    head: ChunkHead,
    raw_range: Range<usize>,
    fetch: Range<usize>,
    first_block: usize,
    /// Entries of the blocks that the range touches, `head.width` per block.
    entries: Vec<PlaneEntry>,
}

impl RangePlan {
    /// Returns the bytes of the encoded chunk to read, one contiguous range; empty for an empty raw range.
    pub fn fetch(&self) -> Range<usize> {
        self.fetch.clone()
    }

    /// Returns the requested raw bytes.
    pub fn raw_range(&self) -> Range<usize> {
        self.raw_range.clone()
    }

    /// Returns the header of the chunk. If it has a base, the decoded bytes must be XORed with the same range of the
    /// base.
    pub fn head(&self) -> &ChunkHead {
        &self.head
    }

    /// Returns the blocks that the range touches, with their entries.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, &[PlaneEntry])> {
        let width = usize::from(self.head.width);
        (self.first_block..).zip(self.entries.chunks_exact(width))
    }
}

/// Plans to read `raw_range` from a chunk; `prefix` has at least its first [`block_index_len`] bytes.
pub fn plan_range(prefix: &[u8], raw_range: Range<u32>) -> Result<RangePlan> {
    let head = ChunkHead::parse(prefix)?;
    if raw_range.start > raw_range.end || raw_range.end > head.raw_len {
        return Err(Error::Range {
            start: raw_range.start,
            end: raw_range.end,
            raw_len: head.raw_len,
        });
    }
    let raw_range = raw_range.start as usize..raw_range.end as usize;
    let payload = head.payload_offset;
    let mut plan = RangePlan {
        fetch: payload..payload,
        first_block: 0,
        entries: Vec::new(),
        raw_range: raw_range.clone(),
        head,
    };
    match plan.head.codec {
        Codec::Raw => plan.fetch = payload + raw_range.start..payload + raw_range.end,
        Codec::Constant => plan.fetch = payload..payload + usize::from(plan.head.width),
        Codec::Planes | Codec::Delta => plan_blocks(prefix, &mut plan)?,
    }
    Ok(plan)
}

/// Scans the index up to the last block of the range: at most 256 blocks.
fn plan_blocks(prefix: &[u8], plan: &mut RangePlan) -> Result<()> {
    let head = &plan.head;
    let width = usize::from(head.width);
    let index_end = block_index_len(head);
    if prefix.len() < index_end {
        return Err(truncated(index_end, prefix));
    }
    let first = plan.raw_range.start >> head.block_log2;
    let end = if plan.raw_range.is_empty() {
        first
    } else {
        plan.raw_range.end.div_ceil(1 << head.block_log2)
    };
    plan.first_block = first;
    // Blocks are at least 16 KiB of at most 4 MiB: 256 of them with 8 planes.
    plan.entries.reserve_exact((end - first) * width);
    let mut at = index_end;
    let mut start = at;
    for block in 0..end {
        if block == first {
            start = at;
        }
        let plane_len = head.block_len(block) / width;
        let mut sparse = false;
        for plane in 0..width {
            let entry = read_u32(prefix, head.payload_offset + (block * width + plane) * 4)?;
            let known = if sparse {
                (entry == 0).then_some(PlaneEntry::NONE)
            } else if plane == 0 && head.codec == Codec::Delta && entry & 3 == 3 {
                sparse = true;
                PlaneEntry::sparse_from_u32(entry, head.block_len(block))
            } else {
                PlaneEntry::from_u32(entry, plane_len)
            };
            let entry = known.ok_or(Error::IndexEntry {
                entry,
                block,
                plane,
            })?;
            at += entry.len;
            if block >= first {
                plan.entries.push(entry);
            }
        }
    }
    plan.fetch = if first < end { start..at } else { at..at };
    Ok(())
}
