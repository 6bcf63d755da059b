//! Chooses how a chunk is stored, by trying.

use modelstore_tensor::{DType, dtype::Kind};

use super::planes::{Method, PlaneEncoder};
use super::xor_in_place;
use crate::{ChunkHash, ChunkHead, Codec, Error, MAX_CHUNK_BYTES, Result};

/// Log2 of the raw bytes in a block: what a slice of a few rows reads at least.
const BLOCK_LOG2: u8 = 15;

/// Encodes chunks. Owns its buffers and zstd contexts, so keep one for each thread.
pub struct Encoder {
    planes: PlaneEncoder,
    xor: Vec<u8>,
    delta: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder::new()
    }
}

impl Encoder {
    /// A new encoder.
    pub fn new() -> Encoder {
        Encoder {
            planes: PlaneEncoder::new(),
            xor: Vec::new(),
            delta: Vec::new(),
        }
    }

    /// Encodes `raw` into `out`, replacing what it held, in the smallest of `raw`, `constant` and `planes`. The
    /// dtype is a hint: any bytes encode under any dtype. Fails only above [`MAX_CHUNK_BYTES`].
    pub fn encode(&mut self, dtype: DType, raw: &[u8], out: &mut Vec<u8>) -> Result<Codec> {
        let mut head = head(dtype, raw)?;
        out.clear();
        let width = usize::from(head.width);
        if !raw.is_empty() && raw[width..] == raw[..raw.len() - width] {
            head.codec = Codec::Constant;
            head.rotated = false;
            head.write(out);
            out.extend_from_slice(&raw[..width]);
            return Ok(Codec::Constant);
        }
        if !raw.is_empty() {
            head.codec = Codec::Planes;
            head.block_log2 = BLOCK_LOG2;
            self.write_planes(&head, raw, out);
            if out.len() < RAW_OVERHEAD + raw.len() {
                return Ok(Codec::Planes);
            }
        }
        out.clear();
        let head = ChunkHead {
            codec: Codec::Raw,
            width: head.width,
            rotated: false,
            block_log2: 0,
            ..head
        };
        head.write(out);
        out.extend_from_slice(raw);
        Ok(Codec::Raw)
    }

    /// Encodes `raw` into `out` as a delta of the chunk `base_hash` with the raw bytes `base_raw`. True when that
    /// takes less than `limit` bytes, for which a caller gives the length of what [`Encoder::encode`] made; when
    /// false, or when the lengths of the two differ, `out` holds nothing of use.
    pub fn encode_delta(
        &mut self,
        dtype: DType,
        raw: &[u8],
        base_raw: &[u8],
        base_hash: &ChunkHash,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let mut head = head(dtype, raw)?;
        out.clear();
        if raw.is_empty() || raw.len() != base_raw.len() {
            return Ok(false);
        }
        head.codec = Codec::Delta;
        head.base = Some(*base_hash);
        head.block_log2 = BLOCK_LOG2;
        let mut xor = std::mem::take(&mut self.xor);
        xor.clear();
        xor.extend_from_slice(raw);
        xor_in_place(&mut xor, base_raw);
        self.write_planes(&head, &xor, out);
        self.xor = xor;
        Ok(out.len() < limit)
    }

    /// Encodes `raw` into `out` as it is smallest, a delta of the base included when there is one.
    pub fn encode_with_base(
        &mut self,
        dtype: DType,
        raw: &[u8],
        base: Option<(&[u8], &ChunkHash)>,
        out: &mut Vec<u8>,
    ) -> Result<Codec> {
        let codec = self.encode(dtype, raw, out)?;
        if let Some((base_raw, base_hash)) = base {
            let mut delta = std::mem::take(&mut self.delta);
            let smaller = self.encode_delta(dtype, raw, base_raw, base_hash, out.len(), &mut delta);
            if smaller == Ok(true) {
                std::mem::swap(out, &mut delta);
            }
            self.delta = delta;
            if smaller? {
                return Ok(Codec::Delta);
            }
        }
        Ok(codec)
    }

    /// Writes header, index and planes of `raw`, the bytes themselves or their XOR with a base.
    fn write_planes(&mut self, head: &ChunkHead, raw: &[u8], out: &mut Vec<u8>) {
        let width = usize::from(head.width);
        head.write(out);
        let mut index_at = out.len();
        out.resize(index_at + head.index_bytes(), 0);
        let mut methods = [Method::Entropy; 8];
        for (block, bytes) in raw.chunks(1 << head.block_log2).enumerate() {
            let plane_len = bytes.len() / width;
            self.planes.split(head.width, head.rotated, bytes);
            for (plane, method) in methods.iter_mut().enumerate().take(width) {
                if block == 0 {
                    *method = self.planes.method(plane, plane_len);
                }
                let entry = self.planes.append(plane, plane_len, *method, out);
                out[index_at..index_at + 4].copy_from_slice(&entry.to_u32().to_le_bytes());
                index_at += 4;
            }
        }
    }
}

/// Bytes that the codec `raw` adds.
const RAW_OVERHEAD: usize = 8;

/// The header for a dtype, still without a codec.
fn head(dtype: DType, raw: &[u8]) -> Result<ChunkHead> {
    if raw.len() as u64 > MAX_CHUNK_BYTES {
        return Err(Error::RawLength(raw.len() as u64));
    }
    let (width, float) = match (dtype, dtype.kind()) {
        // Two f32.
        (DType::C64, _) => (4, true),
        (_, kind @ (Kind::Bool | Kind::Int | Kind::Float)) => (
            dtype.element_bytes().unwrap_or(1) as u8,
            kind == Kind::Float,
        ),
        _ => (1, false),
    };
    let whole = matches!(width, 1 | 2 | 4 | 8) && raw.len().is_multiple_of(usize::from(width));
    let width = if whole { width } else { 1 };
    Ok(ChunkHead {
        codec: Codec::Raw,
        width,
        rotated: float && width > 1,
        raw_len: raw.len() as u32,
        base: None,
        block_log2: 0,
        payload_offset: 0,
    })
}
