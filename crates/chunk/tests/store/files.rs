//! Verifying files.

use crate::*;

/// A file is checked as a whole, and the tensor that makes it differ is named.
#[test]
fn files_are_verified() {
    let all = [
        given(DType::F32, &[200_000], Data::Gaussian),
        given(DType::BF16, &[100], Data::Ramp),
    ];
    let mut store = MemoryStore::new();
    let written = write(&mut store, CHUNK, &all).expect("stores");
    let bytes = file(&all);
    let chunks = written.tensors.iter().flat_map(|t| &t.chunks);
    let right = RecordedFile {
        name: "model".into(),
        header: b"header".to_vec(),
        bytes: bytes.len() as u64,
        sha256: sha2::Sha256::digest(&bytes).to_vec(),
        blake3: blake3::hash(&bytes).as_bytes().to_vec(),
        manifest_hash: manifest_hash(b"header", chunks).0.to_vec(),
    };
    let tensors: Vec<StoredTensor> = written
        .tensors
        .iter()
        .zip(&all)
        .map(|(t, given)| stored(t.id, given))
        .collect();
    let problems = |store: &mut MemoryStore, file: &RecordedFile, tensors: &[StoredTensor]| {
        let session = session();
        let mut verifier = Verifier::new(store, &session);
        verifier.file(file, tensors).expect("in memory");
        let problems = verifier.problems.into_iter();
        problems.map(|p| (p.object, p.text)).collect::<Vec<_>>()
    };
    let one = |object: &str, text: &str| vec![(object.to_owned(), text.to_owned())];
    assert_eq!(problems(&mut store, &right, &tensors), []);
    type Change = fn(&mut RecordedFile);
    let changes: [(Change, &str); 4] = [
        (|f| f.sha256[0] ^= 1, "file does not match its SHA-256 hash"),
        (|f| f.blake3[0] ^= 1, "file does not match its BLAKE3 hash"),
        (|f| f.bytes += 1, "file has 800206 bytes, not 800207"),
        (|f| f.header[0] ^= 1, "file does not match its BLAKE3 hash"),
    ];
    for (change, text) in changes {
        let mut wrong = right.clone();
        change(&mut wrong);
        assert_eq!(problems(&mut store, &wrong, &tensors), one("model", text));
    }
    // Tensors in another order make another file, though each is right.
    let text = "file does not match its BLAKE3 hash";
    let turned: Vec<StoredTensor> = tensors.iter().rev().cloned().collect();
    assert_eq!(problems(&mut store, &right, &turned), one("model", text));
    // A tensor that is not what it says is named after the file.
    let mut wrong = tensors.clone();
    wrong[1].content_hash.0[0] ^= 1;
    let mut file = right.clone();
    file.blake3[0] ^= 1;
    let mut expected = one("model", text);
    expected.extend(one("w", "tensor does not match its BLAKE3 hash"));
    assert_eq!(problems(&mut store, &file, &wrong), expected);
}
