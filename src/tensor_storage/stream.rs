//! Streams chunks of the store in order, decoded on threads and checked against their hashes.

use crate::chunks::spi_chunks::SpiChunks;
use crate::error::Result;
use crate::pg::background::Backend;
use crate::store::Store;
use modelstore_chunk::StoredTensor;
use modelstore_chunk::read;
use modelstore_chunk::{StoredPiece, read::Wanted};
use std::rc::Rc;

/// A stream of raw bytes, each chunk labelled with the name of its tensor.
pub struct ChunkStream(read::ChunkStream<SpiChunks, Backend, Rc<str>>);

impl ChunkStream {
    /// Streams chunks in the given order, each with the name of its tensor.
    pub fn new(
        store: &Store,
        wanted: impl IntoIterator<Item = Wanted<Rc<str>>>,
    ) -> Result<ChunkStream> {
        let chunks = SpiChunks::new(store);
        read::ChunkStream::new(chunks, Backend::silent(), wanted).map(ChunkStream)
    }

    /// Streams the pieces of one tensor.
    pub fn of_tensor(
        store: &Store,
        tensor: &StoredTensor,
        pieces: Vec<StoredPiece>,
    ) -> Result<ChunkStream> {
        let label: Rc<str> = tensor.label.as_str().into();
        let wanted = pieces.into_iter().map(|piece| Wanted {
            hash: piece.hash,
            of: Rc::clone(&label),
            figures_of: None,
        });
        ChunkStream::new(store, wanted)
    }

    /// Returns the raw bytes of the next chunk; an error if it is missing or does not match its hash.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(chunk) = self.0.next_chunk()? else {
            return Ok(None);
        };
        let (raw, _) = chunk.raw.map_err(|e| e.of(&chunk.of))?;
        Ok(Some(raw))
    }

    /// Reuses the memory of a chunk for a later one.
    pub fn recycle(&self, raw: Vec<u8>) {
        self.0.recycle(raw);
    }
}
