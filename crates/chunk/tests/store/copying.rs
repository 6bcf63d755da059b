//! Copies from one store to another.

use crate::*;
use modelstore_chunk::write::copy_tensors;

/// Versions of a tensor, each stored as a difference to the one before.
fn versions(store: &mut MemoryStore, count: usize) -> Vec<(Uuid, Given)> {
    let mut tensor = given(DType::F32, &[150_000], Data::Gaussian);
    let mut random = Random(11);
    let mut all = Vec::new();
    for _ in 0..count {
        let written = write(store, CHUNK, std::slice::from_ref(&tensor)).expect("stores");
        all.push((written.tensors[0].id, tensor.clone()));
        tensor.base = Some(written.tensors[0].id);
        for chunk in tensor.raw.chunks_mut(CHUNK as usize) {
            let byte = random.below(chunk.len());
            chunk[byte] ^= 1;
        }
    }
    all
}

fn copy(
    from: &mut MemoryStore,
    to: &mut MemoryStore,
    all: &[(Uuid, Given)],
) -> Result<Written, Error> {
    let tensors: Vec<StoredTensor> = all.iter().map(|(id, given)| stored(*id, given)).collect();
    copy_tensors(from, to, &session(), &tensors)
}

fn check(to: &mut MemoryStore, written: &Written, all: &[(Uuid, Given)]) {
    for (tensor, (_, given)) in written.tensors.iter().zip(all) {
        assert_eq!(read(to, tensor.id, given).as_ref(), Ok(&given.raw));
        assert_eq!(problems(to, &[stored(tensor.id, given)]), [""; 0]);
    }
}

fn stored_bytes(store: &MemoryStore) -> i64 {
    store
        .chunks
        .values()
        .map(|(r, _)| i64::from(r.stored_bytes))
        .sum()
}

/// Of whole chains nothing is encoded anew, in whatever order their hashes are.
#[test]
fn chains_are_copied_as_they_are() {
    let (mut from, mut to) = (MemoryStore::new(), MemoryStore::new());
    let all = versions(&mut from, 7);
    let written = copy(&mut from, &mut to, &all).expect("copies");
    check(&mut to, &written, &all);
    assert_eq!(to.chunks, from.chunks);
    assert_eq!(written.new_chunks, from.chunks.len() as u64);
    assert_eq!(written.new_bytes as i64, stored_bytes(&from));
    // Once more: nothing is new.
    let again = copy(&mut from, &mut to, &all).expect("copies");
    assert_eq!((again.new_chunks, again.new_bytes), (0, 0));
    assert_eq!(to.chunks, from.chunks);
}

/// A delta whose base is not copied stands alone in the other store; with its base there it stays a delta.
#[test]
fn a_delta_needs_its_base() {
    let (mut from, mut to) = (MemoryStore::new(), MemoryStore::new());
    let all = versions(&mut from, 2);
    let written = copy(&mut from, &mut to, &all[1..]).expect("copies");
    check(&mut to, &written, &all[1..]);
    assert!(to.chunks.values().all(|(r, _)| r.base.is_none()));
    let mut to = MemoryStore::new();
    copy(&mut from, &mut to, &all[..1]).expect("copies");
    let before = stored_bytes(&to);
    let written = copy(&mut from, &mut to, &all[1..]).expect("copies");
    check(&mut to, &written, &all[1..]);
    assert!(stored_bytes(&to) < before + before / 50, "{before}");
}

/// The base is in the other store as the end of a full chain: the delta on it would be too deep.
#[test]
fn no_chain_becomes_too_deep() {
    let (mut from, mut to) = (MemoryStore::new(), MemoryStore::new());
    let chain = versions(&mut to, MAX_DELTA_DEPTH + 1);
    let (_, last) = &chain[MAX_DELTA_DEPTH];
    let mut base = last.clone();
    base.base = None;
    let id = write(&mut from, CHUNK, std::slice::from_ref(&base))
        .expect("stores")
        .tensors[0]
        .id;
    let mut next = base.clone();
    next.base = Some(id);
    next.raw
        .chunks_mut(CHUNK as usize)
        .for_each(|chunk| chunk[9] ^= 1);
    let next_id = write(&mut from, CHUNK, std::slice::from_ref(&next))
        .expect("stores")
        .tensors[0]
        .id;
    let all = [(next_id, next)];
    let written = copy(&mut from, &mut to, &all).expect("copies");
    check(&mut to, &written, &all);
}

/// The tensor is there, split in another way.
#[test]
fn a_tensor_that_is_there_is_used() {
    let (mut from, mut to) = (MemoryStore::new(), MemoryStore::new());
    let tensor = given(DType::BF16, &[500_000], Data::Gaussian);
    let id = write(&mut from, CHUNK, std::slice::from_ref(&tensor))
        .expect("stores")
        .tensors[0]
        .id;
    let there = write(&mut to, CHUNK * 2, std::slice::from_ref(&tensor)).expect("stores");
    let all = [(id, tensor)];
    let written = copy(&mut from, &mut to, &all).expect("copies");
    assert_eq!(written.new_chunks, 0);
    assert_eq!(written.tensors[0].id, there.tensors[0].id);
    assert_eq!(written.tensors[0].chunks, there.tensors[0].chunks);
    check(&mut to, &written, &all);
}

/// A damaged chunk of the other store is replaced by the right one.
#[test]
fn damage_is_mended() {
    let (mut from, mut to) = (MemoryStore::new(), MemoryStore::new());
    let all = versions(&mut from, 3);
    copy(&mut from, &mut to, &all).expect("copies");
    for hash in from.chunks.keys().copied().collect::<Vec<_>>() {
        let mut damaged = MemoryStore::new();
        copy(&mut from, &mut damaged, &all).expect("copies");
        let (recorded, mut encoded) = damaged.chunks[&hash].clone();
        *encoded.last_mut().expect("bytes") ^= 1;
        damaged.chunks.insert(hash, (recorded, encoded));
        let written = copy(&mut from, &mut damaged, &all).expect("copies");
        assert!(damaged.replaced.contains(&hash));
        check(&mut damaged, &written, &all);
    }
}

/// Nothing of a store whose rows were changed becomes a tensor of the other.
#[test]
fn a_lie_is_an_error() {
    let mut from = MemoryStore::new();
    let all = versions(&mut from, 2);
    let other = given(DType::F32, &[150_000], Data::Random);
    let wrong = write(&mut from, CHUNK, std::slice::from_ref(&other)).expect("stores");
    // The pieces of another tensor under this hash.
    let mut to = MemoryStore::new();
    let mut lie = stored(wrong.tensors[0].id, &other);
    lie.content_hash = ChunkHash::of(&all[0].1.raw);
    let got = copy_tensors(&mut from, &mut to, &session(), &[lie]);
    assert_eq!(got.err(), Some(Error::DamagedTensor("w".into())));
    assert!(to.tensors.is_empty() && to.chunks.is_empty());
    // A chunk with other bytes than its hash says.
    for hash in from.chunks.keys().copied().collect::<Vec<_>>() {
        let mut to = MemoryStore::new();
        let (recorded, encoded) = from.chunks[&hash].clone();
        let mut changed = encoded.clone();
        *changed.last_mut().expect("bytes") ^= 1;
        from.chunks.insert(hash, (recorded, changed));
        let every = [&all[..], &[(wrong.tensors[0].id, other.clone())]].concat();
        let got = copy(&mut from, &mut to, &every);
        assert!(matches!(got.err(), Some(Error::DamagedChunk(_))));
        assert!(to.tensors.is_empty() && to.chunks.is_empty());
        from.chunks.insert(hash, (recorded, encoded));
    }
    // A piece that is not there, or in the wrong place.
    let mut to = MemoryStore::new();
    let identity = from.tensors.iter().find(|(_, (id, _))| *id == all[1].0);
    let identity = identity.expect("is there").0.clone();
    from.tensors.entry(identity).and_modify(|(_, pieces)| {
        pieces.pop();
    });
    assert!(copy(&mut from, &mut to, &all).is_err());
    assert!(to.tensors.is_empty() && to.chunks.is_empty());
}

/// Another session adds a base as the end of a full chain, after it was looked for.
#[test]
fn a_race_over_a_base() {
    let mut from = MemoryStore::new();
    let mut source = versions(&mut from, 2);
    source[1].1.base = None;
    let all = source.clone();
    let mut to = MemoryStore::new();
    let base = all[0].1.clone();
    let mut done = false;
    to.other = Some(Box::new(move |now, store| {
        if now == Call::Add && !done {
            done = true;
            // A chain that ends with the base of our delta.
            let mut chain = vec![base.clone()];
            for step in 0..MAX_DELTA_DEPTH {
                let mut before = chain[step].clone();
                before
                    .raw
                    .chunks_mut(CHUNK as usize)
                    .for_each(|chunk| chunk[step * 40] ^= 1);
                chain.push(before);
            }
            let mut parent = None;
            for tensor in chain.iter_mut().rev() {
                tensor.base = parent;
                let written = write(store, CHUNK, std::slice::from_ref(tensor)).expect("stores");
                parent = Some(written.tensors[0].id);
            }
        }
    }));
    let written = copy(&mut from, &mut to, &all).expect("copies");
    to.other = None;
    check(&mut to, &written, &all);
    let deepest = to.chunks.values().map(|(r, _)| r.delta_depth).max();
    assert_eq!(deepest, Some(MAX_DELTA_DEPTH as i16));
}
