//! Chooses the encoding of a chunk by trying.

use modelstore_tensor::{DType, dtype::Kind};

use super::planes::{Method, PlaneEncoder};
use super::sparse::{self, SparseEncoder};
use super::{PlaneEntry, xor_in_place};
use crate::{ChunkHash, ChunkHead, Codec, Error, MAX_CHUNK_BYTES, Result};

/// Log2 of the raw bytes in a block of planes, the least that a slice of a few rows reads.
pub(super) const BLOCK_LOG2: u8 = 15;

/// The base of a possible delta.
#[derive(Clone, Copy)]
pub struct Against<'a> {
    /// Its raw bytes.
    pub raw: &'a [u8],
    /// Their hash.
    pub hash: &'a ChunkHash,
    /// The delta must be smaller than the chunk without a base divided by this: 1 for any that is smaller.
    pub share: usize,
}

impl<'a> Against<'a> {
    /// A base for any delta that is smaller than the chunk without it.
    pub fn any(raw: &'a [u8], hash: &'a ChunkHash) -> Against<'a> {
        Against {
            raw,
            hash,
            share: 1,
        }
    }
}

/// Encodes chunks. Owns its buffers and zstd contexts: keep one per thread.
pub struct Encoder {
    planes: PlaneEncoder,
    sparse: SparseEncoder,
    xor: Vec<u8>,
    dense: Vec<u8>,
    delta: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder::new()
    }
}

impl Encoder {
    /// Creates an encoder.
    pub fn new() -> Encoder {
        Encoder {
            planes: PlaneEncoder::new(),
            sparse: SparseEncoder::default(),
            xor: Vec::new(),
            dense: Vec::new(),
            delta: Vec::new(),
        }
    }

    /// Encodes `raw` into `out`, replacing its content, with the smallest of `raw`, `constant` and `planes`. The dtype
    /// is a hint: any bytes can be encoded under any dtype. Fails only above [`MAX_CHUNK_BYTES`].
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
            self.write_planes(&head, raw, usize::MAX, out);
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

    /// Encodes `raw` into `out` as a delta of the chunk `base_hash` with the raw bytes `base_raw`. Returns true if that
    /// takes less than `limit` bytes, usually the length of the output of [`Encoder::encode`]. If it returns false, as
    /// for bytes of different lengths, the content of `out` is undefined.
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
        let mut xor = std::mem::take(&mut self.xor);
        xor.clear();
        xor.extend_from_slice(raw);
        xor_in_place(&mut xor, base_raw);
        self.write_delta(&mut head, &xor, out);
        self.xor = xor;
        Ok(out.len() < limit)
    }

    /// Encodes `raw` into `out` in the smallest way, including a delta if there is a base.
    pub fn encode_with_base(
        &mut self,
        dtype: DType,
        raw: &[u8],
        base: Option<Against<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<Codec> {
        let codec = self.encode(dtype, raw, out)?;
        if let Some(base) = base {
            let mut delta = std::mem::take(&mut self.delta);
            let limit = out.len() / base.share.max(1);
            let smaller = self.encode_delta(dtype, raw, base.raw, base.hash, limit, &mut delta);
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

    /// Writes a delta with or without sparse blocks, whichever is smaller.
    fn write_delta(&mut self, head: &mut ChunkHead, xor: &[u8], out: &mut Vec<u8>) {
        let sparse = sparse::block_log2(head.width, xor);
        if let Some(block_log2) = sparse {
            head.block_log2 = block_log2;
            self.write_sparse(head, xor, out);
        }
        let limit = if sparse.is_some() {
            out.len()
        } else {
            usize::MAX
        };
        head.block_log2 = BLOCK_LOG2;
        let mut dense = std::mem::take(&mut self.dense);
        dense.clear();
        if self.write_planes(head, xor, limit, &mut dense) {
            std::mem::swap(out, &mut dense);
        }
        self.dense = dense;
    }

    /// Writes header, index and planes of `raw`, which is the bytes or their XOR with a base. Gives up and returns
    /// false at `limit` bytes.
    fn write_planes(
        &mut self,
        head: &ChunkHead,
        raw: &[u8],
        limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        head.write(out);
        let mut index_at = out.len();
        out.resize(index_at + head.index_bytes(), 0);
        let mut methods = None;
        for bytes in raw.chunks(1 << head.block_log2) {
            self.append_dense(head, bytes, &mut methods, &mut index_at, out);
            if out.len() >= limit {
                return false;
            }
        }
        true
    }

    /// Writes header, index and blocks of the delta `xor`, each block sparse if possible.
    fn write_sparse(&mut self, head: &ChunkHead, xor: &[u8], out: &mut Vec<u8>) {
        let ChunkHead { width, rotated, .. } = *head;
        head.write(out);
        let mut index_at = out.len();
        out.resize(index_at + head.index_bytes(), 0);
        let (mut methods, mut dense_methods) = (None, None);
        for bytes in xor.chunks(1 << head.block_log2) {
            let planes = &mut self.planes;
            let appended = self
                .sparse
                .append(planes, width, rotated, bytes, &mut methods, out);
            match appended {
                Some(entry) => {
                    // The entries of the other planes stay zero.
                    write_entry(entry, index_at, out);
                    index_at += 4 * usize::from(width);
                }
                None => self.append_dense(head, bytes, &mut dense_methods, &mut index_at, out),
            }
        }
    }

    /// Appends a block as planes of all its elements, and their entries at `index_at`. The first such block of a chunk
    /// decides `methods`.
    fn append_dense(
        &mut self,
        head: &ChunkHead,
        bytes: &[u8],
        methods: &mut Option<[Method; 8]>,
        index_at: &mut usize,
        out: &mut Vec<u8>,
    ) {
        let width = usize::from(head.width);
        let plane_len = bytes.len() / width;
        self.planes.split(head.width, head.rotated, bytes);
        let methods = methods.get_or_insert_with(|| self.planes.methods(head.width, plane_len));
        for (plane, &method) in methods.iter().enumerate().take(width) {
            let entry = self.planes.append(plane, plane_len, method, out);
            write_entry(entry, *index_at, out);
            *index_at += 4;
        }
    }
}

fn write_entry(entry: PlaneEntry, at: usize, out: &mut [u8]) {
    out[at..at + 4].copy_from_slice(&entry.to_u32().to_le_bytes());
}

/// Bytes that the codec `raw` adds.
const RAW_OVERHEAD: usize = 8;

/// Returns the header for a dtype, without a codec.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_is_never_larger_than_its_planes() {
        let mut encoder = Encoder::new();
        type Changes = (&'static str, fn(usize) -> bool);
        let shapes: [Changes; 7] = [
            ("nothing", |_| false),
            ("one", |at| at == 77),
            ("rows", |at| at / 384 % 20 == 3),
            ("a column", |at| at % 384 == 5),
            ("half", |at| at < 60_000),
            ("scattered", |at| (at * at) % 97 < 9),
            ("everything", |_| true),
        ];
        for (dtype, width) in [(DType::F32, 4), (DType::BF16, 2), (DType::U8, 1)] {
            for (name, changes) in shapes {
                let mut xor = vec![0; 120_000 * width];
                for (at, element) in xor.chunks_exact_mut(width).enumerate() {
                    if changes(at) {
                        element[0] = 1 | (at * 31 / 8) as u8;
                    }
                }
                let mut head = head(dtype, &xor).expect("small enough");
                head.codec = Codec::Delta;
                head.base = Some(ChunkHash::of(b""));
                let (mut chosen, mut dense) = (Vec::new(), Vec::new());
                encoder.write_delta(&mut head, &xor, &mut chosen);
                head.block_log2 = BLOCK_LOG2;
                assert!(encoder.write_planes(&head, &xor, usize::MAX, &mut dense));
                assert!(chosen.len() <= dense.len(), "{dtype}, {name}");
            }
        }
    }
}
