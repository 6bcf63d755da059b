//! The bytes of an upload whose chunks are stored, as a source: the file once more, in one piece.

use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::import::StoredBody;
use crate::store::Store;
use crate::tensor_storage::stream::ChunkStream;
use modelstore_chunk::ChunkHash;
use modelstore_chunk::read::Wanted;
use std::rc::Rc;

/// A safetensors file of stored chunks.
pub struct Rewound {
    store: Store,
    head: Vec<u8>,
    /// Each piece with its offset in the file, in order.
    pieces: Vec<(u64, ChunkHash)>,
    len: u64,
    /// The piece read last: reading goes forwards in smaller steps.
    last: Option<(u64, Vec<u8>)>,
}

impl Rewound {
    /// Of a body that has been received.
    pub fn new(store: Store, body: StoredBody) -> Rewound {
        let mut pieces = Vec::new();
        for (entry, tensor) in body.header.tensors.iter().zip(&body.tensors) {
            let mut at = body.header.data_offset + entry.start;
            for piece in &tensor.pieces {
                pieces.push((at, piece.hash));
                at += u64::from(piece.piece.byte_len);
            }
        }
        Rewound {
            store,
            len: body.header.file_bytes(),
            head: body.head,
            pieces,
            last: None,
        }
    }

    /// Returns the piece that a byte after the header is in, with its offset.
    fn piece(&mut self, offset: u64) -> Result<&(u64, Vec<u8>)> {
        let after = self.pieces.partition_point(|(start, _)| *start <= offset);
        let found = after.checked_sub(1).and_then(|n| self.pieces.get(n));
        let &(start, hash) = found.ok_or_else(gone)?;
        let raw = match self.last.take() {
            Some((at, raw)) if at == start => raw,
            _ => {
                let of: Rc<str> = "upload".into();
                let figures_of = None;
                let wanted = Wanted {
                    hash,
                    of,
                    figures_of,
                };
                ChunkStream::new(&self.store, [wanted])?
                    .next()?
                    .ok_or_else(gone)?
            }
        };
        Ok(self.last.insert((start, raw)))
    }
}

fn gone() -> Failure {
    Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        "chunks of the upload are missing",
    )
}

impl modelstore_chunk::Source<Failure> for Rewound {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        while out.len() < len {
            let at = offset + out.len() as u64;
            let (start, bytes) = match self.head.get(at as usize..) {
                Some(rest) if !rest.is_empty() => (at, rest),
                _ => {
                    let (start, bytes) = self.piece(at)?;
                    (*start, bytes.as_slice())
                }
            };
            let rest = bytes.get((at - start) as usize..).unwrap_or_default();
            let part = &rest[..rest.len().min(len - out.len())];
            if part.is_empty() {
                return Err(gone());
            }
            out.extend_from_slice(part);
        }
        Ok(())
    }
}
