//! Chains of deltas.

use crate::*;

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
    // Four deltas of twelve bytes of changes are a fraction of their base chunk.
    let whole = store.chunks.values().filter(|(r, _)| r.delta_depth == 0);
    assert_eq!(whole.count(), 3, "the chain begins anew at its root");
}

/// Weights of which 1 % change at random with each version: what a version costs does not grow with their number, although
/// only four deltas may follow each other. Measured against a delta on the version before.
#[test]
fn long_histories_find_nearer_bases() {
    const VERSIONS: usize = 240;
    let mut store = MemoryStore::new();
    let mut tensor = given(DType::F32, &[65_536], Data::Gaussian);
    let mut random = Random(11);
    let (mut sizes, mut single) = (Vec::new(), 0);
    for _ in 0..VERSIONS {
        let before = store.chunks.len();
        let id = write(&mut store, CHUNK, std::slice::from_ref(&tensor))
            .expect("stores")
            .tensors[0]
            .id;
        assert_eq!(store.chunks.len(), before + 1);
        let hash = ChunkHash::of(&tensor.raw);
        sizes.push(store.chunks[&hash].0.stored_bytes as usize);
        let base = tensor.raw.clone();
        for _ in 0..655 {
            let byte = 4 * random.below(tensor.raw.len() / 4);
            tensor.raw[byte] ^= random.below(255) as u8 + 1;
            tensor.raw[byte + 1] ^= random.below(255) as u8;
        }
        tensor.base = Some(id);
        let mut delta = Vec::new();
        let encoded = Encoder::new().encode_delta(
            DType::F32,
            &tensor.raw,
            &base,
            &hash,
            base.len(),
            &mut delta,
        );
        assert_eq!(encoded, Ok(true));
        single = single.max(delta.len());
    }
    let mean = |sizes: &[usize]| sizes.iter().sum::<usize>() / sizes.len();
    let (early, late) = (mean(&sizes[..VERSIONS / 2]), mean(&sizes[VERSIONS / 2..]));
    assert!(
        late < 5 * single,
        "a delta takes {single} bytes, a version {late}"
    );
    assert!(
        late < early * 6 / 5,
        "{early} bytes a version became {late}"
    );
}

/// A base of many models has its share of deltas. What differs little from it is stored as a difference nevertheless.
#[test]
fn a_crowded_root_serves_those_that_come_later() {
    let mut store = MemoryStore::new();
    let mut tensor = given(DType::F32, &[65_536], Data::Gaussian);
    let root = tensor.raw.clone();
    let mut random = Random(12);
    let id = |store: &mut MemoryStore, tensor: &Given| {
        let all = std::slice::from_ref(tensor);
        write(store, CHUNK, all).expect("stores").tensors[0].id
    };
    let mut change = |raw: &mut Vec<u8>, elements: usize| {
        for _ in 0..elements {
            let byte = 4 * random.below(raw.len() / 4);
            raw[byte] ^= random.below(255) as u8 + 1;
        }
    };
    let base = id(&mut store, &tensor);
    for _ in 0..60 {
        tensor.raw.clone_from(&root);
        change(&mut tensor.raw, 2500);
        tensor.base = Some(base);
        id(&mut store, &tensor);
    }
    let deltas = |store: &MemoryStore| {
        let of_root = store
            .chunks
            .values()
            .filter(|(r, _)| r.base == Some(ChunkHash::of(&root)));
        of_root.map(|(r, _)| r.stored_bytes).sum::<i32>()
    };
    assert!(deltas(&store) > store.chunks[&ChunkHash::of(&root)].0.stored_bytes);
    // Each step changes more than the one before, so no chunk of the chain has room.
    tensor.raw.clone_from(&root);
    tensor.base = Some(base);
    for step in 1..12 {
        change(&mut tensor.raw, 60 * step);
        tensor.base = Some(id(&mut store, &tensor));
    }
    let roots = store.chunks.values().filter(|(r, _)| r.base.is_none());
    assert_eq!(roots.count(), 1);
}

/// A row that says less of its chain than there is: a delta more on it could not be read.
#[test]
fn a_depth_that_is_too_small_makes_no_chain_too_long() {
    let mut store = MemoryStore::new();
    let mut tensor = given(DType::F32, &[10_000], Data::Gaussian);
    for element in 0..8 {
        let id = write(&mut store, CHUNK, std::slice::from_ref(&tensor))
            .expect("stores")
            .tensors[0]
            .id;
        assert_eq!(read(&mut store, id, &tensor).as_ref(), Ok(&tensor.raw));
        for (recorded, _) in store.chunks.values_mut() {
            recorded.delta_depth = recorded.delta_depth.min(1);
        }
        tensor.base = Some(id);
        tensor.raw[element * 400] ^= 1;
    }
}

/// Chains altered to be too long, or a cycle, end with an error, whole and in part.
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
