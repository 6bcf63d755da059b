//! Reads elements of a stored tensor: only the TOAST pieces of the blocks that contain them.

use crate::chunks::spi_chunks::SpiChunks;
use crate::chunks::spi_tensors::read_piece;
use crate::error::{Failure, Result};
use crate::pg::arguments::uuid;
use crate::store::Store;
use crate::tensor_storage::locate::within;
use modelstore_chunk::read::{ChainReader, Coverage, Gather, Run};
use modelstore_chunk::{Error, ReadError, StoredTensor};
use std::cell::Cell;
use std::ops::Range;

thread_local! {
    /// Kept between calls: creating one faults in more memory than decoding a block uses.
    static READER: Cell<Option<ChainReader>> = const { Cell::new(None) };
}

/// Copies runs of elements to `out`, which they must fill. The runs are ordered by start and lie in `wanted`. One
/// statement finds the pieces and their chunks: for a few rows, the lookup takes longer than the read.
pub fn gather(
    store: &Store,
    tensor: &StoredTensor,
    wanted: Range<u64>,
    runs: impl Iterator<Item = Run>,
    out: &mut [u8],
) -> Result<()> {
    let mut chunks = SpiChunks::new(store);
    let mut reader = READER.take().unwrap_or_default();
    let mut gather = Gather::new(tensor.dtype, runs);
    let mut coverage = Coverage::new(&tensor.label, wanted.clone());
    store.query_in_order(
        &format!(
            "SELECT d.chunk_hash, d.first_element, d.element_count, c.chunk, d.chunk_index
             FROM @store@.tensor_data d LEFT JOIN @store@.tensor_chunks c USING (chunk_hash) WHERE {}",
            within(tensor)
        ),
        &[
            uuid(tensor.id),
            (wanted.start as i64).into(),
            (wanted.end as i64).into(),
        ],
        |row| row.get::<i32>(5),
        |row| {
            let piece = read_piece(row)?;
            coverage.add(&piece)?;
            let chunk = row.chunk(4)?;
            gather.piece(&piece, out, |elements| {
                let range = piece.raw_range(tensor, elements)?;
                match &chunk {
                    Some(chunk) => reader.read_at_hand(&mut chunks, &piece.hash, chunk, range),
                    None => Err(ReadError::Missing(piece.hash)),
                }
                .map_err(|e| e.of(&tensor.label))
            })?;
            pgrx::check_for_interrupts!();
            Ok(())
        },
    )?;
    READER.set(Some(reader));
    coverage.finish()?;
    if gather.is_complete() {
        return Ok(());
    }
    Err(Failure::from(Error::ChunksLength {
        label: tensor.label.clone(),
        raw_bytes: tensor.raw_bytes,
    }))
}
