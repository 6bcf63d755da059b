//! The hashes of a stream that need all bytes in order, with a state that can be stored.

use super::layout::{Layout, Run};
use crate::write::FileHashes;
use crate::{ChunkHash, ContentHasher};

/// The hashes of a file and of the tensor that is arriving.
#[derive(Clone, Default)]
pub struct StreamHashes {
    file: FileHashes,
    tensor: ContentHasher,
    /// Tensors that are complete since the state was restored, without those of one piece.
    finished: Vec<(usize, ChunkHash)>,
}

impl StreamHashes {
    /// Of a file that begins with these bytes, which belong to no tensor.
    pub fn after(header: &[u8]) -> StreamHashes {
        let mut hashes = StreamHashes::default();
        hashes.file.update(header);
        hashes
    }

    /// The hashes of the file.
    pub fn file(self) -> FileHashes {
        self.file
    }

    /// Bytes of the file seen so far.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Takes the bytes of a run.
    pub(super) fn update(&mut self, layout: &Layout, run: &Run, raw: &[u8]) {
        self.file.update(raw);
        let mut raw = raw;
        for (tensor, piece) in &run.pieces {
            let (bytes, rest) = raw.split_at(raw.len().min(piece.byte_len as usize));
            raw = rest;
            let is_last = layout.is_last(*tensor, piece);
            // A tensor of one piece has the hash of that piece.
            if is_last && piece.index == 0 {
                continue;
            }
            self.tensor.update(bytes);
            if is_last {
                let tensor_hash = std::mem::take(&mut self.tensor).finish();
                self.finished.push((*tensor, tensor_hash));
            }
        }
    }

    pub(super) fn take_finished(&mut self) -> Vec<(usize, ChunkHash)> {
        std::mem::take(&mut self.finished)
    }

    /// The state, to be restored when further bytes come.
    pub fn save(&self) -> Vec<u8> {
        let mut state = Vec::new();
        self.file.save(&mut state);
        self.tensor.save(&mut state);
        state
    }

    /// A stored state; `None` if it is none.
    pub fn restore(mut state: &[u8]) -> Option<StreamHashes> {
        let file = FileHashes::restore(&mut state)?;
        let tensor = ContentHasher::restore(&mut state)?;
        state.is_empty().then_some(StreamHashes {
            file,
            tensor,
            finished: Vec::new(),
        })
    }
}
