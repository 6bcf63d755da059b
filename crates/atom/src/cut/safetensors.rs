//! Tensors in a safetensors file: 8 bytes of length, a header in JSON, then the tensors one after the other.

use serde_json::Value;

use super::regions::{Region, Unit};

/// Bytes of the length before the JSON.
const LENGTH_BYTES: usize = 8;
/// Tensors are cut at multiples of this from their start. It is a multiple of the size of every element type of whole
/// bytes, so that a leaf can be read as numbers.
const UNIT_BYTES: usize = 8;

/// Returns the regions of a file of `total` bytes: the header, and each tensor. `None` if the header does not fit into
/// `head`, or the tensors are not contiguous from the header's end to that of the file. O(tensors · log tensors).
pub(super) fn regions(head: &[u8], total: u64) -> Option<Vec<Region>> {
    let (length, json) = head.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let Value::Object(header) = serde_json::from_slice(json.get(..length)?).ok()? else {
        return None;
    };
    let mut tensors = header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(_, entry)| offsets(entry))
        .collect::<Option<Vec<_>>>()?;
    tensors.sort_unstable();

    let start = (LENGTH_BYTES + length) as u64;
    let mut regions = vec![Region {
        end: start,
        unit: Unit::Whole,
    }];
    let mut expected = 0;
    for (first, end) in tensors {
        if first != expected || end < first {
            return None;
        }
        expected = end;
        regions.push(Region {
            end: start.checked_add(end)?,
            unit: Unit::Frames(UNIT_BYTES),
        });
    }
    (start.checked_add(expected)? == total).then_some(regions)
}

/// Returns the first byte of a tensor, and one past its last.
fn offsets(entry: &Value) -> Option<(u64, u64)> {
    let [start, end] = entry.get("data_offsets")?.as_array()?.as_slice() else {
        return None;
    };
    Some((start.as_u64()?, end.as_u64()?))
}
