//! The raw bytes of a stored tensor, read anywhere.

use crate::chunks::corruption::{corrupt_chunk, corrupted};
use crate::chunks::spi_chunks::fetch_encoded;
use crate::error::Result;
use crate::store::Store;
use crate::tensor::shape::group_bytes;
use crate::tensor_storage::locate::{self, StoredTensor};
use crate::tensor_storage::stream::decode_chain;
use modelstore_chunk::{Buffers, ChunkHash, Decoder};

/// Reads ranges of bytes of one tensor, and keeps the chunk it decoded last: ranges that follow each other decode each
/// chunk once.
pub struct RawBytes {
    store: Store,
    tensor: StoredTensor,
    /// Each piece with where it ends.
    pieces: Vec<(u64, ChunkHash)>,
    decoder: Decoder,
    buffers: Buffers,
    /// The piece that is decoded.
    current: Option<(usize, Vec<u8>)>,
}

impl RawBytes {
    /// Of a tensor.
    pub fn new(store: &Store, tensor: StoredTensor) -> Result<RawBytes> {
        let mut pieces = Vec::new();
        for piece in locate::all_pieces(store, &tensor)? {
            let end = piece.first_element.saturating_add(piece.element_count);
            let bytes = if end >= tensor.shape.elements() {
                tensor.raw_bytes
            } else {
                group_bytes(tensor.dtype, end)? as u64
            };
            pieces.push((bytes, piece.hash));
        }
        Ok(RawBytes {
            store: store.clone(),
            tensor,
            pieces,
            decoder: Decoder::new(),
            buffers: Buffers::new(8, 8 << 20),
            current: None,
        })
    }

    /// Appends `len` bytes from `offset` to `out`.
    pub fn read(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut at = offset;
        let end = offset.saturating_add(len as u64);
        while at < end {
            let piece = self.pieces.partition_point(|(ends, _)| *ends <= at);
            let start = match piece {
                0 => 0,
                _ => self.pieces[piece - 1].0,
            };
            let raw = self.piece(piece)?;
            let from = (at - start) as usize;
            let taken = raw
                .get(from..raw.len().min(from + (end - at) as usize))
                .filter(|taken| !taken.is_empty());
            let Some(taken) = taken else {
                return Err(self.wrong_length());
            };
            out.extend_from_slice(taken);
            at += taken.len() as u64;
            pgrx::check_for_interrupts!();
        }
        Ok(())
    }

    fn piece(&mut self, number: usize) -> Result<&[u8]> {
        if self.current.as_ref().is_none_or(|(at, _)| *at != number) {
            if let Some((_, raw)) = self.current.take() {
                self.buffers.give(raw);
            }
            let Some((_, hash)) = self.pieces.get(number).copied() else {
                return Err(self.wrong_length());
            };
            let label = &self.tensor.label;
            let chain = fetch_encoded(&self.store, &hash, label, &self.buffers)?;
            let raw = decode_chain(&mut self.decoder, &chain, &self.buffers)
                .map_err(|e| corrupt_chunk(&hash, label, e))?;
            let actual = ChunkHash::of(&raw);
            if actual != hash {
                let mismatch = modelstore_chunk::Error::HashMismatch {
                    expected: hash,
                    actual,
                };
                return Err(corrupt_chunk(&hash, label, mismatch));
            }
            self.current = Some((number, raw));
        }
        Ok(self.current.as_ref().map_or(&[], |(_, raw)| raw))
    }

    fn wrong_length(&self) -> crate::error::Failure {
        corrupted(format!(
            "chunks of tensor \"{}\" do not have the {} bytes of its shape",
            self.tensor.label, self.tensor.raw_bytes
        ))
    }
}
