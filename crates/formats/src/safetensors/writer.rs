//! Writes a header. The same tensors and metadata always give the same bytes.

use std::collections::BTreeMap;

use modelstore_tensor::{DType, Shape};
use serde::ser::{SerializeMap, Serializer};

use super::entry::{byte_len, check_distinct, check_name};
use super::{LENGTH_BYTES, MAX_HEADER_BYTES, METADATA_KEY, dtype};
use crate::error::{Document, Error, Result, shown};

const DOCUMENT: Document = Document::SafetensorsHeader;

#[derive(serde::Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [u64],
    data_offsets: [u64; 2],
}

/// Builds the start of a safetensors file that contains `tensors`: length and JSON, padded so that the data starts at a
/// multiple of 8. Also returns the order of the tensors' bytes, as indexes into `tensors`.
///
/// As other writers do, sorts by descending element size, then by name, so that every tensor is aligned.
pub fn build_header(
    tensors: &[(String, DType, Shape)],
    metadata: Option<&BTreeMap<String, String>>,
) -> Result<(Vec<u8>, Vec<usize>)> {
    for (key, value) in metadata.into_iter().flatten() {
        if let Some(text) = [key, value].into_iter().find(|t| t.contains('\0')) {
            return Err(Error::NulCharacter {
                document: DOCUMENT,
                text: shown(text),
            });
        }
    }
    let mut order = Vec::with_capacity(tensors.len());
    for (index, (name, dtype, _)) in tensors.iter().enumerate() {
        check_name(DOCUMENT, name)?;
        if name == METADATA_KEY {
            return Err(Error::ReservedName { name: name.clone() });
        }
        let rank = dtype::rank(*dtype).ok_or_else(|| Error::UnsupportedDtype {
            tensor: shown(name),
            dtype: *dtype,
        })?;
        order.push((std::cmp::Reverse(rank), name.as_str(), index));
    }
    check_distinct(DOCUMENT, tensors.iter().map(|(name, ..)| name.as_str()))?;
    order.sort_unstable();
    let order: Vec<usize> = order.into_iter().map(|(_, _, index)| index).collect();

    let mut entries = Vec::with_capacity(order.len());
    let mut offset = 0u64;
    for &index in &order {
        let (name, dtype, shape) = &tensors[index];
        let overflow = || Error::OffsetOverflow {
            tensor: shown(name),
        };
        let start = offset;
        offset = start
            .checked_add(byte_len(name, *dtype, shape)?)
            .filter(|&end| end <= i64::MAX as u64 - LENGTH_BYTES - MAX_HEADER_BYTES)
            .ok_or_else(overflow)?;
        entries.push((
            name.as_str(),
            Entry {
                dtype: dtype::name(*dtype).unwrap_or_default(),
                shape: shape.dims(),
                data_offsets: [start, offset],
            },
        ));
    }
    let mut header = serialise(metadata, &entries).map_err(|e| Error::InvalidJson {
        document: DOCUMENT,
        reason: e.to_string(),
    })?;
    let length = header.len() as u64 - LENGTH_BYTES;
    if length > MAX_HEADER_BYTES {
        return Err(Error::HeaderTooLong {
            document: DOCUMENT,
            length,
        });
    }
    header[..LENGTH_BYTES as usize].copy_from_slice(&length.to_le_bytes());
    Ok((header, order))
}

/// Returns the padded JSON, after room for its length.
fn serialise(
    metadata: Option<&BTreeMap<String, String>>,
    entries: &[(&str, Entry<'_>)],
) -> serde_json::Result<Vec<u8>> {
    let mut out = vec![0; LENGTH_BYTES as usize];
    let mut json = serde_json::Serializer::new(&mut out);
    let mut map = json.serialize_map(None)?;
    if let Some(metadata) = metadata {
        map.serialize_entry(METADATA_KEY, metadata)?;
    }
    for (name, entry) in entries {
        map.serialize_entry(name, entry)?;
    }
    map.end()?;
    out.resize(out.len().next_multiple_of(8), b' ');
    Ok(out)
}
