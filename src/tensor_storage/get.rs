//! Tensors and slices of tensors as values.

use crate::error::{Code, Failure, Result, or_raise};
use crate::model::arguments::Regmodel;
use crate::pg::arguments::from_sql_uuid;
use crate::store::Store;
use crate::tensor::datum::{MAX_VALUE_BYTES, TensorOut};
use crate::tensor::shape::check_groups;
use crate::tensor_storage::locate;
use crate::tensor_storage::partial::gather;
use crate::tensor_storage::stream::ChunkStream;
use modelstore_chunk::read::Run;
use modelstore_chunk::{ChunkHash, Error, StoredTensor};
use modelstore_tensor::slice;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

#[pg_extern(stable, strict, parallel_restricted, cost = 10000, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn get_tensor(model: Regmodel, weight_name: &str) -> TensorOut {
    or_raise((|| {
        let store = Store::for_reading()?;
        whole(&store, &locate::weight(&store, model.0, weight_name)?)
    })())
}

#[pg_extern(stable, strict, parallel_restricted, cost = 10000, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn reconstruct_tensor(tensor_id: SqlUuid) -> TensorOut {
    or_raise((|| {
        let store = Store::for_reading()?;
        whole(&store, &locate::tensor(&store, from_sql_uuid(tensor_id))?)
    })())
}

/// Decodes every chunk directly into the value and checks it against its hash.
pub fn whole(store: &Store, tensor: &StoredTensor) -> Result<TensorOut> {
    if tensor.raw_bytes > MAX_VALUE_BYTES {
        let name = pgrx::spi::quote_literal(&tensor.label);
        return Err(Failure::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!(
                "tensor \"{}\" of {} bytes is too large for one value",
                tensor.label, tensor.raw_bytes
            ),
        )
        .detail(format!("A value holds at most {MAX_VALUE_BYTES} bytes."))
        .hint(format!(
            "SELECT modelstore.get_tensor_slice(model_id, {name}, '0:10');"
        )));
    }
    let pieces = locate::all_pieces(store, tensor)?;
    let several = pieces.len() > 1;
    let mut stream = ChunkStream::of_tensor(store, tensor, pieces)?;
    let mut out = TensorOut::zeroed(tensor.dtype, &tensor.shape)?;
    let mut rest = out.elements_mut(tensor.shape.rank());
    while let Some(raw) = stream.next()? {
        if raw.len() > rest.len() {
            return Err(wrong_length(tensor));
        }
        let (here, after) = rest.split_at_mut(raw.len());
        here.copy_from_slice(&raw);
        rest = after;
        stream.recycle(raw);
    }
    if !rest.is_empty() {
        return Err(wrong_length(tensor));
    }
    // Each chunk matches its hash; several must also be the right ones in the right order.
    if several && hash_of(out.elements_mut(tensor.shape.rank())) != tensor.content_hash {
        return Err(Error::ContentHash(tensor.label.clone()).into());
    }
    Ok(out)
}

/// Hashes many bytes, with checks for interrupts.
fn hash_of(bytes: &[u8]) -> ChunkHash {
    let mut hasher = blake3::Hasher::new();
    for piece in bytes.chunks(1 << 20) {
        hasher.update(piece);
        pgrx::check_for_interrupts!();
    }
    ChunkHash(*hasher.finalize().as_bytes())
}

fn wrong_length(tensor: &StoredTensor) -> Failure {
    Failure::from(Error::ChunksLength {
        label: tensor.label.clone(),
        raw_bytes: tensor.raw_bytes,
    })
}

#[pg_extern(stable, strict, parallel_restricted, cost = 1000, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn get_tensor_slice(model: Regmodel, weight_name: &str, slice: &str) -> TensorOut {
    or_raise((|| {
        let store = Store::for_reading()?;
        take(
            &store,
            &locate::weight(&store, model.0, weight_name)?,
            slice,
        )
    })())
}

/// Reads only the blocks of chunks that contain the slice.
fn take(store: &Store, tensor: &StoredTensor, text: &str) -> Result<TensorOut> {
    let selection = slice::parse(text)?.resolve(&tensor.shape)?;
    check_groups(tensor.dtype, &selection)?;
    let mut out = TensorOut::zeroed(tensor.dtype, &selection.shape)?;
    let Some((first, end)) = selection.bounds() else {
        return Ok(out);
    };
    let mut to = 0;
    let runs = selection.runs().map(|(start, count)| {
        let run = Run { start, count, to };
        // Whole groups, as checked above.
        to += tensor.dtype.byte_len(count).unwrap_or(0) as usize;
        run
    });
    let elements = out.elements_mut(selection.shape.rank());
    gather(store, tensor, first..end, runs, elements)?;
    Ok(out)
}

// The planner prefers a sequential scan for tables of a few pages, such as those of a store with one model. A few rows
// are looked up by key here, which is faster with the index.
pgrx::extension_sql!(
    "ALTER FUNCTION modelstore.get_tensor_slice(modelstore.regmodel, text, text) SET enable_seqscan = off;",
    name = "get_tensor_slice_by_key",
    requires = [get_tensor_slice]
);
