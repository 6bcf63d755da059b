//! Parses a header without the data.
//!
//! A header that [`parse_header`] accepts fulfils:
//!
//! 1. names are distinct, not empty and free of zero characters, and have at most
//!    [`MAX_NAME_BYTES`](super::MAX_NAME_BYTES) bytes;
//! 2. each tensor's shape and dtype need exactly the bytes between its offsets;
//! 3. the tensors, in the order given, cover the data from 0 without a hole or an overlap;
//! 4. the last one ends where the file ends.

use std::collections::BTreeMap;
use std::fmt;

use modelstore_tensor::{DType, Shape};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::entry::{Entry, EntrySeed, check_distinct, check_name};
use super::{LENGTH_BYTES, MAX_HEADER_BYTES, METADATA_KEY};
use crate::error::{Document, Error, Result, shown};
use crate::json::{Context, Nullable, StringMap, parse_object};

const DOCUMENT: Document = Document::SafetensorsHeader;

/// The header of a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tensors by position in the data; empty ones at the same position in the order of the header.
    pub tensors: Vec<TensorEntry>,
    /// The free-form metadata of the file, if any.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Offset of the data in the file.
    pub data_offset: u64,
}

impl Header {
    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.data_offset + self.tensors.last().map_or(0, |t| t.end)
    }
}

/// One tensor of a [`Header`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// The name, unique in the file.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions.
    pub shape: Shape,
    /// First byte, relative to [`Header::data_offset`].
    pub start: u64,
    /// One past the last byte, relative to [`Header::data_offset`].
    pub end: u64,
}

/// Returns the length of the JSON, from the first [`LENGTH_BYTES`] bytes of a file of `file_len` bytes.
///
/// It is safe to allocate and read the JSON afterwards: its length is at most [`MAX_HEADER_BYTES`] and within the file.
pub fn header_len(prefix: &[u8], file_len: u64) -> Result<u64> {
    let available = file_len.min(prefix.len() as u64);
    let Some(bytes) = prefix
        .first_chunk::<8>()
        .filter(|_| file_len >= LENGTH_BYTES)
    else {
        return Err(Error::Truncated {
            document: Document::SafetensorsFile,
            needed: LENGTH_BYTES,
            actual: available,
        });
    };
    let length = u64::from_le_bytes(*bytes);
    check_length(length, file_len)?;
    Ok(length)
}

/// Parses the header of a file of `file_len` bytes from its JSON. O(tensors · log tensors).
pub fn parse_header(json: &[u8], file_len: u64) -> Result<Header> {
    parse(json, Some(file_len))
}

/// The header of a file whose length is not known yet, from its JSON; [`Header::file_bytes`] says what it is to be.
pub fn parse_header_of_any(json: &[u8]) -> Result<Header> {
    parse(json, None)
}

fn parse(json: &[u8], file_len: Option<u64>) -> Result<Header> {
    let length = json.len() as u64;
    check_length(length, file_len.unwrap_or(u64::MAX))?;
    let data_offset = LENGTH_BYTES + length;
    let (mut tensors, metadata) = parse_object(json, DOCUMENT, |context, parser| {
        HeaderSeed(context).deserialize(parser)
    })?;
    check_distinct(DOCUMENT, tensors.iter().map(|t| t.name.as_str()))?;
    // Empty tensors have the start of the next one, so sort by the end as well; the sort is stable.
    tensors.sort_by_key(|t| (t.start, t.end));
    check_layout(&tensors, data_offset, file_len)?;
    Ok(Header {
        tensors,
        metadata,
        data_offset,
    })
}

fn check_length(length: u64, file_len: u64) -> Result<()> {
    if length > MAX_HEADER_BYTES {
        return Err(Error::HeaderTooLong {
            document: DOCUMENT,
            length,
        });
    }
    let needed = LENGTH_BYTES + length;
    if needed > file_len {
        return Err(Error::Truncated {
            document: Document::SafetensorsFile,
            needed,
            actual: file_len,
        });
    }
    Ok(())
}

fn check_layout(tensors: &[TensorEntry], data_offset: u64, file_len: Option<u64>) -> Result<()> {
    let mut expected = 0;
    for t in tensors {
        let (tensor, start) = (|| shown(&t.name), t.start);
        if start > expected {
            return Err(Error::Hole {
                tensor: tensor(),
                start,
                expected,
            });
        }
        if start < expected {
            return Err(Error::Overlap {
                tensor: tensor(),
                start,
                expected,
            });
        }
        let end_in_file = data_offset.checked_add(t.end);
        let Some(needed) = end_in_file.filter(|&e| e <= i64::MAX as u64) else {
            return Err(Error::OffsetOverflow { tensor: tensor() });
        };
        if let Some(actual) = file_len.filter(|&len| needed > len) {
            return Err(Error::Truncated {
                document: Document::SafetensorsFile,
                needed,
                actual,
            });
        }
        expected = t.end;
    }
    match file_len.map_or(0, |len| len - data_offset - expected) {
        0 => Ok(()),
        extra => Err(Error::TrailingBytes {
            document: Document::SafetensorsFile,
            extra,
        }),
    }
}

struct HeaderSeed<'a>(&'a Context);

type Parts = (Vec<TensorEntry>, Option<BTreeMap<String, String>>);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = Parts;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Parts, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
        let context = self.0;
        let (mut tensors, mut metadata) = (Vec::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA_KEY {
                let value =
                    context.under(&name, map.next_value_seed(Nullable(StringMap(context))))?;
                if metadata.replace(value).is_some() {
                    return Err(context.duplicate(&name));
                }
                continue;
            }
            check_name(DOCUMENT, &name).map_err(|e| context.fail(e))?;
            let seed = EntrySeed {
                context,
                tensor: &name,
            };
            let Entry {
                dtype,
                shape,
                start,
                end,
            } = context.under(&name, map.next_value_seed(seed))?;
            tensors.push(TensorEntry {
                name,
                dtype,
                shape,
                start,
                end,
            });
        }
        Ok((tensors, metadata.flatten()))
    }
}
