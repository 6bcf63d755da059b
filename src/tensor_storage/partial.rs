//! Reading a range of elements of a stored tensor: only the TOAST pieces of the blocks that hold it.
#![allow(unsafe_code)]

use crate::error::{Code, Failure, Result};
use crate::store::Store;
use crate::store::arguments::bytes;
use crate::store::corruption::{corrupt_chunk, missing_chunk};
use crate::tensor::shape::group_bytes;
use crate::tensor_storage::locate::{StoredPiece, StoredTensor};
use crate::varlena::Toasted;
use modelstore_chunk::{
    ChunkHash, Decoder, MAX_DELTA_DEPTH, PREFIX_BYTES, block_index_len, plan_range,
};
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    /// Kept between calls: making one faults in more memory than decoding a block touches.
    static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new());
}

/// Reads ranges of one tensor.
pub struct PartialReader<'a> {
    store: &'a Store,
    tensor: &'a StoredTensor,
}

impl<'a> PartialReader<'a> {
    /// For one tensor.
    pub fn new(store: &'a Store, tensor: &'a StoredTensor) -> PartialReader<'a> {
        PartialReader { store, tensor }
    }

    /// The bytes of elements `range` of the tensor, which must lie in `piece`.
    pub fn elements(&self, piece: &StoredPiece, range: Range<u64>) -> Result<Vec<u8>> {
        let dtype = self.tensor.dtype;
        let start = group_bytes(dtype, range.start - piece.first_element)?;
        let end = group_bytes(dtype, range.end - piece.first_element)?;
        let range = u32::try_from(start)
            .ok()
            .zip(u32::try_from(end).ok())
            .ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_DATA_CORRUPTED,
                    format!("piece of tensor \"{}\" is too large", self.tensor.label),
                )
            })?;
        self.chunk(&piece.hash, range.0..range.1)
    }

    /// Raw bytes of a chunk. A delta gives the difference, which is XORed with the same range of its base.
    fn chunk(&self, hash: &ChunkHash, range: Range<u32>) -> Result<Vec<u8>> {
        let (mut raw, mut base) = self.stored(hash, range.clone())?;
        for _ in 0..MAX_DELTA_DEPTH {
            let Some(hash) = base else { return Ok(raw) };
            let (base_raw, next) = self.stored(&hash, range.clone())?;
            raw.iter_mut().zip(&base_raw).for_each(|(a, b)| *a ^= b);
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

    fn stored(&self, hash: &ChunkHash, range: Range<u32>) -> Result<(Vec<u8>, Option<ChunkHash>)> {
        let label = &self.tensor.label;
        let mut out = Vec::new();
        let mut base = None;
        let mut found = false;
        self.store.query(
            "SELECT chunk FROM @store@.tensor_chunks WHERE chunk_hash = $1",
            &[bytes(hash.as_bytes())],
            |row| {
                let Some(datum) = row.datum(1)? else {
                    return Ok(());
                };
                // SAFETY: the datum is this row's chunk column and is read before the query ends.
                let chunk = unsafe { Toasted::from_datum(datum) };
                let corrupt = |e| corrupt_chunk(hash, label, e);
                // One TOAST piece holds the header and the index of a chunk of the usual size.
                let mut prefix = chunk.slice(0, 1900);
                let head = modelstore_chunk::ChunkHead::parse(
                    &prefix.bytes()[..prefix.bytes().len().min(PREFIX_BYTES)],
                )
                .map_err(corrupt)?;
                if block_index_len(&head) > prefix.bytes().len() {
                    prefix = chunk.slice(0, block_index_len(&head));
                }
                let plan = plan_range(prefix.bytes(), range.clone()).map_err(corrupt)?;
                let fetch = plan.fetch();
                let fetched = chunk.slice(fetch.start, fetch.len());
                DECODER.with_borrow_mut(|decoder| {
                    decoder
                        .decode_range(&plan, fetched.bytes(), &mut out)
                        .map_err(corrupt)
                })?;
                base = head.base;
                found = true;
                Ok(())
            },
        )?;
        if found {
            Ok((out, base))
        } else {
            Err(missing_chunk(hash, label))
        }
    }
}
