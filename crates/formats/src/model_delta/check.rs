//! Checks that manifest, safetensors header and the lengths of both files agree, before a chunk is read.

use modelstore_chunk::MAX_CHUNK_BYTES;

use super::prefix::truncated;
use super::weight::{ChunkDelta, WeightDelta};
use super::{MAX_OVERHEAD_BYTES, Manifest};
use crate::error::{Document, Error, Result, shown};
use crate::safetensors::{Header, LENGTH_BYTES, TensorEntry, header_len};

/// The positions of the encoded chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// For each weight of the manifest, the offset of its first chunk in the model delta. The others follow without
    /// gaps; a weight without chunks has the offset of the next one's.
    pub first_chunks: Vec<u64>,
}

impl Manifest {
    /// Returns the length of the safetensors header's JSON, from the [`LENGTH_BYTES`] bytes at `header_offset`, the end
    /// of the manifest, in a model delta of `delta_file_bytes` bytes.
    ///
    /// It is safe to allocate and read the JSON afterwards: its length is within this file, and within the target's.
    pub fn header_len(
        &self,
        prefix: &[u8],
        header_offset: u64,
        delta_file_bytes: u64,
    ) -> Result<u64> {
        let json = header_offset.saturating_add(LENGTH_BYTES);
        if json > delta_file_bytes {
            return Err(truncated(json, delta_file_bytes));
        }
        let length = header_len(prefix, self.file_bytes)?;
        let end = json.saturating_add(length);
        if end > delta_file_bytes {
            return Err(truncated(end, delta_file_bytes));
        }
        Ok(length)
    }

    /// Checks that the manifest describes the safetensors file of `header`, which is at `header_offset` in the model
    /// delta, and that the model delta, of `delta_file_bytes` bytes, ends with the last chunk.
    ///
    /// 1. The weights are the tensors of the header, in the order of their data.
    /// 2. The chunks of a weight decode to as many bytes as its tensor has; a weight without chunks has a base.
    /// 3. A chunk decodes to 1 to [`MAX_CHUNK_BYTES`] bytes, and is stored in at least 1 and at most
    ///    [`MAX_OVERHEAD_BYTES`] more than that.
    /// 4. Header and tensors have [`Manifest::file_bytes`] bytes together.
    pub fn check(
        &self,
        header: &Header,
        header_offset: u64,
        delta_file_bytes: u64,
    ) -> Result<Layout> {
        self.check_names(header)?;
        self.check_file_bytes(header)?;
        let mut first_chunks = Vec::with_capacity(self.weights.len());
        // A saturated value is beyond any file, and refused below.
        let mut end = header_offset.saturating_add(header.data_offset);
        for (weight, tensor) in self.weights.iter().zip(&header.tensors) {
            first_chunks.push(end);
            end = end.saturating_add(check_weight(weight, tensor)?);
        }
        check_end(Document::ModelDelta, end, delta_file_bytes)?;
        Ok(Layout { first_chunks })
    }

    fn check_names(&self, header: &Header) -> Result<()> {
        let mut pairs = self.weights.iter().zip(&header.tensors);
        if let Some((weight, tensor)) = pairs.find(|(w, t)| w.name != t.name) {
            return Err(Error::WeightMismatch {
                weight: shown(&weight.name),
                tensor: shown(&tensor.name),
            });
        }
        let (weights, tensors) = (self.weights.len() as u64, header.tensors.len() as u64);
        if weights != tensors {
            return Err(Error::WeightCount { weights, tensors });
        }
        Ok(())
    }

    fn check_file_bytes(&self, header: &Header) -> Result<()> {
        let data = header.tensors.last().map_or(0, |t| t.end);
        let end = header.data_offset.saturating_add(data);
        check_end(Document::SafetensorsFile, end, self.file_bytes)
    }
}

/// Refuses a file that does not end at `end`.
fn check_end(document: Document, end: u64, file_bytes: u64) -> Result<()> {
    if end > file_bytes {
        return Err(Error::Truncated {
            document,
            needed: end,
            actual: file_bytes,
        });
    }
    match file_bytes - end {
        0 => Ok(()),
        extra => Err(Error::TrailingBytes { document, extra }),
    }
}

/// Returns the bytes that a weight takes in the model delta.
fn check_weight(weight: &WeightDelta, tensor: &TensorEntry) -> Result<u64> {
    let Some(chunks) = &weight.chunks else {
        return match weight.base {
            Some(_) => Ok(0),
            None => Err(Error::NoChunks {
                weight: shown(&weight.name),
            }),
        };
    };
    let (mut raw, mut stored) = (0u64, 0u64);
    for (index, chunk) in chunks.iter().enumerate() {
        check_chunk(weight, index as u64, *chunk)?;
        // Does not overflow: fewer than 2^32 32-bit numbers fit into memory.
        raw += u64::from(chunk.raw_bytes);
        stored += u64::from(chunk.stored_bytes);
    }
    let expected = tensor.end.saturating_sub(tensor.start);
    if raw != expected {
        return Err(Error::WrongLength {
            tensor: shown(&tensor.name),
            shape: tensor.shape.to_string(),
            dtype: tensor.dtype,
            expected,
            actual: raw,
        });
    }
    Ok(stored)
}

fn check_chunk(weight: &WeightDelta, chunk: u64, bytes: ChunkDelta) -> Result<()> {
    let ChunkDelta {
        raw_bytes,
        stored_bytes,
    } = bytes;
    let (raw, stored) = (u64::from(raw_bytes), u64::from(stored_bytes));
    if !(1..=MAX_CHUNK_BYTES).contains(&raw) {
        return Err(Error::RawBytes {
            weight: shown(&weight.name),
            chunk,
            raw_bytes,
        });
    }
    if !(1..=raw + MAX_OVERHEAD_BYTES).contains(&stored) {
        return Err(Error::StoredBytes {
            weight: shown(&weight.name),
            chunk,
            raw_bytes,
            stored_bytes,
        });
    }
    Ok(())
}
