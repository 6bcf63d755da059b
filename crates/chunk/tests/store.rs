//! Writing and reading tensors through the ports, on the store in memory: any tensors, any files, any damage.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{ALL_DATA, Data, Random, make};
use modelstore_chunk::port::Call;
use modelstore_chunk::read::{Chain, ChainReader, ChunkStream, RawBytes, Wanted};
use modelstore_chunk::verify::Verifier;
use modelstore_chunk::write::{FileHashes, InFile, Incoming, Written, write_tensors};
use modelstore_chunk::{
    Buffers, ChunkHash, ChunkStore, Decoder, Encoder, Error, MAX_DELTA_DEPTH, MIN_CHUNK_BYTES,
    Memory, MemoryStore, ReadError, Source, StoredPiece, StoredTensor, TensorStore, Workers,
};
use modelstore_tensor::{DType, Shape};
use proptest::prelude::*;
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

/// Stores tensors that lie one behind the other in one file, after a header.
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is stored reads back by every way of reading, is stored once, verifies, and has the hashes of its bytes.
    #[test]
    fn what_is_written_reads_back(all in prop::collection::vec(any_tensor(), 0..6), range in (0.0..1.0f64, 0.0..1.0f64)) {
        let mut store = MemoryStore::new();
        let written = write(&mut store, CHUNK, &all)?;
        let file = file(&all);
        let (sha256, blake3) = written.files.into_iter().next().expect("a file").finish();
        prop_assert_eq!(ChunkHash(blake3), ChunkHash::of(&file));
        prop_assert_eq!(sha256, <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(&file)));
        prop_assert!(store.added.is_sorted_by(|a, b| a < b), "chunks are added in the order of their hashes");
        for (given, tensor) in all.iter().zip(&written.tensors) {
            prop_assert_eq!(tensor.content_hash, ChunkHash::of(&given.raw));
            prop_assert_eq!(&read(&mut store, tensor.id, given)?, &given.raw);
            let pieces = pieces(&mut store, tensor.id, given);
            let hashes: Vec<ChunkHash> = pieces.iter().map(|p| p.hash).collect();
            prop_assert_eq!(&tensor.chunks, &hashes);
            let first = &given.raw.chunks(given.dtype.block_bytes() as usize).next();
            let all_equal = given.raw.chunks(given.dtype.block_bytes() as usize).all(|e| Some(e) == *first);
            prop_assert!(!all_equal || tensor.is_constant || given.dtype != DType::U8);
            let (a, b) = (range.0.min(range.1), range.0.max(range.1));
            let len = given.raw.len() as f64;
            let (from, to) = ((a * len) as usize, (b * len) as usize);
            let tensor = stored(tensor.id, given);
            let mut bytes = RawBytes::new(&mut store, session(), tensor.clone(), &pieces)?;
            let mut out = Vec::new();
            bytes.read(from as u64, to - from, &mut out)?;
            prop_assert_eq!(&out, &given.raw[from..to]);
            for piece in &pieces {
                let elements = piece.first_element + (a * piece.element_count as f64) as u64..piece.end();
                let bytes = piece.raw_range(&tensor, elements.clone())?;
                let out = ChainReader::new().read(&mut store, &piece.hash, bytes);
                let start = given.dtype.group_bytes(elements.start)?;
                prop_assert_eq!(out, Ok(given.raw[start..given.dtype.group_bytes(elements.end)?].to_vec()));
            }
            prop_assert_eq!(problems(&mut store, &[tensor]), Vec::<String>::new());
        }
        // Once more, and cut in another way: nothing new.
        let (chunks, tensors) = (store.chunks.len(), store.tensors.len());
        for size in [CHUNK, CHUNK * 2] {
            let again = write(&mut store, size, &all)?;
            prop_assert_eq!((again.new_chunks, again.new_bytes), (0, 0));
            for (once, again) in written.tensors.iter().zip(&again.tensors) {
                prop_assert_eq!((once.id, &once.chunks), (again.id, &again.chunks));
            }
        }
        prop_assert_eq!((chunks, tensors), (store.chunks.len(), store.tensors.len()));
        prop_assert!(store.replaced.is_empty());
    }

    /// Any chunk damaged in any byte is named by verify, an error of every read, and mended by storing the tensor again.
    #[test]
    fn damage_is_found_and_mended(tensor in any_tensor(), at in 0.0..1.0f64, bit in 0u8..8, which in any::<prop::sample::Index>()) {
        let mut store = MemoryStore::new();
        let id = write(&mut store, CHUNK, std::slice::from_ref(&tensor))?.tensors[0].id;
        prop_assume!(!store.chunks.is_empty());
        let hash = *which.get(&store.chunks.keys().copied().collect::<Vec<_>>());
        let encoded = &mut store.chunks.get_mut(&hash).expect("is there").1;
        let byte = (encoded.len() as f64 * at) as usize;
        encoded[byte] ^= 1 << bit;
        // Some bits say nothing: reserved ones are refused, but a delta's position may be written in two ways.
        let decodes = Chain::fetch(&mut store, &hash, &Buffers::for_chunks())
            .map(|chain| chain.decode(&mut Decoder::new(), &Buffers::for_chunks(), &Buffers::for_chunks()));
        if !matches!(decodes, Ok(Ok(_))) {
            let found = problems(&mut store, &[stored(id, &tensor)]);
            prop_assert!(found.iter().any(|p| p.contains(&hash.to_string())), "{:?}", found);
            prop_assert!(read(&mut store, id, &tensor).is_err());
            let again = write(&mut store, CHUNK, std::slice::from_ref(&tensor))?;
            prop_assert_eq!((again.new_chunks, store.replaced.as_slice()), (0, &[hash][..]));
        }
        prop_assert_eq!(read(&mut store, id, &tensor)?, tensor.raw);
    }
}

/// A tensor, changed in a few elements many times, each stored as a difference to the one before.
#[test]
fn chains_are_no_deeper_than_they_may_be() {
    let mut store = MemoryStore::new();
    let mut tensor = given(DType::F32, &[150_000], Data::Gaussian);
    let mut random = Random(7);
    for version in 0..12 {
        let id = write(&mut store, CHUNK, std::slice::from_ref(&tensor))
            .expect("stores")
            .tensors[0]
            .id;
        assert_eq!(read(&mut store, id, &tensor).as_ref(), Ok(&tensor.raw));
        assert_eq!(problems(&mut store, &[stored(id, &tensor)]), [""; 0]);
        let depths: Vec<i16> = store.chunks.values().map(|(r, _)| r.delta_depth).collect();
        let deepest = depths.into_iter().max().expect("chunks");
        assert_eq!(
            deepest,
            (version as i16).min(MAX_DELTA_DEPTH as i16),
            "version {version}"
        );
        tensor.base = Some(id);
        // In every chunk, so that each has a chain.
        for chunk in tensor.raw.chunks_mut(CHUNK as usize) {
            let byte = random.below(chunk.len());
            chunk[byte] ^= 1;
        }
    }
    // Four deltas of twelve bytes of changes are a fraction of the chunk they stand on.
    let whole = store.chunks.values().filter(|(r, _)| r.delta_depth == 0);
    assert_eq!(whole.count(), 3, "the chain begins anew at its root");
}

/// Chains that somebody has made too long, or a circle, end with an error, whole and in part.
#[test]
fn endless_chains_are_errors() {
    let (mut store, mut encoder) = (MemoryStore::new(), Encoder::new());
    let mut raws: Vec<Vec<u8>> = vec![given(DType::F32, &[10_000], Data::Gaussian).raw];
    for i in 0..=MAX_DELTA_DEPTH {
        let mut raw = raws[i].clone();
        raw[i * 400] ^= 1;
        raws.push(raw);
    }
    for (i, raw) in raws.iter().enumerate() {
        let (hash, mut out) = (ChunkHash::of(raw), Vec::new());
        match i.checked_sub(1) {
            None => drop(encoder.encode(DType::F32, raw, &mut out).expect("encodes")),
            Some(i) => {
                let base = ChunkHash::of(&raws[i]);
                let done = encoder.encode_delta(DType::F32, raw, &raws[i], &base, 20_000, &mut out);
                assert_eq!(done, Ok(true));
            }
        }
        store.put(hash, out, raw.len() as u32, i as i16);
    }
    let read_both = |store: &mut MemoryStore, hash: &ChunkHash| {
        let buffers = Buffers::for_chunks();
        let whole = Chain::fetch(store, hash, &buffers).and_then(|chain| {
            chain
                .decode(&mut Decoder::new(), &buffers, &buffers)
                .map_err(|e| ReadError::Corrupt(*hash, e))
        });
        let part = ChainReader::new().read(store, hash, 400..800);
        (whole, part)
    };
    let deepest = ChunkHash::of(&raws[MAX_DELTA_DEPTH]);
    let (whole, part) = read_both(&mut store, &deepest);
    assert_eq!(whole.as_ref(), Ok(&raws[MAX_DELTA_DEPTH]));
    assert_eq!(part, Ok(raws[MAX_DELTA_DEPTH][400..800].to_vec()));
    let too_deep = ChunkHash::of(&raws[MAX_DELTA_DEPTH + 1]);
    let error = ReadError::Corrupt(too_deep, Error::DeltaTooDeep(too_deep));
    assert_eq!(
        read_both(&mut store, &too_deep),
        (Err(error.clone()), Err(error))
    );
    // A chunk put in place of its own base: a circle of one.
    let (last, base) = (ChunkHash::of(&raws[2]), ChunkHash::of(&raws[1]));
    let mut encoded = Vec::new();
    assert_eq!(store.read(&last, &mut encoded), Ok(true));
    store.put(base, encoded, 40_000, 1);
    let error = ReadError::Corrupt(base, Error::DeltaCycle(base));
    assert_eq!(
        read_both(&mut store, &last),
        (Err(error.clone()), Err(error))
    );
    store.chunks.remove(&base);
    let error = ReadError::Missing(base);
    assert_eq!(
        read_both(&mut store, &last),
        (Err(error.clone()), Err(error))
    );
}

/// A source that is changed between the passes stores no bytes under the hash of others.
#[test]
fn a_source_that_changes_is_an_error() {
    struct Changing<'a>(Memory<'a>, u64, bool);
    impl Source<Error> for Changing<'_> {
        fn len(&self) -> u64 {
            Source::<Error>::len(&self.0)
        }
        fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<(), Error> {
            Source::<Error>::read_at(&mut self.0, offset, len, out)?;
            let has = offset <= self.1 && self.1 < offset + len as u64;
            if has && self.2 {
                out[(self.1 - offset) as usize] ^= 1;
            }
            self.2 |= has;
            Ok(())
        }
    }
    let tensor = given(DType::F32, &[400_000], Data::Gaussian);
    let file = file(std::slice::from_ref(&tensor));
    for byte in [6, 100_000, 1_600_005] {
        let mut store = MemoryStore::new();
        let mut source = Changing(Memory(&file), byte, false);
        let got = write_from(
            &mut store,
            CHUNK,
            std::slice::from_ref(&tensor),
            &mut source,
        );
        assert!(matches!(got, Err(Error::SourceChanged(_))), "byte {byte}");
        assert!(store.tensors.is_empty());
        for (hash, (_, encoded)) in &store.chunks {
            let mut raw = Vec::new();
            Decoder::new()
                .decode(encoded, None, &mut raw)
                .expect("decodes");
            assert_eq!(ChunkHash::of(&raw), *hash);
        }
    }
}

/// Another session stores the same tensors, cut in another way, in the middle of a write.
#[test]
fn a_race_is_won_by_whoever_is_first() {
    let tensor = given(DType::F32, &[400_000], Data::Gaussian);
    let first = tensor.clone();
    for (call, size, shares_chunks) in [
        (Call::Add, CHUNK, true),
        (Call::AddTensors, CHUNK * 2, false),
    ] {
        let mut store = MemoryStore::new();
        let (mut done, mut winner) = (false, first.clone());
        winner.base = None;
        store.other = Some(Box::new(move |now, store| {
            if now == call && !done {
                done = true;
                write(store, size, std::slice::from_ref(&winner)).expect("stores");
            }
        }));
        let written = write(&mut store, CHUNK, std::slice::from_ref(&tensor)).expect("stores");
        assert_eq!(store.tensors.len(), 1);
        let (id, _) = *store
            .tensors
            .values()
            .next()
            .map(|(id, p)| (*id, p.len()))
            .as_ref()
            .expect("one");
        assert_eq!(written.tensors[0].id, id);
        let has: Vec<ChunkHash> = pieces(&mut store, id, &tensor)
            .iter()
            .map(|p| p.hash)
            .collect();
        assert_eq!(
            written.tensors[0].chunks, has,
            "the chunks are those that the store has"
        );
        assert_eq!(written.new_chunks == 0, shares_chunks);
        store.other = None;
        assert_eq!(read(&mut store, id, &tensor).as_ref(), Ok(&tensor.raw));
    }
}

/// A list of pieces that somebody has changed is damage, not a way to read other bytes.
#[test]
fn changed_lists_of_pieces_are_damage() {
    let tensor = given(DType::F32, &[400_000], Data::Gaussian);
    let all = std::slice::from_ref(&tensor);
    type Change = fn(&mut Vec<modelstore_chunk::PieceInfo>);
    let changes: [(Change, &str); 5] = [
        (|p| drop(p.pop()), "pieces have"),
        (|p| p.swap(0, 1), "has the index"),
        (|p| p[1].piece.first_element += 1, "begins with element"),
        (|p| p[2].hash = p[1].hash, "BLAKE3"),
        (
            |p| p[0].piece.element_count = u64::from(u32::MAX),
            "begins with element",
        ),
    ];
    for (change, problem) in changes {
        let mut store = MemoryStore::new();
        let id = write(&mut store, CHUNK, all).expect("stores").tensors[0].id;
        let (_, pieces) = store.tensors.values_mut().next().expect("one");
        change(pieces);
        let found = problems(&mut store, &[stored(id, &tensor)]);
        assert!(
            found.iter().any(|p| p.contains(problem)),
            "{problem}: {found:?}"
        );
        let again = write(&mut store, CHUNK, all);
        assert!(matches!(again, Err(Error::DamagedTensor(_))), "{problem}");
    }
}
