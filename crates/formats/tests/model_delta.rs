//! The file of a model delta: what is written reads back, and breaking a rule gives the error of that rule.
#![allow(clippy::unwrap_used)]

use modelstore_chunk::{Against, ChunkHash, ChunkHead, Codec, Decoder, Encoder, MAX_CHUNK_BYTES};
use modelstore_formats::model_delta::{
    ChunkDelta, Layout, MAX_OVERHEAD_BYTES, Manifest, PREFIX_BYTES, WeightDelta, build_prefix,
    manifest_len, parse_manifest,
};
use modelstore_formats::safetensors::{
    Header, LENGTH_BYTES, MAX_HEADER_BYTES, MAX_NAME_BYTES, build_header, parse_header,
};
use modelstore_formats::{Error, ErrorKind, Result};
use modelstore_tensor::{DType, Shape};
use proptest::prelude::*;

const GOLDEN: &[u8] = include_bytes!("data/golden.msdelta");

/// A model delta, read as far as it is before the chunks.
#[derive(Debug)]
struct Read {
    manifest: Manifest,
    header: Header,
    header_offset: u64,
    layout: Layout,
}

/// The four steps on a whole file.
fn read(file: &[u8]) -> Result<Read> {
    let file_len = file.len() as u64;
    let length = manifest_len(file, file_len)?;
    let header_offset = PREFIX_BYTES + length;
    let manifest = parse_manifest(&file[PREFIX_BYTES as usize..header_offset as usize])?;
    let json = header_offset + LENGTH_BYTES;
    let length = manifest.header_len(&file[header_offset as usize..], header_offset, file_len)?;
    let header = parse_header(
        &file[json as usize..(json + length) as usize],
        manifest.file_bytes,
    )?;
    let layout = manifest.check(&header, header_offset, file_len)?;
    Ok(Read {
        manifest,
        header,
        header_offset,
        layout,
    })
}

/// A weight of U8: its bytes, and what the base model has under that name.
#[derive(Clone, Debug)]
struct Weight {
    name: String,
    raw: Vec<u8>,
    base: Option<Vec<u8>>,
}

fn weight(name: &str, raw: &[u8], base: Option<&[u8]>) -> Weight {
    Weight {
        name: name.into(),
        raw: raw.to_vec(),
        base: base.map(<[u8]>::to_vec),
    }
}

/// The target's file, as `build_header` orders it.
fn target_file(weights: &[Weight]) -> (Vec<u8>, Vec<u8>, Vec<usize>) {
    let tensors: Vec<_> = weights
        .iter()
        .map(|w| {
            let shape = Shape::new(&[w.raw.len() as u64]).unwrap();
            (w.name.clone(), DType::U8, shape)
        })
        .collect();
    let (header, order) = build_header(&tensors, None).unwrap();
    let mut file = header.clone();
    order.iter().for_each(|&i| file.extend(&weights[i].raw));
    (header, file, order)
}

/// A model delta of these weights in chunks of `piece` bytes, and the target's file.
fn publish(weights: &[Weight], piece: usize) -> (Manifest, Vec<u8>, Vec<u8>) {
    let (header, target, order) = target_file(weights);
    let mut encoder = Encoder::new();
    let (mut data, mut listed) = (Vec::new(), Vec::new());
    for &index in &order {
        let Weight { name, raw, base } = &weights[index];
        let kept = base.as_ref() == Some(raw);
        let mut chunks = Vec::new();
        for (i, raw) in raw.chunks(piece).enumerate() {
            let base = base.as_ref().map(|b| &b[i * piece..i * piece + raw.len()]);
            let hash = base.map(ChunkHash::of);
            let mut chunk = Vec::new();
            encoder
                .encode_with_base(
                    DType::U8,
                    raw,
                    base.zip(hash.as_ref())
                        .map(|(raw, hash)| Against::any(raw, hash)),
                    &mut chunk,
                )
                .unwrap();
            chunks.push(ChunkDelta {
                raw_bytes: raw.len() as u32,
                stored_bytes: chunk.len() as u32,
            });
            // A weight that stays has no chunks; in one that changes, those that stay are short deltas.
            if !kept {
                data.extend(chunk);
            }
        }
        listed.push(WeightDelta {
            name: name.clone(),
            base: base.as_ref().map(|b| ChunkHash::of(b).0),
            chunks: (!kept).then_some(chunks),
        });
    }
    let manifest = Manifest {
        from: ChunkHash::of(b"from").0,
        to: ChunkHash::of(b"to").0,
        model_name: "tiny".into(),
        version: "2".into(),
        file_name: "model.safetensors".into(),
        file_bytes: target.len() as u64,
        blake3: ChunkHash::of(&target).0,
        weights: listed,
    };
    let file = [build_prefix(&manifest).unwrap(), header, data].concat();
    (manifest, file, target)
}

/// What applying a model delta to the weights it was made of gives: the target's file.
fn apply(file: &[u8], weights: &[Weight]) -> Vec<u8> {
    let read = read(file).unwrap();
    let from = read.header_offset as usize;
    let mut out = file[from..from + read.header.data_offset as usize].to_vec();
    let mut decoder = Decoder::new();
    for (weight, &at) in read.manifest.weights.iter().zip(&read.layout.first_chunks) {
        let known = weights.iter().find(|w| w.name == weight.name).unwrap();
        let base = known.base.as_deref();
        let Some(chunks) = &weight.chunks else {
            out.extend(base.unwrap());
            continue;
        };
        let (mut at, mut done) = (at as usize, 0);
        for chunk in chunks {
            let (raw, stored) = (chunk.raw_bytes as usize, chunk.stored_bytes as usize);
            let bytes = &file[at..at + stored];
            let delta = ChunkHead::parse(bytes).unwrap().codec == Codec::Delta;
            let base = base.filter(|_| delta).map(|b| &b[done..done + raw]);
            let mut decoded = Vec::new();
            decoder.decode(bytes, base, &mut decoded).unwrap();
            assert_eq!(decoded.len(), raw);
            out.extend(decoded);
            (at, done) = (at + stored, done + raw);
        }
    }
    out
}

/// One weight that stays, one that changes, one that is new, and one without bytes.
fn small_model() -> Vec<Weight> {
    let base: Vec<u8> = (0..200u8).map(|i| i.wrapping_mul(97)).collect();
    let mut changed = base.clone();
    changed[3] ^= 1;
    vec![
        weight("a.kept", &[1, 2], Some(&[1, 2])),
        weight("b.changed", &changed, Some(&base)),
        weight("c.new", &[7; 4], None),
        weight("d.empty", &[], None),
    ]
}

/// PostgreSQL's rules for messages, and no control character that would end or forge a line of the log.
fn check_message(error: &Error) {
    let message = error.to_string();
    assert!(message.starts_with(|c: char| c.is_lowercase()), "{message}");
    assert!(!message.ends_with('.'), "{message}");
    assert!(message.len() < 700, "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
    if let Some(detail) = error.detail() {
        assert!(detail.ends_with('.') && detail.len() < 1000, "{detail}");
        assert!(!detail.contains(char::is_control), "{detail:?}");
    }
}

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The manifest of no weights, key by key.
fn fields() -> Vec<(&'static str, String)> {
    let hash = format!("\"{HASH}\"");
    vec![
        ("from", hash.clone()),
        ("to", hash.clone()),
        ("model_name", "\"m\"".into()),
        ("version", "\"1\"".into()),
        ("file_name", "\"model.safetensors\"".into()),
        ("file_bytes", "10".into()),
        ("blake3", hash),
        ("weights", "[]".into()),
    ]
}

fn json(fields: &[(&str, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// What is wrong with this JSON.
fn refused_json(json: &str) -> Error {
    let error = parse_manifest(json.as_bytes()).unwrap_err();
    check_message(&error);
    error
}

/// What is wrong with a manifest that has `value` under `key`.
fn refused(key: &str, value: &str) -> ErrorKind {
    let mut fields = fields();
    let field = fields.iter_mut().find(|(k, _)| *k == key).unwrap();
    field.1 = value.into();
    refused_json(&json(&fields)).kind()
}

/// What is wrong with a manifest of this one weight.
fn refused_weight(weight: &str) -> ErrorKind {
    refused("weights", &format!("[{weight}]"))
}

#[test]
fn a_small_model_is_published_and_applied() {
    let weights = small_model();
    let (manifest, file, target) = publish(&weights, 64);
    let read = read(&file).unwrap();
    assert_eq!(read.manifest, manifest);
    assert_eq!(manifest.weights[0].chunks, None);
    assert_eq!(manifest.weights[1].chunks.as_ref().unwrap().len(), 4);
    assert_eq!(manifest.weights[3].chunks, Some(vec![]));
    assert_eq!(apply(&file, &weights), target);
}

#[test]
fn the_golden_file_is_read_and_written_again() {
    let weights = [
        weight("kept", &[1, 2], Some(&[1, 2])),
        weight("new", &[7; 4], None),
    ];
    let (manifest, file, target) = publish(&weights, 64);
    assert_eq!(file, GOLDEN);
    let read = read(GOLDEN).unwrap();
    assert_eq!(read.manifest, manifest);
    assert_eq!(read.layout.first_chunks, [GOLDEN.len() as u64 - 9; 2]);
    assert_eq!(GOLDEN[GOLDEN.len() - 9..], [1, 1, 1, 0, 4, 0, 0, 0, 7]);
    assert_eq!(apply(GOLDEN, &weights), target);
}

#[test]
fn every_truncation_is_an_error() {
    let (_, file, _) = publish(&small_model(), 64);
    for length in 0..file.len() {
        let error = read(&file[..length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Truncated, "at {length}");
        check_message(&error);
    }
    // The manifest cut, with a length that says so.
    let length = manifest_len(&file, file.len() as u64).unwrap() as usize;
    for length in 0..length {
        check_message(&parse_manifest(&file[16..16 + length]).unwrap_err());
    }
}

#[test]
fn every_changed_byte_is_read_or_refused() {
    for at in 0..GOLDEN.len() {
        for byte in 0..=255 {
            let mut changed = GOLDEN.to_vec();
            changed[at] = byte;
            if let Err(error) = read(&changed) {
                check_message(&error);
            }
        }
    }
}

#[test]
fn nothing_stands_behind_the_chunks() {
    let (_, mut file, _) = publish(&small_model(), 64);
    file.push(0);
    let error = read(&file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TrailingBytes);
    assert!(error.to_string().starts_with("model delta has 1 bytes"));
}

#[test]
fn the_prefix_is_checked_before_the_manifest_is_read() {
    let prefix = |magic: &[u8; 7], version: u8, length: u64| {
        let mut out = magic.to_vec();
        out.push(version);
        out.extend(length.to_le_bytes());
        let error = manifest_len(&out, u64::MAX);
        error.map_err(|e| (check_message(&e), e.kind()).1)
    };
    assert_eq!(
        prefix(b"MSDELTA", 1, MAX_HEADER_BYTES),
        Ok(MAX_HEADER_BYTES)
    );
    assert_eq!(prefix(b"MSDELTB", 1, 2), Err(ErrorKind::NotAModelDelta));
    for version in [0, 2, b'1', 255] {
        let error = prefix(b"MSDELTA", version, 2);
        assert_eq!(error, Err(ErrorKind::UnknownVersion));
    }
    for length in [MAX_HEADER_BYTES + 1, i64::MAX as u64, u64::MAX] {
        let error = prefix(b"MSDELTA", 1, length);
        assert_eq!(error, Err(ErrorKind::HeaderTooLong));
    }
    // The file may be shorter than what was read of it, and the other way round.
    let short = |prefix: &[u8], file_len| manifest_len(prefix, file_len).unwrap_err().kind();
    assert_eq!(short(&GOLDEN[..15], 1000), ErrorKind::Truncated);
    assert_eq!(short(&GOLDEN[..16], 15), ErrorKind::Truncated);
    assert_eq!(short(&GOLDEN[..16], 16), ErrorKind::Truncated);
}

#[test]
fn the_safetensors_header_lies_in_both_files() {
    let Read {
        manifest,
        header_offset: at,
        ..
    } = read(GOLDEN).unwrap();
    let file_len = GOLDEN.len() as u64;
    let prefix = |length: u64| length.to_le_bytes();
    let kind = |length, at, file_len| {
        let error = manifest.header_len(&prefix(length), at, file_len);
        error.map_err(|e| (check_message(&e), e.kind()).1)
    };
    assert_eq!(kind(2, at, file_len), Ok(2));
    assert_eq!(kind(2, at, at + 7), Err(ErrorKind::Truncated));
    assert_eq!(kind(2, at, at + 9), Err(ErrorKind::Truncated));
    assert_eq!(kind(2, u64::MAX, u64::MAX - 1), Err(ErrorKind::Truncated));
    let beyond = manifest.file_bytes - 7;
    assert_eq!(kind(beyond, at, u64::MAX), Err(ErrorKind::Truncated));
    let longest = MAX_HEADER_BYTES + 1;
    assert_eq!(kind(longest, at, u64::MAX), Err(ErrorKind::HeaderTooLong));
}

#[test]
fn the_manifest_is_an_object() {
    assert!(parse_manifest(json(&fields()).as_bytes()).is_ok());
    assert_eq!(refused_json("").kind(), ErrorKind::NotAnObject);
    assert_eq!(refused_json(" {}").kind(), ErrorKind::NotAnObject);
    assert_eq!(refused_json("[]").kind(), ErrorKind::NotAnObject);
    let behind = json(&fields()) + "x";
    assert_eq!(refused_json(&behind).kind(), ErrorKind::InvalidJson);
    let error = parse_manifest(b"{\"\xff\":1}").unwrap_err();
    assert!(matches!(error, Error::InvalidUtf8 { offset: 2, .. }));
    let deep = format!("{{\"weights\":{}", "[".repeat(1_000_000));
    refused_json(&deep);
}

#[test]
fn each_key_is_there_once_and_no_other() {
    let fields = fields();
    for at in 0..fields.len() {
        let mut fewer = fields.clone();
        let (key, value) = fewer.remove(at);
        let error = refused_json(&json(&fewer));
        assert!(matches!(error, Error::MissingKey { key: k, .. } if k == key));
        let more = [&fields[..], &[(key, value)]].concat();
        let error = refused_json(&json(&more));
        assert!(matches!(error, Error::DuplicateKey { key: k, .. } if k == key));
    }
    let other = [&fields[..], &[("sha256", "1".into())]].concat();
    assert_eq!(refused_json(&json(&other)).kind(), ErrorKind::UnknownKey);
}

#[test]
fn keys_have_their_types() {
    for key in ["from", "to", "blake3", "model_name", "version", "file_name"] {
        for value in ["null", "1", "[]", "{}"] {
            assert_eq!(refused(key, value), ErrorKind::WrongType, "{key} {value}");
        }
    }
    for value in [
        "null",
        "-1",
        "1.0",
        "1e0",
        "18446744073709551616",
        "\"1\"",
        "[1]",
    ] {
        assert_eq!(
            refused("file_bytes", value),
            ErrorKind::WrongType,
            "{value}"
        );
    }
    for value in ["null", "{}", "1", "[null]", "[1]", "[\"a\"]", "[[]]"] {
        assert_eq!(refused("weights", value), ErrorKind::WrongType, "{value}");
    }
}

#[test]
fn hashes_have_64_digits_in_lower_case() {
    let upper = HASH.to_uppercase();
    let (short, long) = (&HASH[1..], format!("{HASH}0"));
    let sign = format!("+{short}");
    let letter = format!("g{short}");
    let wide = format!("é{}", &HASH[2..]);
    for hash in ["", short, &long, &upper, &sign, &letter, &wide] {
        for key in ["from", "to", "blake3"] {
            let kind = refused(key, &format!("\"{hash}\""));
            assert_eq!(kind, ErrorKind::InvalidHash, "{key} {hash}");
        }
        let weight = format!(r#"{{"name":"a","base":"{hash}"}}"#);
        assert_eq!(refused_weight(&weight), ErrorKind::InvalidHash, "{hash}");
    }
}

#[test]
fn texts_say_something() {
    for key in ["model_name", "version", "file_name"] {
        assert_eq!(refused(key, "\"\""), ErrorKind::EmptyText, "{key}");
        let zero = refused(key, "\"a\\u0000\"");
        assert_eq!(zero, ErrorKind::NulCharacter, "{key}");
    }
}

#[test]
fn the_file_stays_in_its_directory() {
    let long = "x".repeat(256);
    for name in ["../a", "a/b", "a\\\\b", "..", ".", "c:a", "a\\nb", &long] {
        let kind = refused("file_name", &format!("\"{name}\""));
        assert_eq!(kind, ErrorKind::InvalidTargetFile, "{name}");
    }
}

#[test]
fn weights_have_names_of_tensors() {
    let named = |name: &str| refused_weight(&format!(r#"{{"name":"{name}","base":null}}"#));
    assert_eq!(named(""), ErrorKind::EmptyName);
    assert_eq!(named("__metadata__"), ErrorKind::ReservedName);
    assert_eq!(named("a\\u0000"), ErrorKind::NulCharacter);
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    assert_eq!(named(&long), ErrorKind::NameTooLong);
    let twice =
        r#"[{"name":"a","base":null},{"name":"b","base":null},{"name":"\u0061","base":null}]"#;
    assert_eq!(refused("weights", twice), ErrorKind::DuplicateKey);
}

#[test]
fn weights_have_their_fields() {
    for (weight, kind) in [
        (r#"{"base":null}"#, ErrorKind::MissingKey),
        (r#"{"name":"a"}"#, ErrorKind::MissingKey),
        (r#"{"name":"a","base":null,"x":1}"#, ErrorKind::UnknownKey),
        (
            r#"{"name":"a","name":"a","base":null}"#,
            ErrorKind::DuplicateKey,
        ),
        (
            r#"{"name":"a","base":null,"base":null}"#,
            ErrorKind::DuplicateKey,
        ),
        (
            r#"{"name":"a","base":null,"chunks":null,"chunks":null}"#,
            ErrorKind::DuplicateKey,
        ),
        (r#"{"name":1,"base":null}"#, ErrorKind::WrongType),
        (r#"{"name":"a","base":1}"#, ErrorKind::WrongType),
    ] {
        assert_eq!(refused_weight(weight), kind, "{weight}");
    }
}

#[test]
fn chunks_are_pairs_of_numbers() {
    let weight = |chunks: &str| format!(r#"{{"chunks":{chunks},"base":null,"name":"a"}}"#);
    for chunks in [
        "1",
        "{}",
        "\"\"",
        "[1]",
        "[null]",
        "[[]]",
        "[[1]]",
        "[[1,1,1]]",
        "[[1,-1]]",
        "[[1,1.0]]",
        "[[1,\"1\"]]",
        "[[1,4294967296]]",
        "[[4294967296,1]]",
        "[{\"raw_bytes\":1,\"stored_bytes\":1}]",
    ] {
        let kind = refused_weight(&weight(chunks));
        assert_eq!(kind, ErrorKind::WrongType, "{chunks}");
    }
    for (chunks, expected) in [("null", None), ("[]", Some(0)), ("[[1,2],[3,4]]", Some(2))] {
        let mut fields = fields();
        fields[7].1 = format!("[{}]", weight(chunks));
        let manifest = parse_manifest(json(&fields).as_bytes()).unwrap();
        let chunks = manifest.weights[0].chunks.as_ref();
        assert_eq!(chunks.map(Vec::len), expected);
    }
}

/// What `check` says of the small model after `change`.
fn checked(change: impl FnOnce(&mut Read, &mut u64)) -> Error {
    let (_, file, _) = publish(&small_model(), 64);
    let mut read = read(&file).unwrap();
    let mut file_len = file.len() as u64;
    change(&mut read, &mut file_len);
    let error = read
        .manifest
        .check(&read.header, read.header_offset, file_len)
        .unwrap_err();
    check_message(&error);
    error
}

fn chunk(read: &mut Read, weight: usize, at: usize) -> &mut ChunkDelta {
    &mut read.manifest.weights[weight].chunks.as_mut().unwrap()[at]
}

#[test]
fn weights_are_the_tensors_in_their_order() {
    let error = checked(|r, _| r.manifest.weights.swap(0, 1));
    assert_eq!(
        error.to_string(),
        "model delta has weight \"b.changed\" in the place of tensor \"a.kept\""
    );
    let error = checked(|r, _| r.manifest.weights[2].name = "x\n".into());
    assert_eq!(error.kind(), ErrorKind::WeightMismatch);
    let error = checked(|r, _| drop(r.manifest.weights.remove(1)));
    assert_eq!(error.kind(), ErrorKind::WeightMismatch);
    let error = checked(|r, _| drop(r.manifest.weights.pop()));
    assert_eq!(error.kind(), ErrorKind::WeightCount);
    let error = checked(|r, _| drop(r.header.tensors.pop()));
    assert_eq!(error.kind(), ErrorKind::WeightCount);
}

#[test]
fn chunks_have_as_many_bytes_as_the_tensor() {
    for change in [
        (|r| chunk(r, 1, 3).raw_bytes -= 1) as fn(&mut Read),
        |r| chunk(r, 1, 3).raw_bytes += 1,
        |r| r.manifest.weights[1].chunks = Some(vec![]),
        |r| {
            let one = ChunkDelta {
                raw_bytes: 1,
                stored_bytes: 9,
            };
            r.manifest.weights[3].chunks = Some(vec![one]);
        },
    ] {
        let error = checked(|r, _| change(r));
        assert_eq!(error.kind(), ErrorKind::WrongLength);
    }
}

#[test]
fn a_weight_comes_from_somewhere() {
    let error = checked(|r, _| r.manifest.weights[0].base = None);
    assert_eq!(error.kind(), ErrorKind::NoChunks);
    let error = checked(|r, _| r.manifest.weights[3].chunks = None);
    assert_eq!(error.kind(), ErrorKind::NoChunks);
}

#[test]
fn chunks_have_the_length_of_chunks() {
    for raw in [0, MAX_CHUNK_BYTES as u32 + 1, u32::MAX] {
        let error = checked(|r, _| chunk(r, 1, 2).raw_bytes = raw);
        assert!(
            matches!(error, Error::RawBytes { chunk: 2, raw_bytes, .. } if raw_bytes == raw),
            "{error}"
        );
    }
    let most = 64 + MAX_OVERHEAD_BYTES as u32;
    for stored in [0, most + 1, u32::MAX] {
        let error = checked(|r, _| chunk(r, 1, 2).stored_bytes = stored);
        assert_eq!(error.kind(), ErrorKind::StoredBytes, "{stored}");
    }
    // The most a chunk may have, and the file as long as that.
    let (_, file, _) = publish(&small_model(), 64);
    let mut read = read(&file).unwrap();
    let had = std::mem::replace(&mut chunk(&mut read, 1, 2).stored_bytes, most);
    let file_len = file.len() as u64 + u64::from(most - had);
    let layout = read
        .manifest
        .check(&read.header, read.header_offset, file_len)
        .unwrap();
    assert!(layout.first_chunks[2] > read.layout.first_chunks[2]);
}

#[test]
fn lengths_add_up_to_both_files() {
    let error = checked(|_, file_len| *file_len += 1);
    assert_eq!(error.kind(), ErrorKind::TrailingBytes);
    let error = checked(|_, file_len| *file_len -= 1);
    assert_eq!(error.kind(), ErrorKind::Truncated);
    let error = checked(|r, _| chunk(r, 2, 0).stored_bytes += 1);
    assert_eq!(error.kind(), ErrorKind::Truncated);
    let error = checked(|r, _| r.header_offset = u64::MAX - 3);
    assert_eq!(error.kind(), ErrorKind::Truncated);
    let error = checked(|r, _| r.manifest.file_bytes += 1);
    assert_eq!(
        error.to_string(),
        "safetensors file has 1 bytes after the last tensor"
    );
    let error = checked(|r, _| r.manifest.file_bytes -= 1);
    assert_eq!(error.kind(), ErrorKind::Truncated);
    assert!(error.to_string().starts_with("safetensors file of"));
}

#[test]
fn what_is_not_read_back_is_not_written() {
    let (manifest, ..) = publish(&small_model(), 64);
    let refused = |change: fn(&mut Manifest)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        build_prefix(&manifest).unwrap_err().kind()
    };
    assert_eq!(refused(|m| m.version.clear()), ErrorKind::EmptyText);
    assert_eq!(
        refused(|m| m.model_name = "\0".into()),
        ErrorKind::NulCharacter
    );
    assert_eq!(
        refused(|m| m.file_name = "a/b".into()),
        ErrorKind::InvalidTargetFile
    );
    assert_eq!(refused(|m| m.weights[1].name.clear()), ErrorKind::EmptyName);
    assert_eq!(
        refused(|m| m.weights[1].name = "__metadata__".into()),
        ErrorKind::ReservedName
    );
    assert_eq!(
        refused(|m| m.weights[1].name = m.weights[0].name.clone()),
        ErrorKind::DuplicateKey
    );
    assert_eq!(
        refused(|m| m.model_name = "x".repeat(MAX_HEADER_BYTES as usize)),
        ErrorKind::HeaderTooLong
    );
}

fn any_weights() -> impl Strategy<Value = Vec<Weight>> {
    let names = prop::collection::btree_set("[a-zé\"\\\\\n.]{1,12}", 0..6);
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    let kind = (bytes, 0..3u8, any::<prop::sample::Index>());
    (names, prop::collection::vec(kind, 6)).prop_map(|(names, kinds)| {
        let pairs = names.into_iter().zip(kinds);
        pairs
            .map(|(name, (raw, kind, at))| {
                let mut base = raw.clone();
                if kind == 1 && !base.is_empty() {
                    let at = at.index(base.len());
                    base[at] ^= 0x40;
                }
                Weight {
                    name,
                    raw,
                    base: (kind < 2).then_some(base),
                }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn what_is_published_is_applied(weights in any_weights(), piece in 1..400usize) {
        let (manifest, file, target) = publish(&weights, piece);
        prop_assert_eq!(&read(&file).unwrap().manifest, &manifest);
        prop_assert_eq!(apply(&file, &weights), target);
    }

    #[test]
    fn any_manifest_is_read_or_refused(text in "\\{(\"(from|weights|name|base|chunks)\":|[\\[\\]{},0-9\"]){0,40}") {
        if let Err(error) = parse_manifest(text.as_bytes()) {
            check_message(&error);
        }
    }
}
