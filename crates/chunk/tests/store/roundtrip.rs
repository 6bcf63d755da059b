//! What is written reads back.

use crate::*;

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
        prop_assert_eq!(sha256, <[u8; 32]>::from(sha2::Sha256::digest(&file)));
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
}

/// Only a tensor whose elements are all the same number, or that has none, is constant.
#[test]
fn constant_tensors_are_known() {
    let of = |numbers: &[f32]| Given {
        raw: numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        ..given(DType::F32, &[numbers.len() as u64], Data::Zeros)
    };
    let long = vec![2.0; 150_000];
    let mut broken = long.clone();
    broken[149_999] = 3.0;
    let cases = [
        (of(&[1.0, 1.0]), true),
        (of(&[1.0, 2.0]), false),
        (of(&[1.0, f32::NAN]), false),
        (of(&[f32::NAN, f32::NAN]), false),
        (of(&[]), true),
        (of(&long), true),
        (of(&broken), false),
    ];
    for (tensor, is_constant) in cases {
        let written = write(
            &mut MemoryStore::new(),
            CHUNK,
            std::slice::from_ref(&tensor),
        );
        let raw = &tensor.raw[..tensor.raw.len().min(8)];
        assert_eq!(
            written.expect("stores").tensors[0].is_constant,
            is_constant,
            "{raw:?}"
        );
    }
}
