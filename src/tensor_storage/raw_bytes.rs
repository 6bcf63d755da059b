//! Random access to the raw bytes of a stored tensor.

use crate::chunks::spi_chunks::SpiChunks;
use crate::error::Result;
use crate::pg::background::Backend;
use crate::store::Store;
use crate::tensor_storage::locate;
use modelstore_chunk::StoredTensor;
use modelstore_chunk::read;

/// A reader of one tensor.
pub type RawBytes = read::RawBytes<SpiChunks, Backend>;

/// Opens a tensor.
pub fn raw_bytes(store: &Store, tensor: StoredTensor) -> Result<RawBytes> {
    let pieces = locate::all_pieces(store, &tensor)?;
    RawBytes::new(SpiChunks::new(store), Backend::silent(), tensor, &pieces)
}
