//! Everything before the safetensors header: magic, version, length and manifest. The same manifest always gives the
//! same bytes.

use modelstore_chunk::ChunkHash;
use serde::Serialize;
use serde::ser::Serializer;

use super::parse::DOCUMENT;
use super::weight::{ChunkDelta, WeightDelta, check_weight_name};
use super::{MAGIC, Manifest, PREFIX_BYTES, VERSION};
use crate::error::{Document, Error, Result};
use crate::safetensors::MAX_HEADER_BYTES;

/// Returns the length of the manifest, from the first [`PREFIX_BYTES`] bytes of a file of `file_len` bytes.
///
/// It is safe to allocate and read the manifest afterwards: its length is at most [`MAX_HEADER_BYTES`] and within the
/// file.
pub fn manifest_len(prefix: &[u8], file_len: u64) -> Result<u64> {
    let available = file_len.min(prefix.len() as u64);
    let parts = prefix
        .split_first_chunk::<7>()
        .and_then(|(magic, rest)| {
            rest.split_first()
                .map(|(version, rest)| (magic, version, rest))
        })
        .and_then(|(magic, version, rest)| Some((magic, version, rest.first_chunk::<8>()?)));
    let Some((magic, &version, length)) = parts.filter(|_| file_len >= PREFIX_BYTES) else {
        return Err(truncated(PREFIX_BYTES, available));
    };
    if magic != MAGIC {
        return Err(Error::NotAModelDelta);
    }
    if version != VERSION {
        return Err(Error::UnknownVersion { version });
    }
    let length = u64::from_le_bytes(*length);
    check_length(length)?;
    if PREFIX_BYTES + length > file_len {
        return Err(truncated(PREFIX_BYTES + length, file_len));
    }
    Ok(length)
}

pub(super) fn truncated(needed: u64, actual: u64) -> Error {
    Error::Truncated {
        document: Document::ModelDelta,
        needed,
        actual,
    }
}

fn check_length(length: u64) -> Result<()> {
    if length > MAX_HEADER_BYTES {
        return Err(Error::HeaderTooLong {
            document: DOCUMENT,
            length,
        });
    }
    Ok(())
}

/// Builds the start of a model delta: magic, version, length and JSON. Refuses a manifest that could not be read back.
/// The header of the safetensors file follows, then the chunks; [`Manifest::check`] checks that they fit.
pub fn build_prefix(manifest: &Manifest) -> Result<Vec<u8>> {
    for weight in &manifest.weights {
        check_weight_name(&weight.name)?;
    }
    manifest.check_texts()?;
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    out.resize(PREFIX_BYTES as usize, 0);
    serde_json::to_writer(&mut out, &Written::of(manifest)).map_err(|e| Error::InvalidJson {
        document: DOCUMENT,
        reason: e.to_string(),
    })?;
    let length = out.len() as u64 - PREFIX_BYTES;
    check_length(length)?;
    out[8..PREFIX_BYTES as usize].copy_from_slice(&length.to_le_bytes());
    Ok(out)
}

/// The manifest in the order and with the types of its JSON.
#[derive(Serialize)]
struct Written<'a> {
    from: Hex,
    to: Hex,
    model_name: &'a str,
    version: &'a str,
    file_name: &'a str,
    file_bytes: u64,
    blake3: Hex,
    #[serde(serialize_with = "weights")]
    weights: &'a [WeightDelta],
}

impl Written<'_> {
    fn of(manifest: &Manifest) -> Written<'_> {
        Written {
            from: Hex(manifest.from),
            to: Hex(manifest.to),
            model_name: &manifest.model_name,
            version: &manifest.version,
            file_name: &manifest.file_name,
            file_bytes: manifest.file_bytes,
            blake3: Hex(manifest.blake3),
            weights: &manifest.weights,
        }
    }
}

#[derive(Serialize)]
struct WrittenWeight<'a> {
    name: &'a str,
    base: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "chunks")]
    chunks: Option<&'a [ChunkDelta]>,
}

fn weights<S: Serializer>(weights: &[WeightDelta], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(weights.iter().map(|w| WrittenWeight {
        name: &w.name,
        base: w.base.map(Hex),
        chunks: w.chunks.as_deref(),
    }))
}

fn chunks<S: Serializer>(chunks: &Option<&[ChunkDelta]>, s: S) -> Result<S::Ok, S::Error> {
    let chunks = chunks.unwrap_or_default();
    s.collect_seq(chunks.iter().map(|c| [c.raw_bytes, c.stored_bytes]))
}

/// A hash as 64 hexadecimal digits.
struct Hex([u8; 32]);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&ChunkHash(self.0))
    }
}
