//! Random access to the raw bytes of a stored tensor.

use crate::port::{ChunkStore, Session, StoredPiece, StoredTensor};
use crate::read::Chain;
use crate::{Buffers, ChunkHash, Decoder, Error, ReadError};

/// Reads ranges of bytes of one tensor, and caches the last decoded chunk: sequential reads decode each chunk once.
pub struct RawBytes<S, C> {
    store: S,
    session: C,
    tensor: StoredTensor,
    /// Each piece with its end.
    pieces: Vec<(u64, ChunkHash)>,
    decoder: Decoder,
    buffers: Buffers,
    /// The decoded piece.
    current: Option<(usize, Vec<u8>)>,
}

impl<S: ChunkStore, C: Session<Error = S::Error>> RawBytes<S, C> {
    /// Opens a tensor with all its pieces.
    pub fn new(
        store: S,
        session: C,
        tensor: StoredTensor,
        pieces: &[StoredPiece],
    ) -> Result<RawBytes<S, C>, S::Error> {
        let ends = pieces
            .iter()
            .map(|piece| Ok((tensor.end_of(piece)?, piece.hash)));
        Ok(RawBytes {
            pieces: ends.collect::<Result<_, Error>>()?,
            store,
            session,
            tensor,
            decoder: Decoder::new(),
            buffers: Buffers::for_chunks(),
            current: None,
        })
    }

    /// Appends `len` bytes from `offset` to `out`.
    pub fn read(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), S::Error> {
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
            self.session.check()?;
        }
        Ok(())
    }

    fn piece(&mut self, number: usize) -> Result<&[u8], S::Error> {
        if self.current.as_ref().is_none_or(|(at, _)| *at != number) {
            if let Some((_, raw)) = self.current.take() {
                self.buffers.give(raw);
            }
            let Some((_, hash)) = self.pieces.get(number).copied() else {
                return Err(self.wrong_length());
            };
            let raw = Chain::fetch(&mut self.store, &hash, &self.buffers)
                .and_then(|chain| {
                    chain
                        .decode(&mut self.decoder, &self.buffers, &self.buffers)
                        .map_err(|e| ReadError::Corrupt(hash, e))
                })
                .map_err(|e| e.of(&self.tensor.label))?;
            self.current = Some((number, raw));
        }
        Ok(self.current.as_ref().map_or(&[], |(_, raw)| raw))
    }

    fn wrong_length(&self) -> S::Error {
        Error::ChunksLength {
            label: self.tensor.label.clone(),
            raw_bytes: self.tensor.raw_bytes,
        }
        .into()
    }
}
