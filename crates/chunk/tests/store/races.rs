//! Sources and stores that others change in the middle of a write.

use crate::*;

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

/// Another session stores a damaged chunk in the middle of a write: the right bytes replace it.
#[test]
fn a_chunk_that_another_session_has_damaged_is_replaced() {
    let tensor = given(DType::F32, &[400_000], Data::Gaussian);
    let mut store = MemoryStore::new();
    let winner = tensor.clone();
    let mut done = false;
    store.other = Some(Box::new(move |call, store| {
        if call == Call::Add && !done {
            done = true;
            write(store, CHUNK, std::slice::from_ref(&winner)).expect("stores");
            for (_, encoded) in store.chunks.values_mut() {
                let middle = encoded.len() / 2;
                encoded[middle] ^= 1;
            }
        }
    }));
    let id = write(&mut store, CHUNK, std::slice::from_ref(&tensor))
        .expect("stores")
        .tensors[0]
        .id;
    store.other = None;
    assert_eq!(store.replaced.len(), store.chunks.len());
    assert_eq!(read(&mut store, id, &tensor).as_ref(), Ok(&tensor.raw));
}
