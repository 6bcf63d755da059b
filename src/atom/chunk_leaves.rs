//! Leaves that are too large for a row: in the chunk store, as pieces of tensors are.

use crate::atom::statement::keys;
use crate::error::Result;
use crate::source::Source;
use crate::store::Store;
use crate::store::arguments::bytes_array;
use crate::store::chunks::{NewChunk, SpiChunks, fetch_encoded};
use crate::store::scratch::in_scratch_memory;
use crate::tensor_storage::insert_chunks::{replace, source_changed};
use crate::tensor_storage::stream::decode_chain;
use modelstore_atom::Key;
use modelstore_chunk::{Buffers, ChunkHash, Decoder, Encoder};
use modelstore_tensor::DType;

/// Rows of a statement.
const BATCH: usize = 1024;

/// A leaf: its hash, its key, where it is in the source, how long it is, and whether its atom is new.
pub type ChunkLeaf = ([u8; 32], Key, u64, u64, bool);

/// Writes the chunks of leaves, in the order of their hashes as every writer of chunks does, and rows for the leaves that
/// are new. Chunks that are there are looked at, and replaced where they are not what their hash says.
pub fn insert(store: &Store, mut leaves: Vec<ChunkLeaf>, source: &mut dyn Source) -> Result<()> {
    leaves.sort_unstable();
    let mut writer = Writer {
        store,
        chunks: SpiChunks::new(store),
        encoder: Encoder::new(),
        decoder: Decoder::new(),
        buffers: Buffers::new(8, 8 << 20),
    };
    for batch in leaves.chunks(BATCH) {
        let hashes: Vec<ChunkHash> = batch.iter().map(|leaf| ChunkHash(leaf.0)).collect();
        let present = in_scratch_memory(|| writer.chunks.lock(&hashes))?;
        for (leaf, hash) in batch.iter().zip(&hashes) {
            in_scratch_memory(|| writer.write(leaf, present.contains_key(hash), source))?;
            pgrx::check_for_interrupts!();
        }
        let new = || batch.iter().filter(|leaf| leaf.4);
        let [h_xy, h_yz, h_zm] = keys(new().map(|leaf| leaf.1));
        store.execute(
            "INSERT INTO @store@.atom_chunks (h_xy, h_yz, h_zm, chunk_hash) SELECT * FROM unnest($1, $2, $3, $4)",
            &[
                h_xy,
                h_yz,
                h_zm,
                bytes_array(new().map(|leaf| leaf.0.to_vec()).collect()),
            ],
        )?;
    }
    Ok(())
}

struct Writer<'a> {
    store: &'a Store,
    chunks: SpiChunks<'a>,
    encoder: Encoder,
    decoder: Decoder,
    buffers: Buffers,
}

impl Writer<'_> {
    fn write(&mut self, leaf: &ChunkLeaf, present: bool, source: &mut dyn Source) -> Result<()> {
        let &(hash, _, offset, len, _) = leaf;
        let hash = ChunkHash(hash);
        if present && self.is_good(&hash) {
            return Ok(());
        }
        let mut raw = self.buffers.take();
        source.read_at(offset, len as usize, &mut raw)?;
        if ChunkHash::of(&raw) != hash {
            return Err(source_changed(&format!(
                "bytes {offset} to {}",
                offset + len
            )));
        }
        if present {
            replace(&mut self.chunks, &hash, DType::U8, &raw)?;
        } else {
            let mut encoded = Vec::new();
            self.encoder.encode(DType::U8, &raw, &mut encoded)?;
            let new = NewChunk {
                hash,
                encoded,
                raw_bytes: raw.len() as u32,
                delta_depth: 0,
            };
            if self.chunks.add(&[new])? == [false] && !self.is_good(&hash) {
                replace(&mut self.chunks, &hash, DType::U8, &raw)?;
            }
        }
        self.buffers.give(raw);
        Ok(())
    }

    fn is_good(&mut self, hash: &ChunkHash) -> bool {
        let Ok(chain) = fetch_encoded(self.store, hash, "", &self.buffers) else {
            return false;
        };
        let decoded = decode_chain(&mut self.decoder, &chain, &self.buffers);
        chain
            .into_iter()
            .for_each(|encoded| self.buffers.give(encoded));
        let Ok(raw) = decoded else {
            return false;
        };
        let good = ChunkHash::of(&raw) == *hash;
        self.buffers.give(raw);
        good
    }
}
