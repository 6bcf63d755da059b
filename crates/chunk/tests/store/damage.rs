//! Damage is found, and mended by storing the same again.

use crate::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

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

/// An altered list of pieces is reported as damage, and never reads other bytes.
#[test]
fn changed_lists_of_pieces_are_damage() {
    let tensor = given(DType::F32, &[400_000], Data::Gaussian);
    let all = std::slice::from_ref(&tensor);
    type Change = fn(&mut Vec<modelstore_chunk::PieceInfo>);
    let changes: [(Change, &str); 5] = [
        (|p| p.truncate(2), "pieces have"),
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

/// Columns beside a chunk that do not describe it are damage of the chunk.
#[test]
fn wrong_columns_beside_a_chunk_are_mended() {
    let tensor = given(DType::F32, &[400_000], Data::Gaussian);
    let all = std::slice::from_ref(&tensor);
    type Change = fn(&mut modelstore_chunk::Recorded);
    let changes: [Change; 3] = [
        |r| r.raw_bytes -= 1,
        |r| r.stored_bytes += 1,
        |r| r.base = Some(ChunkHash([7; 32])),
    ];
    for change in changes {
        let mut store = MemoryStore::new();
        write(&mut store, CHUNK, all).expect("stores");
        let (hash, row) = store.chunks.iter_mut().next().expect("a chunk");
        let (hash, right) = (*hash, row.0);
        change(&mut row.0);
        write(&mut store, CHUNK, all).expect("stores");
        assert_eq!(store.replaced, [hash]);
        assert_eq!(store.chunks[&hash].0.raw_bytes, right.raw_bytes);
        assert_eq!(store.chunks[&hash].0.base, right.base);
    }
}
