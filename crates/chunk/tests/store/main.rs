//! Writes and reads tensors through the ports, on the store in memory: any tensors, any files, any damage.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod chains;
mod copying;
mod damage;
mod files;
mod races;
mod roundtrip;
mod streaming;

use common::{ALL_DATA, Data, Random, make};
use modelstore_chunk::port::Call;
use modelstore_chunk::read::{Chain, ChainReader, ChunkStream, RawBytes, Wanted};
use modelstore_chunk::verify::{RecordedFile, Verifier, manifest_hash};
use modelstore_chunk::write::{FileHashes, InFile, Incoming, Written, write_tensors};
use modelstore_chunk::{
    Buffers, ChunkHash, ChunkStore, Decoder, Encoder, Error, MAX_DELTA_DEPTH, MIN_CHUNK_BYTES,
    Memory, MemoryStore, ReadError, Source, StoredPiece, StoredTensor, TensorStore, Workers,
};
use modelstore_tensor::{DType, Shape};
use proptest::prelude::*;
use sha2::Digest;
use std::sync::OnceLock;
use uuid::Uuid;

const CHUNK: u64 = MIN_CHUNK_BYTES;

fn session() -> &'static Workers {
    static WORKERS: OnceLock<Workers> = OnceLock::new();
    WORKERS.get_or_init(|| Workers::new(2, || ()).expect("threads"))
}

/// A tensor to store.
#[derive(Clone, Debug)]
struct Given {
    dtype: DType,
    shape: Shape,
    raw: Vec<u8>,
    base: Option<Uuid>,
}

fn given(dtype: DType, dims: &[u64], data: Data) -> Given {
    let shape = Shape::new(dims).expect("a shape");
    let len = shape.byte_len(dtype).expect("a size") as usize;
    let raw = make(data, dtype, len);
    Given {
        dtype,
        shape,
        raw,
        base: None,
    }
}

/// Stores tensors that follow each other in one file, after a header.
fn write(store: &mut MemoryStore, chunk: u64, all: &[Given]) -> Result<Written, Error> {
    let file = file(all);
    write_from(store, chunk, all, &mut Memory(&file))
}

fn file(all: &[Given]) -> Vec<u8> {
    let mut file = b"header".to_vec();
    all.iter().for_each(|t| file.extend_from_slice(&t.raw));
    file
}

fn write_from(
    store: &mut MemoryStore,
    chunk: u64,
    all: &[Given],
    source: &mut dyn Source<Error>,
) -> Result<Written, Error> {
    let mut offset = 6;
    let tensors: Vec<Incoming<'_>> = all
        .iter()
        .map(|t| {
            let at = offset;
            offset += t.raw.len() as u64;
            Incoming {
                file: 0,
                name: "w",
                dtype: t.dtype,
                shape: &t.shape,
                offset: at,
                base: t.base,
            }
        })
        .collect();
    let mut hashes = FileHashes::new();
    hashes.update(b"header");
    let files = vec![InFile { source, hashes }];
    write_tensors(store, &session(), chunk, files, &tensors)
}

fn stored(id: Uuid, given: &Given) -> StoredTensor {
    StoredTensor {
        id,
        dtype: given.dtype,
        shape: given.shape.clone(),
        content_hash: ChunkHash::of(&given.raw),
        raw_bytes: given.raw.len() as u64,
        label: "w".into(),
    }
}

fn pieces(store: &mut MemoryStore, id: Uuid, given: &Given) -> Vec<StoredPiece> {
    let found = store.pieces(&[(id, given.dtype, &given.shape)]);
    found.expect("in memory").into_iter().map(|p| p.1).collect()
}

/// All of a tensor, by the stream of chunks.
fn read(store: &mut MemoryStore, id: Uuid, given: &Given) -> Result<Vec<u8>, Error> {
    let pieces = pieces(store, id, given);
    let wanted = pieces.iter().map(|piece| Wanted {
        hash: piece.hash,
        of: (),
        figures_of: None,
    });
    let mut stream = ChunkStream::new(store, session(), wanted)?;
    let mut all = Vec::new();
    while let Some(chunk) = stream.next_chunk()? {
        let (raw, _) = chunk.raw.map_err(|e| e.of("w"))?;
        all.extend_from_slice(&raw);
        stream.recycle(raw);
    }
    Ok(all)
}

fn problems(store: &mut MemoryStore, tensors: &[StoredTensor]) -> Vec<String> {
    let session = session();
    let mut verifier = Verifier::new(store, &session);
    for tensor in tensors {
        verifier.tensor(tensor).expect("in memory");
    }
    verifier.problems.into_iter().map(|p| p.text).collect()
}

fn any_tensor() -> impl Strategy<Value = Given> {
    let dtypes = prop::sample::select(&[DType::U8, DType::BF16, DType::F32, DType::F64][..]);
    let data = prop::sample::select(ALL_DATA);
    (dtypes, prop::collection::vec(0u64..420, 0..3), data)
        .prop_map(|(dtype, dims, data)| given(dtype, &dims, data))
}
