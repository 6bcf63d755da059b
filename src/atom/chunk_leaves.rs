//! Leaves that are too large for a row: in the chunk store, as pieces of tensors are.

use crate::atom::statement::keys;
use crate::error::Result;
use crate::source::Source;
use crate::store::Store;
use crate::store::arguments::bytes_array;
use crate::store::chunks::SpiChunks;
use crate::store::scratch::in_scratch_memory;
use modelstore_atom::Key;
use modelstore_chunk::{ChunkHash, Encoder};
use modelstore_tensor::DType;

/// Rows of a statement.
const BATCH: usize = 1024;

/// A leaf to be written: its hash, its key, where it is in the source and how long it is.
pub type ChunkLeaf = ([u8; 32], Key, u64, u64);

/// Writes new leaves, in the order of their hashes as every writer of chunks does.
pub fn insert(store: &Store, mut leaves: Vec<ChunkLeaf>, source: &mut dyn Source) -> Result<()> {
    leaves.sort_unstable();
    let (mut chunks, mut encoder) = (SpiChunks::new(store), Encoder::new());
    let (mut raw, mut encoded) = (Vec::new(), Vec::new());
    for batch in leaves.chunks(BATCH) {
        for &(hash, _, offset, len) in batch {
            in_scratch_memory(|| {
                source.read_at(offset, len as usize, &mut raw)?;
                encoded.clear();
                encoder.encode(DType::U8, &raw, &mut encoded)?;
                chunks.add(&ChunkHash(hash), &encoded, raw.len() as u32)
            })?;
            pgrx::check_for_interrupts!();
        }
        let [h_xy, h_yz, h_zm] = keys(batch.iter().map(|leaf| leaf.1));
        store.execute(
            "INSERT INTO @store@.atom_chunks (h_xy, h_yz, h_zm, chunk_hash) SELECT * FROM unnest($1, $2, $3, $4)",
            &[
                h_xy,
                h_yz,
                h_zm,
                bytes_array(batch.iter().map(|leaf| leaf.0.to_vec()).collect()),
            ],
        )?;
    }
    Ok(())
}
