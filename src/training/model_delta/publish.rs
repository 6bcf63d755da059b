//! Writing a model delta, a chunk at a time.

use super::weights;
use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::consistency;
use crate::model::content_hash::content_hash;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::uuid;
use crate::settings;
use crate::store::Store;
use crate::tensor_storage::raw_bytes::{RawBytes, raw_bytes};
use crate::training::checkpoint::WEIGHTS_FILE;
use modelstore_chunk::StoredTensor;
use modelstore_chunk::verify::RecordedFile;
use modelstore_chunk::{Against, ChunkHash, Encoder, Grid, Piece, grid};
use modelstore_formats::model_delta::{ChunkDelta, Manifest, WeightDelta, build_prefix};
use modelstore_formats::safetensors::{LENGTH_BYTES, parse_header};
use std::collections::VecDeque;

/// Encoded chunks kept between determining their lengths and writing them. Chunks beyond this are encoded twice.
const KEPT_BYTES: usize = 64 << 20;

/// The parts of a delta in order: the manifest, the header of the target's file, then one encoded chunk at a time. The
/// manifest comes first and contains the lengths of the chunks, so all are encoded before the first part.
pub struct Publish {
    head: VecDeque<Vec<u8>>,
    /// The first chunks, encoded.
    kept: VecDeque<Vec<u8>>,
    kept_count: usize,
    chunks: Chunks,
}

impl Publish {
    /// Compares the weights and encodes the differences.
    pub fn begin(store: &Store, from: StateDict, to: StateDict) -> Result<Publish> {
        let file = file(store, to)?;
        let header = parse_header(
            file.header.get(LENGTH_BYTES as usize..).unwrap_or_default(),
            file.bytes,
        )?;
        let (mut bases, mut targets) = (weights(store, from)?, weights(store, to)?);
        let (mut listed, mut changed) = (Vec::new(), Vec::new());
        for entry in &header.tensors {
            let tensor = targets.remove(&entry.name).ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_DATA_CORRUPTED,
                    format!("weight \"{}\" of {to} is missing", entry.name),
                )
                .hint(to.verify_hint())
            })?;
            let base = bases
                .remove(&entry.name)
                .filter(|base| base.dtype == tensor.dtype && base.shape == tensor.shape);
            let base_hash = base.as_ref().map(|base| base.content_hash.0);
            let same = base_hash == Some(tensor.content_hash.0);
            if !same {
                changed.push((listed.len(), tensor, base));
            }
            listed.push(WeightDelta {
                name: entry.name.clone(),
                base: base_hash,
                chunks: (!same).then(Vec::new),
            });
        }
        let mut chunks = Chunks::new(store, changed)?;
        let (mut kept, mut kept_bytes, mut all_kept) = (VecDeque::new(), 0, true);
        while let Some((weight, raw_bytes, encoded)) = chunks.next()? {
            if let Some(sizes) = &mut listed[weight].chunks {
                sizes.push(ChunkDelta {
                    raw_bytes,
                    stored_bytes: encoded.len() as u32,
                });
            }
            kept_bytes += encoded.len();
            all_kept &= kept_bytes <= KEPT_BYTES;
            if all_kept {
                kept.push_back(encoded);
            }
        }
        chunks.rewind();
        let (model_name, version) = name(store, to)?;
        let prefix = build_prefix(&Manifest {
            from: *content_hash(store, from)?.as_bytes(),
            to: *content_hash(store, to)?.as_bytes(),
            model_name,
            version,
            file_name: file.name,
            file_bytes: file.bytes,
            blake3: ChunkHash::from_slice(&file.blake3)?.0,
            weights: listed,
        })?;
        Ok(Publish {
            head: VecDeque::from([prefix, file.header]),
            kept_count: kept.len(),
            kept,
            chunks,
        })
    }

    /// Returns the next part, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(part) = self.head.pop_front().or_else(|| self.kept.pop_front()) {
            return Ok(Some(part));
        }
        let skipped = std::mem::take(&mut self.kept_count);
        self.chunks.skip(skipped);
        Ok(self.chunks.next()?.map(|(_, _, encoded)| encoded))
    }
}

/// Encodes the chunks of changed weights in order.
struct Chunks {
    store: Store,
    changed: Vec<Changed>,
    /// The next weight, and the next chunk of it.
    at: (usize, u32),
    open: Option<(RawBytes, Option<RawBytes>)>,
    encoder: Encoder,
    raw: Vec<u8>,
    base: Vec<u8>,
}

/// A weight that differs from the base's.
struct Changed {
    /// Its index in the manifest.
    listed: usize,
    tensor: StoredTensor,
    base: Option<StoredTensor>,
    grid: Grid,
}

impl Chunks {
    fn new(
        store: &Store,
        changed: Vec<(usize, StoredTensor, Option<StoredTensor>)>,
    ) -> Result<Chunks> {
        let changed = changed
            .into_iter()
            .map(|(listed, tensor, base)| {
                let grid = grid(tensor.dtype, &tensor.shape, settings::chunk_bytes())?;
                Ok(Changed {
                    listed,
                    tensor,
                    base,
                    grid,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Chunks {
            store: store.clone(),
            changed,
            at: (0, 0),
            open: None,
            encoder: Encoder::new(),
            raw: Vec::new(),
            base: Vec::new(),
        })
    }

    fn rewind(&mut self) {
        self.at = (0, 0);
        self.open = None;
    }

    /// Returns the next piece, if any is left.
    fn advance(&mut self) -> Option<(usize, Piece)> {
        loop {
            let (weight, chunk) = self.at;
            if let Some(piece) = self.changed.get(weight)?.grid.get(chunk) {
                self.at.1 += 1;
                return Some((weight, piece));
            }
            self.at = (weight + 1, 0);
            self.open = None;
        }
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.advance();
        }
    }

    /// Returns the weight's index in the manifest, the raw length of the next chunk, and the encoded chunk.
    fn next(&mut self) -> Result<Option<(usize, u32, Vec<u8>)>> {
        let Some((weight, piece)) = self.advance() else {
            return Ok(None);
        };
        let changed = &self.changed[weight];
        let (raw, base) = match &mut self.open {
            Some(open) => open,
            None => {
                let base = changed.base.clone();
                let base = base.map(|base| raw_bytes(&self.store, base)).transpose()?;
                let raw = raw_bytes(&self.store, changed.tensor.clone())?;
                self.open.insert((raw, base))
            }
        };
        let (at, len) = (piece.byte_offset, piece.byte_len as usize);
        self.raw.clear();
        raw.read(at, len, &mut self.raw)?;
        self.base.clear();
        let base_hash = match base {
            None => None,
            Some(base) => {
                base.read(at, len, &mut self.base)?;
                Some(ChunkHash::of(&self.base))
            }
        };
        let mut encoded = Vec::new();
        self.encoder.encode_with_base(
            changed.tensor.dtype,
            &self.raw,
            base_hash
                .as_ref()
                .map(|hash| Against::any(&self.base, hash)),
            &mut encoded,
        )?;
        pgrx::check_for_interrupts!();
        Ok(Some((changed.listed, piece.byte_len, encoded)))
    }
}

/// Returns the only file that contains the weights.
fn file(store: &Store, to: StateDict) -> Result<RecordedFile> {
    let mut files = consistency::files(store, to)?;
    if matches!(to, StateDict::Checkpoint(_)) {
        files.retain(|file| file.name == WEIGHTS_FILE);
    }
    match (files.pop(), files.len()) {
        (Some(file), 0) => Ok(file),
        (_, others) => {
            let count = if others == 0 { 0 } else { others + 1 };
            Err(Failure::new(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{to} has {count} safetensors files, not one"),
            )
            .detail("A delta describes exactly one safetensors file."))
        }
    }
}

/// Returns name and version of a model, or of the model of a checkpoint with its step.
fn name(store: &Store, of: StateDict) -> Result<(String, String)> {
    let found = match of {
        StateDict::Model(id) => store.row(
            "SELECT model_name, version FROM @store@.models WHERE model_id = $1",
            &[uuid(id)],
            |row| Ok((row.get(1)?, row.get(2)?)),
        ),
        StateDict::Checkpoint(id) => store.row(
            "SELECT m.model_name, m.version || '-step-' || c.step
             FROM @store@.model_checkpoints c JOIN @store@.models m USING (model_id) WHERE c.checkpoint_id = $1",
            &[uuid(id)],
            |row| Ok((row.get(1)?, row.get(2)?)),
        ),
    }?;
    Ok(found.unwrap_or_default())
}
