//! Encoded chunks are inserted, and damaged ones mended.

use std::sync::Arc;

use super::StreamWriter;
use crate::ChunkHash;
use crate::port::TensorStore;
use crate::write::inserting::{is_good, mend};

impl StreamWriter {
    /// Inserts what is encoded, in the order of the hashes.
    pub(super) fn insert<S: TensorStore>(&mut self, store: &mut S) -> Result<(), S::Error> {
        (self.encoded_bytes, self.pinned_bytes) = (0, 0);
        self.pinned.clear();
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.sort_unstable_by_key(|new| new.hash);
        let hashes: Vec<ChunkHash> = encoded.iter().map(|new| new.hash).collect();
        let mut others = Vec::new();
        for new in encoded {
            others.extend(self.inserting.insert(store, &self.buffers, new)?);
        }
        others.extend(self.inserting.flush(store, &self.buffers)?);
        // Of other transactions, which committed them meanwhile.
        for hash in others {
            if !is_good(store, &self.buffers, &hash)? {
                self.mend(store, &hash)?;
            }
        }
        hashes.iter().for_each(|hash| self.settle(hash));
        Ok(())
    }

    pub(super) fn mend<S: TensorStore>(
        &mut self,
        store: &mut S,
        hash: &ChunkHash,
    ) -> Result<(), S::Error> {
        match self.working.get(hash) {
            Some(arrived) => mend(store, hash, self.dtype(arrived.tensor), arrived.raw.bytes()),
            None => Ok(()),
        }
    }

    pub(super) fn pin(&mut self, hash: &ChunkHash) {
        if let Some(arrived) = self.working.get(hash) {
            let buffer = &arrived.raw.buffer;
            if self.pinned.insert(Arc::as_ptr(buffer) as usize) {
                self.pinned_bytes += buffer.len();
            }
        }
    }

    pub(super) fn settle(&mut self, hash: &ChunkHash) {
        if let Some(arrived) = self.working.remove(hash) {
            arrived.raw.give(&self.buffers);
        }
        self.settled.insert(*hash);
    }
}
