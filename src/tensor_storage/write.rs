//! Stores bytes as tensors, and reports progress.

use crate::chunks::spi_chunks::SpiChunks;
use crate::error::{Failure, Result};
use crate::pg::background::Backend;
use crate::pg::progress::Progress;
use crate::settings;
use crate::store::Store;
use modelstore_chunk::write::{
    FileHashes, InFile, Incoming, Scanned, Written, WrittenTensor, raw_bytes, record_tensors,
    write_tensors,
};
use modelstore_chunk::{Memory, TensorStore};
use modelstore_tensor::TensorView;
use uuid::Uuid;

/// Stores the tensors of each file in its order. Files of one transaction must be passed together, so that their chunks
/// are inserted in one order.
pub fn write(
    store: &Store,
    files: Vec<InFile<'_, Failure>>,
    tensors: &[Incoming<'_>],
) -> Result<Written> {
    // Each byte counts once per pass.
    let total = raw_bytes(tensors)?.saturating_mul(2);
    let progress = Progress::begin(store.relation_oid("tensor_chunks"), total);
    write_tensors(
        &mut SpiChunks::new(store),
        &Backend::reporting(progress),
        settings::chunk_bytes(),
        files,
        tensors,
    )
}

/// Adds tensors whose chunks are stored.
pub fn record(
    store: &Store,
    tensors: &[Incoming<'_>],
    scanned: &[Scanned],
) -> Result<Vec<WrittenTensor>> {
    record_tensors(
        &mut SpiChunks::new(store),
        &Backend::silent(),
        tensors,
        scanned,
    )
}

/// Stores one tensor that is a value.
pub fn write_value(
    store: &Store,
    name: &str,
    value: &TensorView<'_>,
    base: Option<Uuid>,
) -> Result<Uuid> {
    let mut source = Memory(value.data());
    let file = InFile {
        source: &mut source,
        hashes: FileHashes::new(),
    };
    let tensor = Incoming {
        file: 0,
        name,
        dtype: value.dtype(),
        shape: value.shape(),
        offset: 0,
        base,
    };
    let written = write(store, vec![file], &[tensor])?;
    let id = written.tensors.first().map(|tensor| tensor.id);
    id.ok_or_else(|| SpiChunks::new(store).not_stored(name))
}
