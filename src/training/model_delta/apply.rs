//! Applies a model delta: rebuilds the target's file, which is imported like any other.

use super::weights;
use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::import::{Imported, import};
use crate::io::Source;
use crate::model::content_hash::content_hash;
use crate::model::files;
use crate::model::models::NewModel;
use crate::model::state_dict::{StateDict, missing_checkpoint};
use crate::pg::arguments::{from_sql_uuid, text, uuid};
use crate::store::Store;
use crate::tensor_storage::raw_bytes::{RawBytes, raw_bytes};
use modelstore_chunk::StoredTensor;
use modelstore_chunk::{ChunkHash, Decoder};
use modelstore_formats::model_delta::{
    Layout, Manifest, PREFIX_BYTES, WeightDelta, manifest_len, parse_manifest,
};
use modelstore_formats::safetensors::{LENGTH_BYTES, parse_header};
use pgrx::datum::Uuid as SqlUuid;
use std::collections::HashMap;
use uuid::Uuid;

/// Creates the target of a delta from `base`. Name and version are those in the delta unless given.
pub fn apply(
    store: &Store,
    base: StateDict,
    delta: &mut dyn Source,
    version: Option<&str>,
    model_name: Option<&str>,
) -> Result<Imported> {
    let head = read_head(delta)?;
    check_base(store, base, &head.manifest)?;
    let parent = match base {
        StateDict::Model(id) => id,
        StateDict::Checkpoint(id) => model_of(store, id)?,
    };
    let published = head.manifest.clone();
    let mut file = Applied::new(store, base, head, delta)?;
    let model = NewModel {
        name: model_name.unwrap_or(&published.model_name),
        version: version.unwrap_or(&published.version),
        parent: Some(parent),
        derivation: Some("delta"),
        inherits_config: true,
        status: "ready",
        ..NewModel::default()
    };
    let imported = import(store, &model, &published.file_name, &mut file)?;
    let recorded = store.row(
        "SELECT blake3 FROM @store@.model_files WHERE model_id = $1 AND file_name = $2",
        &[uuid(imported.model), text(&published.file_name)],
        |row| row.get::<Vec<u8>>(1),
    )?;
    if recorded.as_deref() != Some(&published.blake3[..]) {
        return Err(corrupt(
            "file created from the delta does not match its BLAKE3 hash",
        ));
    }
    files::copy(store, parent, imported.model)?;
    Ok(imported)
}

fn corrupt(message: impl Into<String>) -> Failure {
    Failure::new(Code::ERRCODE_DATA_CORRUPTED, message)
}

/// Everything before the chunks.
struct Head {
    manifest: Manifest,
    layout: Layout,
    /// Length and JSON of the file's header.
    header: Vec<u8>,
}

fn read_head(delta: &mut dyn Source) -> Result<Head> {
    let len = delta.len();
    let mut bytes = Vec::new();
    delta.read_at(0, len.min(PREFIX_BYTES) as usize, &mut bytes)?;
    let json_len = manifest_len(&bytes, len)?;
    delta.read_at(PREFIX_BYTES, json_len as usize, &mut bytes)?;
    let manifest = parse_manifest(&bytes)?;
    let header_at = PREFIX_BYTES + json_len;
    let prefix = (len - header_at).min(LENGTH_BYTES);
    delta.read_at(header_at, prefix as usize, &mut bytes)?;
    let json_len = manifest.header_len(&bytes, header_at, len)?;
    let mut header = Vec::new();
    delta.read_at(header_at, (LENGTH_BYTES + json_len) as usize, &mut header)?;
    let parsed = parse_header(&header[LENGTH_BYTES as usize..], manifest.file_bytes)?;
    let layout = manifest.check(&parsed, header_at, len)?;
    Ok(Head {
        manifest,
        layout,
        header,
    })
}

/// Raises an error unless the base has exactly the weights that the delta was made from.
fn check_base(store: &Store, base: StateDict, manifest: &Manifest) -> Result<()> {
    let actual = content_hash(store, base)?;
    if *actual.as_bytes() == manifest.from {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("{base} is not the base of this delta"),
    )
    .detail(format!(
        "The delta leads from weights with the content hash {} to version \"{}\" of \"{}\".",
        ChunkHash(manifest.from),
        manifest.version,
        manifest.model_name
    ))
    .hint(store.sql("SELECT model_name, version, content_hash FROM @store@.models;")))
}

fn model_of(store: &Store, checkpoint: Uuid) -> Result<Uuid> {
    let model = store.row(
        "SELECT model_id FROM @store@.model_checkpoints WHERE checkpoint_id = $1",
        &[uuid(checkpoint)],
        |row| Ok(from_sql_uuid(row.get::<SqlUuid>(1)?)),
    )?;
    model.ok_or_else(|| missing_checkpoint(store, checkpoint))
}

/// The target's file as a source: its header, unchanged weights from the base, the others from chunks.
struct Applied<'a> {
    store: &'a Store,
    delta: &'a mut dyn Source,
    manifest: Manifest,
    header: Vec<u8>,
    bases: HashMap<String, StoredTensor>,
    /// In the order of the file, without gaps.
    extents: Vec<Extent>,
    /// The base weight read last.
    base: Option<(usize, RawBytes)>,
    /// The chunk decoded last, with the number of its extent.
    chunk: Option<(usize, Vec<u8>)>,
    decoder: Decoder,
}

/// A contiguous range of the file.
struct Extent {
    /// Start and end in the file.
    start: u64,
    end: u64,
    weight: usize,
    /// Its offset in the weight.
    offset: u64,
    /// Offset and size of the encoded chunk in the delta; `None` if the bytes are those of the base.
    chunk: Option<(u64, usize)>,
}

impl<'a> Applied<'a> {
    fn new(
        store: &'a Store,
        base: StateDict,
        head: Head,
        delta: &'a mut dyn Source,
    ) -> Result<Applied<'a>> {
        let bases = weights(store, base)?;
        let mut extents = Vec::new();
        let mut at = head.header.len() as u64;
        for (weight, listed) in head.manifest.weights.iter().enumerate() {
            let mut push = |len: u64, offset: u64, chunk: Option<(u64, usize)>| {
                extents.push(Extent {
                    start: at,
                    end: at + len,
                    weight,
                    offset,
                    chunk,
                });
                at += len;
            };
            match &listed.chunks {
                None => push(base_bytes(&bases, listed)?, 0, None),
                Some(chunks) => {
                    let (mut offset, mut stored_at) = (0, head.layout.first_chunks[weight]);
                    for chunk in chunks {
                        let stored = (stored_at, chunk.stored_bytes as usize);
                        push(u64::from(chunk.raw_bytes), offset, Some(stored));
                        offset += u64::from(chunk.raw_bytes);
                        stored_at += u64::from(chunk.stored_bytes);
                    }
                }
            }
        }
        extents.retain(|extent| extent.end > extent.start);
        Ok(Applied {
            store,
            delta,
            manifest: head.manifest,
            header: head.header,
            bases,
            extents,
            base: None,
            chunk: None,
            decoder: Decoder::new(),
        })
    }

    /// Appends bytes of the base of a weight.
    fn read_base(
        &mut self,
        weight: usize,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if self.base.as_ref().is_none_or(|(at, _)| *at != weight) {
            let name = &self.manifest.weights[weight].name;
            let tensor = self.bases.get(name).ok_or_else(|| {
                corrupt(format!(
                    "delta needs a base of weight \"{name}\", which has none"
                ))
            })?;
            self.base = Some((weight, raw_bytes(self.store, tensor.clone())?));
        }
        match &mut self.base {
            Some((_, base)) => base.read(offset, len, out),
            None => Ok(()),
        }
    }

    /// Decodes a chunk of the delta.
    fn decode(&mut self, number: usize, at: u64, stored: usize) -> Result<Vec<u8>> {
        let extent = &self.extents[number];
        let (weight, offset) = (extent.weight, extent.offset);
        let len = (extent.end - extent.start) as usize;
        let mut encoded = Vec::new();
        self.delta.read_at(at, stored, &mut encoded)?;
        let name = self.manifest.weights[weight].name.clone();
        let head = modelstore_chunk::ChunkHead::parse(&encoded)
            .map_err(|e| Failure::from(e).about(&format!("weight \"{name}\" of the delta")))?;
        if head.raw_len as usize != len {
            return Err(corrupt(format!(
                "chunk of weight \"{name}\" has {} bytes, not {len}",
                head.raw_len
            )));
        }
        let mut base = Vec::new();
        if let Some(expected) = head.base {
            self.read_base(weight, offset, len, &mut base)?;
            if ChunkHash::of(&base) != expected {
                return Err(corrupt(format!(
                    "chunk of weight \"{name}\" is a delta against bytes that differ from those of the base model"
                )));
            }
        }
        let mut raw = Vec::new();
        self.decoder
            .decode(&encoded, head.base.map(|_| base.as_slice()), &mut raw)
            .map_err(|e| Failure::from(e).about(&format!("weight \"{name}\" of the delta")))?;
        Ok(raw)
    }
}

/// Returns the size of an unchanged weight in the base.
fn base_bytes(bases: &HashMap<String, StoredTensor>, weight: &WeightDelta) -> Result<u64> {
    match bases.get(&weight.name) {
        Some(base) if weight.base == Some(base.content_hash.0) => Ok(base.raw_bytes),
        _ => Err(corrupt(format!(
            "weight \"{}\" of the delta does not match that of the base model",
            weight.name
        ))),
    }
}

impl modelstore_chunk::Source<Failure> for Applied<'_> {
    fn len(&self) -> u64 {
        self.manifest.file_bytes
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let mut at = offset;
        let end = offset.saturating_add(len as u64);
        if let Some(header) = usize::try_from(at)
            .ok()
            .and_then(|at| self.header.get(at..))
        {
            let taken = header.len().min(len);
            out.extend_from_slice(&header[..taken]);
            at += taken as u64;
        }
        while at < end {
            let number = self.extents.partition_point(|extent| extent.end <= at);
            let Some(extent) = self.extents.get(number) else {
                return Err(corrupt(
                    "delta ends before the end of the file it describes",
                ));
            };
            let from = at - extent.start;
            let taken = (extent.end.min(end) - at) as usize;
            match extent.chunk {
                None => {
                    let (weight, offset) = (extent.weight, extent.offset + from);
                    self.read_base(weight, offset, taken, out)?;
                }
                Some((stored_at, stored)) => {
                    if self.chunk.as_ref().is_none_or(|(at, _)| *at != number) {
                        self.chunk = Some((number, self.decode(number, stored_at, stored)?));
                    }
                    if let Some((_, raw)) = &self.chunk {
                        out.extend_from_slice(&raw[from as usize..from as usize + taken]);
                    }
                }
            }
            at += taken as u64;
            pgrx::check_for_interrupts!();
        }
        Ok(())
    }
}
