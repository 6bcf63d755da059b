//! A block of a delta in which few elements differ from the base: their positions, then their XOR.
//!
//! | byte | what |
//! | --- | --- |
//! | 0..4 | changed elements, u32 little-endian, at least 1 |
//! | 4 | parameter of the Rice code, at most 20 |
//! | 5..8 | zero |
//! | 8..8 + 4 width | for each plane of the changed elements a number as in the index, of kind 0, 1 or 2 |
//! | then | the planes, one byte a changed element before compression |
//! | then | remainders of the gaps between the positions of changed elements, then their quotients: [`super::rice`] |

use std::ops::Range;

use super::planes::{Method, PlaneDecoder, PlaneEncoder, StoredBlock};
use super::{PlaneEntry, PlaneKind, rice};
use crate::header::{MAX_BLOCK_LOG2, MIN_BLOCK_LOG2, read_u32};
use crate::{Error, Result};

/// Bytes before the entries of the planes.
const FIXED: usize = 8;
/// One element in this many is sampled. A prime, as changes often repeat with the rows.
const SAMPLE_STEP: usize = 17;
/// Log2 of the raw bytes per estimate.
const REGION_LOG2: u8 = 16;
/// Changed elements that a block should have, so that its fixed costs (entries, Huffman tables) matter little.
const CHANGES_A_BLOCK: usize = 3000;

/// Returns log2 of the best size of sparse blocks for the delta `xor` of elements of `width` bytes: the more there is
/// to decode, the smaller. `None` if most elements have changed everywhere.
pub(super) fn block_log2(width: u8, xor: &[u8]) -> Option<u8> {
    let (mut changed, mut looked_at) = (0, 0);
    let mut limit = MAX_BLOCK_LOG2;
    for region in xor.chunks(1 << REGION_LOG2) {
        let (some, of) = match width {
            2 => sample::<2>(region),
            4 => sample::<4>(region),
            8 => sample::<8>(region),
            _ => sample::<1>(region),
        };
        // A short rest at the end is not representative.
        let rest = region.len() < xor.len().min(1 << REGION_LOG2);
        if rest || some * 2 <= of {
            changed += some;
            looked_at += of;
        } else {
            // Do not put regions with many and with few changes into the same block.
            limit = REGION_LOG2;
        }
    }
    if looked_at == 0 {
        return None;
    }
    let enough = |log2: &u8| {
        let elements = (1usize << log2) / usize::from(width);
        elements * changed / looked_at >= CHANGES_A_BLOCK
    };
    // Blocks need not be larger than the chunk.
    let whole = xor.len().next_power_of_two().ilog2() as u8;
    let largest = whole.clamp(MIN_BLOCK_LOG2, limit);
    Some(
        (super::encoder::BLOCK_LOG2..largest)
            .find(enough)
            .unwrap_or(largest),
    )
}

/// Returns the number of changed elements in the sample, and the size of the sample.
fn sample<const WIDTH: usize>(xor: &[u8]) -> (usize, usize) {
    let looked_at = xor.as_chunks::<WIDTH>().0.iter().step_by(SAMPLE_STEP);
    let of = looked_at.len();
    (
        looked_at.filter(|&element| *element != [0; WIDTH]).count(),
        of,
    )
}

/// Writes sparse blocks; owns its buffers.
#[derive(Default)]
pub(super) struct SparseEncoder {
    /// Positions of the changed elements, then the gaps between them.
    gaps: Vec<u32>,
    /// The changed elements.
    values: Vec<u8>,
}

impl SparseEncoder {
    /// Appends a block of a delta. `methods` are those of the planes of changed elements, decided by the first block
    /// that has some. Returns `None` and appends nothing if planes of all elements are as good, because nothing or most
    /// of it has changed.
    pub fn append(
        &mut self,
        planes: &mut PlaneEncoder,
        width: u8,
        rotated: bool,
        xor: &[u8],
        methods: &mut Option<[Method; 8]>,
        out: &mut Vec<u8>,
    ) -> Option<PlaneEntry> {
        let bytes = usize::from(width);
        let elements = xor.len() / bytes;
        if self.values.len() < xor.len() {
            self.values.resize(xor.len(), 0);
        }
        if self.gaps.len() < elements {
            self.gaps.resize(elements, 0);
        }
        let changed = match width {
            2 => gather::<2>(xor, &mut self.gaps, &mut self.values),
            4 => gather::<4>(xor, &mut self.gaps, &mut self.values),
            8 => gather::<8>(xor, &mut self.gaps, &mut self.values),
            _ => gather::<1>(xor, &mut self.gaps, &mut self.values),
        };
        if changed == 0 || changed > elements / 2 {
            return None;
        }
        let gaps = &mut self.gaps[..changed];
        for at in (1..changed).rev() {
            gaps[at] -= gaps[at - 1] + 1;
        }
        let parameter = rice::parameter(gaps);
        let start = out.len();
        out.extend_from_slice(&(changed as u32).to_le_bytes());
        out.extend_from_slice(&[parameter, 0, 0, 0]);
        let mut entry_at = out.len();
        out.resize(entry_at + 4 * bytes, 0);
        planes.split(width, rotated, &self.values[..changed * bytes]);
        let methods = methods.get_or_insert_with(|| planes.methods(width, changed));
        for (plane, &method) in methods.iter().enumerate().take(bytes) {
            let entry = planes.append(plane, changed, method, out);
            out[entry_at..entry_at + 4].copy_from_slice(&entry.to_u32().to_le_bytes());
            entry_at += 4;
        }
        rice::append(gaps, parameter, out);
        let len = out.len() - start;
        if len >= xor.len() {
            out.truncate(start);
            return None;
        }
        Some(PlaneEntry {
            kind: PlaneKind::Sparse,
            len,
        })
    }
}

/// Collects positions and bytes of the nonzero elements; returns their number.
fn gather<const WIDTH: usize>(xor: &[u8], positions: &mut [u32], values: &mut [u8]) -> usize {
    const GROUP: usize = 32;
    let values = values.as_chunks_mut::<WIDTH>().0;
    let mut changed = 0;
    for (group, bytes) in xor.chunks(GROUP).enumerate() {
        if bytes.iter().fold(0, |any, byte| any | byte) == 0 {
            continue;
        }
        let first = group * (GROUP / WIDTH);
        // Branchless, as the processor could not predict the branch.
        for (at, element) in bytes.as_chunks::<WIDTH>().0.iter().enumerate() {
            positions[changed] = (first + at) as u32;
            values[changed] = *element;
            changed += usize::from(*element != [0; WIDTH]);
        }
    }
    changed
}

/// Reads sparse blocks; owns a buffer.
#[derive(Default)]
pub(super) struct SparseDecoder {
    values: Vec<u8>,
}

impl SparseDecoder {
    /// Decodes the raw bytes `skip..skip + out.len()` of a block, which are whole elements.
    pub fn decode(
        &mut self,
        planes: &mut PlaneDecoder,
        block: &StoredBlock<'_>,
        skip: usize,
        out: &mut [u8],
    ) -> Result<()> {
        let width = block.entries.len();
        let elements = block.raw_len / width;
        let corrupt = || Error::Sparse {
            block: block.number,
        };
        let changed = read_u32(block.bytes, 0)? as usize;
        let (parameter, reserved) = match block.bytes.get(4..FIXED) {
            Some(&[parameter, ref reserved @ ..]) => (parameter, reserved),
            _ => return Err(corrupt()),
        };
        if changed == 0
            || changed > elements
            || parameter > rice::MAX_PARAMETER
            || reserved != [0; 3]
        {
            return Err(corrupt());
        }
        let mut entries = [PlaneEntry::NONE; 8];
        let mut end = FIXED + 4 * width;
        let start = end;
        for (plane, slot) in entries.iter_mut().enumerate().take(width) {
            let entry = read_u32(block.bytes, FIXED + 4 * plane)?;
            *slot = PlaneEntry::from_u32(entry, changed).ok_or(Error::IndexEntry {
                entry,
                block: block.number,
                plane,
            })?;
            end += slot.len;
        }
        let (stored, gaps) = block
            .bytes
            .split_at_checked(end)
            .ok_or_else(|| crate::header::truncated(end, block.bytes))?;
        // At most as large as the block, which the header of the chunk has bounded.
        if self.values.len() < changed * width {
            self.values.resize(changed * width, 0);
        }
        let values = &mut self.values[..changed * width];
        let dense = StoredBlock {
            raw_len: changed * width,
            entries: &entries[..width],
            bytes: &stored[start..],
            ..*block
        };
        planes.decode(&dense, 0, values)?;
        out.fill(0);
        let wanted = skip / width..(skip + out.len()) / width;
        let scatter = match width {
            2 => scatter::<2>,
            4 => scatter::<4>,
            8 => scatter::<8>,
            _ => scatter::<1>,
        };
        scatter(gaps, parameter, elements, values, wanted, out).ok_or_else(corrupt)
    }
}

/// Writes the changed elements that are `wanted` to their places. Checks all positions, so that a part of a block is
/// refused if the whole is.
fn scatter<const WIDTH: usize>(
    gaps: &[u8],
    parameter: u8,
    elements: usize,
    values: &[u8],
    wanted: Range<usize>,
    out: &mut [u8],
) -> Option<()> {
    let values = values.as_chunks::<WIDTH>().0;
    let out = out.as_chunks_mut::<WIDTH>().0;
    rice::positions(
        gaps,
        parameter,
        values.len(),
        elements,
        |number, position| {
            // Positions before the range wrap around to values beyond its end.
            if let Some(place) = out.get_mut(position.wrapping_sub(wanted.start)) {
                *place = values[number];
            }
        },
    )
}
