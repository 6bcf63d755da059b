//! Reading a range of elements of a stored tensor: only the TOAST pieces of the blocks that hold it.

use crate::chunks::corruption::{corrupt_chunk, missing_chunk};
use crate::error::{Code, Failure, Result};
use crate::pg::arguments::{bytes, uuid};
use crate::pg::varlena::Toasted;
use crate::store::Store;
use crate::tensor::shape::group_bytes;
use crate::tensor_storage::locate::{Coverage, StoredPiece, StoredTensor, read_piece};
use modelstore_chunk::{
    ChunkHash, ChunkHead, Decoder, MAX_DELTA_DEPTH, PREFIX_BYTES, block_index_len,
    codec::xor_in_place, plan_range,
};
use std::cell::Cell;
use std::ops::Range;

thread_local! {
    /// Kept between calls: making one faults in more memory than decoding a block touches.
    static DECODER: Cell<Option<Decoder>> = const { Cell::new(None) };
}

/// Reads ranges of one tensor.
pub struct PartialReader<'a> {
    store: &'a Store,
    tensor: &'a StoredTensor,
}

/// A piece whose chunk is at hand, still where it is stored.
pub struct OpenPiece<'a> {
    reader: &'a PartialReader<'a>,
    chunk: Toasted<'a>,
    /// What it holds.
    pub piece: StoredPiece,
}

impl OpenPiece<'_> {
    /// The bytes of elements `range` of the tensor, which must lie in the piece.
    pub fn elements(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let range = self.reader.raw_range(&self.piece, range)?;
        let hash = &self.piece.hash;
        let found = self.reader.decode(hash, self.chunk, range.clone())?;
        self.reader.on_base(hash, found, range)
    }
}

/// Raw bytes, or their difference to the same range of a base.
type Decoded = (Vec<u8>, Option<ChunkHash>);

impl<'a> PartialReader<'a> {
    /// For one tensor.
    pub fn new(store: &'a Store, tensor: &'a StoredTensor) -> PartialReader<'a> {
        PartialReader { store, tensor }
    }

    /// Hands over, in order, the pieces that hold elements `wanted`, found with their chunks in one statement: of a
    /// slice of a few rows, finding takes longer than reading.
    pub fn each_piece(
        &self,
        wanted: Range<u64>,
        mut each: impl FnMut(&OpenPiece<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut coverage = Coverage::new(self.store, self.tensor, wanted.clone());
        self.store.query_in_order(
            "SELECT d.chunk_hash, d.first_element, d.element_count, c.chunk, d.chunk_index
             FROM @store@.tensor_data d LEFT JOIN @store@.tensor_chunks c USING (chunk_hash)
             WHERE d.tensor_id = $1 AND d.first_element < $3 AND d.first_element + d.element_count > $2",
            &[
                uuid(self.tensor.id),
                (wanted.start as i64).into(),
                (wanted.end as i64).into(),
            ],
            |row| row.get::<i32>(5),
            |row| {
                let piece = read_piece(row)?;
                coverage.add(&piece)?;
                let Some(chunk) = row.chunk(4)? else {
                    return Err(missing_chunk(&piece.hash, &self.tensor.label));
                };
                each(&OpenPiece {
                    reader: self,
                    chunk,
                    piece,
                })
            },
        )?;
        coverage.finish()
    }

    /// The bytes of elements `range` of the tensor, which must lie in `piece`.
    pub fn elements(&self, piece: &StoredPiece, range: Range<u64>) -> Result<Vec<u8>> {
        let range = self.raw_range(piece, range)?;
        let found = self.stored(&piece.hash, range.clone())?;
        self.on_base(&piece.hash, found, range)
    }

    /// Where elements `range` of the tensor lie in the raw bytes of a piece.
    fn raw_range(&self, piece: &StoredPiece, range: Range<u64>) -> Result<Range<u32>> {
        let dtype = self.tensor.dtype;
        let start = group_bytes(dtype, range.start - piece.first_element)?;
        let end = group_bytes(dtype, range.end - piece.first_element)?;
        let range = u32::try_from(start).ok().zip(u32::try_from(end).ok());
        let (start, end) = range.ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                format!("piece of tensor \"{}\" is too large", self.tensor.label),
            )
        })?;
        Ok(start..end)
    }

    /// XORs what was decoded of a delta with the same range of its base, and that with its own.
    fn on_base(
        &self,
        hash: &ChunkHash,
        (mut raw, mut base): Decoded,
        range: Range<u32>,
    ) -> Result<Vec<u8>> {
        for _ in 0..MAX_DELTA_DEPTH {
            let Some(hash) = base else { return Ok(raw) };
            let (base_raw, next) = self.stored(&hash, range.clone())?;
            xor_in_place(&mut raw, &base_raw);
            base = next;
        }
        match base {
            None => Ok(raw),
            Some(_) => Err(Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                format!(
                    "chunk {hash} of tensor \"{}\" is a delta of too many deltas",
                    self.tensor.label
                ),
            )),
        }
    }

    fn stored(&self, hash: &ChunkHash, range: Range<u32>) -> Result<Decoded> {
        let mut found = None;
        self.store.query(
            "SELECT chunk FROM @store@.tensor_chunks WHERE chunk_hash = $1",
            &[bytes(hash.as_bytes())],
            |row| {
                if let Some(chunk) = row.chunk(1)? {
                    found = Some(self.decode(hash, chunk, range.clone())?);
                }
                Ok(())
            },
        )?;
        found.ok_or_else(|| missing_chunk(hash, &self.tensor.label))
    }

    /// Reads the index of a chunk, then the blocks that hold the range.
    fn decode(&self, hash: &ChunkHash, chunk: Toasted<'_>, range: Range<u32>) -> Result<Decoded> {
        let corrupt = |e| corrupt_chunk(hash, &self.tensor.label, e);
        // One TOAST piece holds the header and the index of a chunk of the usual size.
        let mut prefix = chunk.slice(0, 1900);
        let head = ChunkHead::parse(&prefix.bytes()[..prefix.bytes().len().min(PREFIX_BYTES)])
            .map_err(corrupt)?;
        if block_index_len(&head) > prefix.bytes().len() {
            prefix = chunk.slice(0, block_index_len(&head));
        }
        let plan = plan_range(prefix.bytes(), range).map_err(corrupt)?;
        let fetch = plan.fetch();
        let fetched = chunk.slice(fetch.start, fetch.len());
        let mut out = Vec::new();
        let mut decoder = DECODER.take().unwrap_or_default();
        let decoded = decoder.decode_range(&plan, fetched.bytes(), &mut out);
        DECODER.set(Some(decoder));
        decoded.map_err(corrupt)?;
        Ok((out, head.base))
    }
}
