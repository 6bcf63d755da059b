//! A store in memory, for tests: it follows the rules of the ports, and can be damaged and raced.

use std::collections::{BTreeMap, HashMap};

use modelstore_tensor::{DType, Shape};
use uuid::Uuid;

use crate::port::{
    ChunkStore, EncodedChunk, Identity, NewChunk, NewTensor, Recorded, StoredPiece, TensorStore,
};
use crate::verify::RecordedPiece;
use crate::{ChunkHash, ChunkHead, Error, PieceInfo};

/// A chunk with its columns.
type Row = (Recorded, Vec<u8>);

/// Where another session may intervene in a [`MemoryStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Before chunks are inserted.
    Add,
    /// Before tensors are inserted.
    AddTensors,
}

/// What another session does to the store before a call.
type Other = Box<dyn FnMut(Call, &mut MemoryStore)>;

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore {
    /// Chunks by hash.
    pub chunks: BTreeMap<ChunkHash, Row>,
    /// Tensors with their pieces, by identity.
    pub tensors: BTreeMap<Identity, (Uuid, Vec<PieceInfo>)>,
    /// Hashes of replaced chunks.
    pub replaced: Vec<ChunkHash>,
    /// Hashes passed to [`ChunkStore::add`], in that order.
    pub added: Vec<ChunkHash>,
    /// Another session.
    pub other: Option<Other>,
    keys: u128,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Inserts a chunk unchecked, with its columns.
    pub fn put(&mut self, hash: ChunkHash, encoded: Vec<u8>, raw_bytes: u32, delta_depth: i16) {
        let len = encoded.len() as i32;
        let recorded = Recorded {
            raw_bytes: raw_bytes as i32,
            stored_bytes: len,
            base: ChunkHead::parse(&encoded).ok().and_then(|head| head.base),
            delta_depth,
            actual_bytes: len,
        };
        self.chunks.insert(hash, (recorded, encoded));
    }

    fn let_others_in(&mut self, call: Call) {
        if let Some(mut other) = self.other.take() {
            other(call, self);
            self.other = Some(other);
        }
    }
}

impl ChunkStore for MemoryStore {
    type Error = Error;

    fn lock(&mut self, hashes: &[ChunkHash]) -> Result<BTreeMap<ChunkHash, Recorded>, Error> {
        debug_assert!(
            hashes.is_sorted_by(|a, b| a < b),
            "hashes must be sorted and distinct"
        );
        let found = hashes.iter().filter_map(|hash| {
            let (recorded, _) = self.chunks.get(hash)?;
            Some((*hash, *recorded))
        });
        Ok(found.collect())
    }

    fn bytes_of_deltas(&mut self, hashes: &[ChunkHash]) -> Result<HashMap<ChunkHash, i64>, Error> {
        let mut found = HashMap::new();
        for (recorded, _) in self.chunks.values() {
            if let Some(base) = recorded.base.filter(|base| hashes.contains(base)) {
                *found.entry(base).or_default() += i64::from(recorded.stored_bytes);
            }
        }
        Ok(found)
    }

    fn add(&mut self, chunks: &[NewChunk]) -> Result<Vec<bool>, Error> {
        self.let_others_in(Call::Add);
        let mut new = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            self.added.push(chunk.hash);
            new.push(!self.chunks.contains_key(&chunk.hash));
            if new.last() == Some(&true) {
                self.put(
                    chunk.hash,
                    chunk.encoded.clone(),
                    chunk.raw_bytes,
                    chunk.delta_depth,
                );
            }
        }
        Ok(new)
    }

    fn replace(&mut self, hash: &ChunkHash, encoded: &[u8], raw_bytes: u32) -> Result<(), Error> {
        self.replaced.push(*hash);
        self.put(*hash, encoded.to_vec(), raw_bytes, 0);
        Ok(())
    }

    fn read(&mut self, hash: &ChunkHash, out: &mut Vec<u8>) -> Result<bool, Error> {
        out.clear();
        let found = self.chunks.get(hash);
        if let Some((_, encoded)) = found {
            out.extend_from_slice(encoded);
        }
        Ok(found.is_some())
    }

    fn read_small(&mut self, hashes: &[ChunkHash]) -> Result<HashMap<ChunkHash, Vec<u8>>, Error> {
        let found = hashes.iter().filter_map(|hash| {
            let (_, encoded) = self.chunks.get(hash)?;
            Some((*hash, encoded.clone()))
        });
        Ok(found.collect())
    }

    fn visit(
        &mut self,
        hash: &ChunkHash,
        visit: &mut dyn FnMut(&dyn EncodedChunk),
    ) -> Result<bool, Error> {
        let found = self.chunks.get(hash);
        if let Some((_, encoded)) = found {
            visit(encoded);
        }
        Ok(found.is_some())
    }
}

impl TensorStore for MemoryStore {
    fn lock_tensors(&mut self, identities: &[&Identity]) -> Result<Vec<(Identity, Uuid)>, Error> {
        debug_assert!(
            identities.is_sorted_by(|a, b| a < b),
            "identities must be sorted and distinct"
        );
        let found = identities.iter().filter_map(|identity| {
            let (id, _) = self.tensors.get(*identity)?;
            Some(((*identity).clone(), *id))
        });
        Ok(found.collect())
    }

    fn pieces(
        &mut self,
        tensors: &[(Uuid, DType, &Shape)],
    ) -> Result<Vec<(usize, StoredPiece)>, Error> {
        let mut found = Vec::new();
        for (place, (wanted, dtype, shape)) in tensors.iter().enumerate() {
            for (identity, (id, pieces)) in &self.tensors {
                if id == wanted && identity.dtype == *dtype && identity.dims == shape.dims() {
                    found.extend(pieces.iter().map(|p| (place, p.stored())));
                }
            }
        }
        Ok(found)
    }

    fn recorded_pieces(&mut self, tensors: &[Uuid]) -> Result<Vec<RecordedPiece>, Error> {
        let mut found = Vec::new();
        for (place, wanted) in tensors.iter().enumerate() {
            let tensors = self.tensors.values().filter(|(id, _)| id == wanted);
            let pieces = tensors.flat_map(|(_, pieces)| pieces);
            found.extend(pieces.map(|info| RecordedPiece::new(place, info)));
        }
        Ok(found)
    }

    fn add_tensors(&mut self, tensors: &[NewTensor<'_>]) -> Result<Vec<Option<Uuid>>, Error> {
        self.let_others_in(Call::AddTensors);
        let mut keys = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            for piece in tensor.pieces {
                if !self.chunks.contains_key(&piece.hash) {
                    return Err(Error::Missing(piece.hash));
                }
            }
            let is_new = !self.tensors.contains_key(tensor.identity);
            keys.push(is_new.then(|| {
                self.keys += 1;
                let id = Uuid::from_u128(self.keys);
                let row = (id, tensor.pieces.to_vec());
                self.tensors.insert(tensor.identity.clone(), row);
                id
            }));
        }
        Ok(keys)
    }

    fn not_stored(&self, name: &str) -> Error {
        Error::NotStored(name.to_owned())
    }
}
