//! Hashed pieces are looked up in the store: what it has is checked, the rest is encoded.

use std::collections::{BTreeMap, HashMap};

use super::{Arrived, StreamWriter};
use crate::ChunkHash;
use crate::port::{Recorded, SMALL_CHUNK, TensorStore};
use crate::read::Chain;
use crate::write::bases::bases;
use crate::write::chunks::{JOB_BYTES, JOB_CHUNKS, is_recorded_right};
use crate::write::inserting::{base_with_chain, chain};
use crate::write::task::{Job, Raw, Task};

impl StreamWriter {
    /// Looks the hashed pieces up: those that are there are checked, the others are encoded.
    pub(super) fn look_up<S: TensorStore>(&mut self, store: &mut S) -> Result<(), S::Error> {
        self.hashed_bytes = 0;
        let mut new = BTreeMap::new();
        for arrived in std::mem::take(&mut self.hashed) {
            let hash = arrived.info.hash;
            if self.settled.contains(&hash) || self.working.contains_key(&hash) {
                arrived.raw.give(&self.buffers);
            } else {
                new.entry(hash).or_insert(arrived);
            }
        }
        let hashes: Vec<ChunkHash> = new.keys().copied().collect();
        let present = store.lock(&hashes)?;
        let wanted = self.wanted_bases(
            store,
            new.iter().filter(|(hash, _)| !present.contains_key(*hash)),
        )?;
        let usable = bases(store, wanted.values().copied())?;
        let small: Vec<ChunkHash> = present
            .iter()
            .filter(|(_, r)| is_small(r))
            .map(|(hash, _)| *hash)
            .collect();
        let mut small = match small.as_slice() {
            [] => HashMap::new(),
            small => store.read_small(small)?,
        };
        let (mut job, mut bytes) = (Job::new(), 0);
        for (hash, arrived) in &new {
            let len = arrived.info.piece.byte_len;
            if !job.is_empty() && (bytes + len as usize > JOB_BYTES || job.len() >= JOB_CHUNKS) {
                self.queue.push_back(std::mem::take(&mut job));
                bytes = 0;
            }
            bytes += len as usize;
            let task = match present.get(hash) {
                Some(recorded) => {
                    let stored = match small.remove(hash) {
                        Some(encoded) => Some(Chain::single(*hash, encoded)),
                        None => chain(store, &self.buffers, hash)?,
                    };
                    Task::Check(stored.filter(|chain| is_recorded_right(chain, len, recorded)))
                }
                None => {
                    let base = match wanted.get(hash).and_then(|base| usable.get(base)) {
                        Some(base) => base_with_chain(store, &self.buffers, base)?,
                        None => None,
                    };
                    Task::Encode {
                        dtype: self.dtype(arrived.tensor),
                        raw: Raw::Hashed(arrived.raw.clone()),
                        base,
                    }
                }
            };
            job.push((*hash, task));
        }
        if !job.is_empty() {
            self.queue.push_back(job);
        }
        self.working.extend(new);
        Ok(())
    }

    /// For new chunks, those of the stored tensors that they may be differences to.
    pub(super) fn wanted_bases<'a, S: TensorStore>(
        &mut self,
        store: &mut S,
        new: impl Iterator<Item = (&'a ChunkHash, &'a Arrived)>,
    ) -> Result<HashMap<ChunkHash, ChunkHash>, S::Error> {
        let mut of_tensor = Vec::new();
        let mut unread = BTreeMap::new();
        for (hash, Arrived { tensor, info, .. }) in new {
            let Some(placed) = self.layout.tensors().get(*tensor) else {
                continue;
            };
            let expected = &placed.tensor;
            let Some(id) = expected.base else { continue };
            of_tensor.push((
                hash,
                *tensor,
                (info.piece.first_element, info.piece.element_count),
            ));
            if !self.bases.contains_key(tensor) {
                unread.insert(*tensor, (id, expected.dtype, &expected.shape));
            }
        }
        let (tensors, ids): (Vec<usize>, Vec<_>) = unread.into_iter().unzip();
        if !ids.is_empty() {
            let none = tensors.iter().map(|tensor| (*tensor, HashMap::new()));
            self.bases.extend(none);
            for (at, piece) in store.pieces(&ids)? {
                if let Some(tensor) = tensors.get(at) {
                    let place = (piece.first_element, piece.element_count);
                    self.bases
                        .entry(*tensor)
                        .or_default()
                        .insert(place, piece.hash);
                }
            }
        }
        let mut wanted = HashMap::new();
        for (hash, tensor, place) in &of_tensor {
            let base = self.bases.get(tensor).and_then(|chunks| chunks.get(place));
            if let Some(base) = base.filter(|base| base != hash) {
                wanted.insert(**hash, *base);
            }
        }
        // Tensors come one after the other.
        let last = of_tensor.iter().map(|(_, tensor, _)| *tensor).max();
        self.bases.retain(|tensor, _| Some(*tensor) >= last);
        Ok(wanted)
    }
}

/// Whether a stored chunk is read with others.
fn is_small(recorded: &Recorded) -> bool {
    recorded.base.is_none() && recorded.actual_bytes as usize <= SMALL_CHUNK
}
