//! Bytes that arrive in parts, across sessions: what is stored is what a write of the whole stores.

use crate::*;
use modelstore_chunk::PieceInfo;
use modelstore_chunk::write::streaming::{
    Expected, Layout, StreamHashes, StreamWriter, Streamed, content_hash,
};
use modelstore_chunk::write::{Scanned, WrittenTensor, record_tensors};

/// What an upload keeps between its sessions.
#[derive(Default)]
struct Upload {
    done: u64,
    state: Vec<u8>,
    rest: Vec<u8>,
    pieces: Vec<Streamed>,
    new_chunks: u64,
    next_end: Option<u64>,
}

fn expected(all: &[Given]) -> Vec<Expected> {
    all.iter()
        .map(|t| Expected {
            name: "w".into(),
            dtype: t.dtype,
            shape: t.shape.clone(),
            base: t.base,
        })
        .collect()
}

fn writer(all: &[Given], upload: &Upload) -> StreamWriter {
    let layout = Layout::new(expected(all), CHUNK).expect("a layout");
    let hashes = match upload.state.as_slice() {
        [] => StreamHashes::after(b"header"),
        state => StreamHashes::restore(state).expect("a state"),
    };
    StreamWriter::new(&session(), layout.into(), upload.done, hashes).expect("a writer")
}

/// One session: takes parts, stores what is complete, keeps the state.
fn append(
    store: &mut MemoryStore,
    all: &[Given],
    upload: &mut Upload,
    parts: &[&[u8]],
) -> Result<(), Error> {
    let mut writer = writer(all, upload);
    let rest = std::mem::take(&mut upload.rest);
    writer.feed(store, &session(), &rest)?;
    for part in parts {
        writer.feed(store, &session(), part)?;
    }
    let outcome = writer.finish(store, &session())?;
    upload.state = outcome.hashes.save();
    upload.done = outcome.hashes.bytes() - 6;
    upload.rest = outcome.rest;
    upload.next_end = outcome.next_end;
    upload.pieces.extend(outcome.pieces);
    upload.new_chunks += outcome.inserted.chunks;
    Ok(())
}

fn record(store: &mut MemoryStore, all: &[Given], upload: &Upload) -> Vec<WrittenTensor> {
    let scanned: Vec<Scanned> = (0..all.len())
        .map(|tensor| {
            let of = || upload.pieces.iter().filter(|p| p.tensor == tensor);
            let pieces: Vec<PieceInfo> = of().map(|p| p.info.clone()).collect();
            let whole = of().find_map(|p| p.content_hash).or(content_hash(&pieces));
            Scanned {
                content_hash: whole.expect("of a complete tensor"),
                pieces,
            }
        })
        .collect();
    let incoming: Vec<Incoming<'_>> = all
        .iter()
        .map(|t| Incoming {
            file: 0,
            name: "w",
            dtype: t.dtype,
            shape: &t.shape,
            offset: 0,
            base: None,
        })
        .collect();
    record_tensors(store, &session(), &incoming, &scanned).expect("in memory")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However the bytes are cut into parts and sessions, the chunks, the tensors and the hashes are those of a write.
    #[test]
    fn parts_and_sessions_do_not_matter(
        all in prop::collection::vec(any_tensor(), 0..6),
        cuts in prop::collection::vec((0usize..700_000, any::<bool>()), 0..12),
    ) {
        let (mut whole, mut store) = (MemoryStore::new(), MemoryStore::new());
        let written = write(&mut whole, CHUNK, &all).expect("in memory");
        let bytes: Vec<u8> = all.iter().flat_map(|t| t.raw.clone()).collect();
        let mut upload = Upload::default();
        let (mut parts, mut rest): (Vec<&[u8]>, _) = (Vec::new(), bytes.as_slice());
        for (cut, ends) in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            parts.push(part);
            rest = after;
            if ends {
                append(&mut store, &all, &mut upload, &std::mem::take(&mut parts)).expect("in memory");
                let arrived = bytes.len() - rest.len();
                prop_assert_eq!(upload.done as usize + upload.rest.len(), arrived);
                prop_assert!(upload.rest.len() < CHUNK as usize);
                // The piece that waits ends after what has arrived, and within a chunk of what is stored.
                match upload.next_end {
                    Some(end) => prop_assert!(end > arrived as u64 && end - upload.done <= CHUNK),
                    None => prop_assert_eq!(arrived, bytes.len()),
                }
            }
        }
        parts.push(rest);
        append(&mut store, &all, &mut upload, &parts).expect("in memory");
        prop_assert_eq!((upload.done, upload.rest.len()), (bytes.len() as u64, 0));

        let recorded = record(&mut store, &all, &upload);
        let hashes = |tensors: &[WrittenTensor]| -> Vec<_> {
            tensors.iter().map(|t| (t.content_hash, t.chunks.clone(), t.is_constant)).collect()
        };
        prop_assert_eq!(hashes(&recorded), hashes(&written.tensors));
        prop_assert_eq!(&store.chunks, &whole.chunks);
        prop_assert_eq!(upload.new_chunks, written.new_chunks);
        let file = StreamHashes::restore(&upload.state).expect("a state").file().finish();
        let [of_write] = <[FileHashes; 1]>::try_from(written.files).ok().expect("one file");
        prop_assert_eq!(file, of_write.finish());
        for (tensor, given) in recorded.iter().zip(&all) {
            prop_assert_eq!(&read(&mut store, tensor.id, given).expect("stored"), &given.raw);
        }
    }

    /// A state that somebody changed is refused or hashes something, and never panics.
    #[test]
    fn any_state(state in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Some(hashes) = StreamHashes::restore(&state) {
            hashes.file().finish();
        }
    }
}

#[test]
fn damaged_chunks_are_mended_and_those_of_others_checked() {
    let tensor = given(DType::F32, &[300_000], Data::Gaussian);
    let all = [tensor.clone()];
    let mut store = MemoryStore::new();
    write(&mut store, CHUNK, &all).expect("in memory");
    let good = store.chunks.clone();
    for (_, encoded) in store.chunks.values_mut() {
        let middle = encoded.len() / 2;
        encoded[middle] ^= 1;
    }
    let mut upload = Upload::default();
    append(&mut store, &all, &mut upload, &[&tensor.raw]).expect("in memory");
    assert_eq!((upload.new_chunks, store.chunks == good), (0, true));
    for (recorded, _) in store.chunks.values_mut() {
        recorded.raw_bytes += 1;
    }
    append(&mut store, &all, &mut Upload::default(), &[&tensor.raw]).expect("in memory");
    assert!(store.chunks == good, "columns that do not fit are mended");

    // Another session inserts damaged chunks under the hashes just before this one does.
    let mut store = MemoryStore::new();
    let (damaged, mut done) = (good.clone(), false);
    store.other = Some(Box::new(move |call, store| {
        if call == Call::Add && !done {
            done = true;
            for (hash, (recorded, encoded)) in &damaged {
                let mut encoded = encoded.clone();
                let middle = encoded.len() / 2;
                encoded[middle] ^= 1;
                store.chunks.insert(*hash, (*recorded, encoded));
            }
        }
    }));
    let mut upload = Upload::default();
    append(&mut store, &all, &mut upload, &[&tensor.raw]).expect("in memory");
    store.other = None;
    let recorded = record(&mut store, &all, &upload);
    assert_eq!(
        read(&mut store, recorded[0].id, &tensor).expect("mended"),
        tensor.raw
    );
}

#[test]
fn pieces_are_stored_as_differences_to_those_of_the_base() {
    let first = given(DType::F32, &[300_000], Data::Gaussian);
    let mut store = MemoryStore::new();
    let base = write(&mut store, CHUNK, std::slice::from_ref(&first)).expect("in memory");
    let mut second = first.clone();
    second.base = Some(base.tensors[0].id);
    (0..second.raw.len())
        .step_by(5000)
        .for_each(|i| second.raw[i] ^= 1);
    let mut upload = Upload::default();
    append(
        &mut store,
        std::slice::from_ref(&second),
        &mut upload,
        &[&second.raw],
    )
    .expect("in memory");
    let recorded = record(&mut store, std::slice::from_ref(&second), &upload);
    assert!(
        recorded[0]
            .chunks
            .iter()
            .all(|hash| store.chunks[hash].0.base.is_some())
    );
    assert_eq!(
        read(&mut store, recorded[0].id, &second).expect("stored"),
        second.raw
    );
}

#[test]
fn more_bytes_than_tensors_and_places_where_nothing_begins() {
    let all = [given(DType::U8, &[1000], Data::Gaussian)];
    let mut store = MemoryStore::new();
    let mut writer = writer(&all, &Upload::default());
    let bytes = vec![1; 1001];
    let error = writer.feed(&mut store, &session(), &bytes).unwrap_err();
    assert_eq!(error, Error::TooManyBytes(1));
    let layout = Layout::new(expected(&all), CHUNK).expect("a layout");
    let made = StreamWriter::new(&session(), layout.into(), 5, StreamHashes::default());
    assert_eq!(made.err(), Some(Error::StreamPosition(5)));
}
