//! Reading the index of a model in several files.
#![allow(clippy::unwrap_used)]

use modelstore_formats::safetensors::{ShardIndex, is_index, is_index_name, parse_index};
use modelstore_formats::{Error, ErrorKind};

const INDEX: &str = r#"{"metadata":{"total_size":12},"weight_map":{
    "b":"model-00002-of-00002.safetensors",
    "a":"model-00001-of-00002.safetensors",
    "c":"model-00001-of-00002.safetensors"}}"#;

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

fn index() -> ShardIndex {
    parse_index(INDEX.as_bytes()).unwrap()
}

fn refused(json: &str) -> Error {
    parse_index(json.as_bytes()).unwrap_err()
}

fn check(shards: &[(&str, &[&str])]) -> Option<ErrorKind> {
    let shards: Vec<(String, Vec<String>)> = shards
        .iter()
        .map(|(f, names)| (f.to_string(), names.iter().map(|n| n.to_string()).collect()))
        .collect();
    index().check(&shards).err().map(|e| e.kind())
}

#[test]
fn an_index_is_read() {
    let index = index();
    assert_eq!(index.files(), [FIRST, SECOND]);
    assert_eq!(index.weight_map["b"], SECOND);
    assert_eq!(index.metadata["total_size"], 12);
    let bare = parse_index(br#"{"weight_map":{},"other":[{}]}"#).unwrap();
    assert!(bare.metadata.is_null() && bare.files().is_empty());
}

#[test]
fn paths_are_refused() {
    for file in [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\\\b",
        "..\\\\x",
        "a..b",
        "c:x",
        "x\\u0000",
        "x\\n",
        &"x".repeat(256),
    ] {
        let error = refused(&format!(r#"{{"weight_map":{{"t":"{file}"}}}}"#));
        assert!(
            matches!(
                error.kind(),
                ErrorKind::InvalidFileName | ErrorKind::NulCharacter
            ),
            "{file} {error}"
        );
        assert!(!error.to_string().contains(char::is_control));
    }
}

#[test]
fn keys_given_twice_are_refused() {
    for json in [
        r#"{"weight_map":{"t":"f","t":"f"}}"#,
        r#"{"weight_map":{},"weight_map":{}}"#,
        r#"{"weight_map":{},"metadata":1,"metadata":1}"#,
        r#"{"weight_map":{},"metadata":{"a":[{"b":1,"b":1}]}}"#,
    ] {
        assert_eq!(refused(json).kind(), ErrorKind::DuplicateKey, "{json}");
    }
}

#[test]
fn the_weight_map_is_needed_and_of_strings() {
    assert_eq!(refused("{}").kind(), ErrorKind::MissingKey);
    for map in [
        "null",
        "[]",
        "\"x\"",
        r#"{"t":1}"#,
        r#"{"t":null}"#,
        r#"{"t":["f"]}"#,
    ] {
        let error = refused(&format!(r#"{{"weight_map":{map}}}"#));
        assert_eq!(error.kind(), ErrorKind::WrongType, "{map}");
    }
    assert_eq!(
        refused(r#"{"weight_map":{"":"f"}}"#).kind(),
        ErrorKind::EmptyName
    );
}

#[test]
fn what_is_not_json_is_refused() {
    assert_eq!(refused("").kind(), ErrorKind::NotAnObject);
    assert_eq!(refused("[]").kind(), ErrorKind::NotAnObject);
    assert_eq!(refused("{").kind(), ErrorKind::InvalidJson);
    assert_eq!(
        parse_index(b"{\"\xff").unwrap_err().kind(),
        ErrorKind::InvalidUtf8
    );
    for length in 0..INDEX.len() {
        assert!(parse_index(&INDEX.as_bytes()[..length]).is_err());
    }
}

#[test]
fn depth_does_not_end_the_stack() {
    for key in ["metadata", "other", "weight_map"] {
        for open in ["[", "{\"a\":"] {
            assert!(
                parse_index(format!("{{\"{key}\":{}", open.repeat(500_000)).as_bytes()).is_err()
            );
        }
    }
}

#[test]
fn files_that_match_are_accepted() {
    assert_eq!(check(&[(SECOND, &["b"]), (FIRST, &["c", "a"])]), None);
}

#[test]
fn files_that_differ_are_refused() {
    use ErrorKind::*;
    assert_eq!(check(&[(FIRST, &["a", "c"])]), Some(MissingFile));
    assert_eq!(
        check(&[(FIRST, &["a", "c"]), (SECOND, &["b"]), ("x", &[])]),
        Some(UnexpectedFile)
    );
    assert_eq!(
        check(&[(FIRST, &["a", "c"]), (SECOND, &["b"]), (FIRST, &[])]),
        Some(RepeatedFile)
    );
    assert_eq!(
        check(&[(FIRST, &["a"]), (SECOND, &["b"])]),
        Some(MissingTensor)
    );
    assert_eq!(
        check(&[(FIRST, &["a", "c"]), (SECOND, &["b", "d"])]),
        Some(UnexpectedTensor)
    );
    assert_eq!(
        check(&[(FIRST, &["a", "c"]), (SECOND, &["b", "a"])]),
        Some(MisplacedTensor)
    );
}

#[test]
fn an_index_is_told_by_its_name() {
    for name in [
        "model.safetensors.index.json",
        "model.safetensors.index.fp16.json",
        "model.fp16.index.json",
        "diffusion_pytorch_model.safetensors.index.bf16.json",
    ] {
        assert!(is_index_name(name), "{name}");
    }
    for name in [
        "model.safetensors",
        "config.json",
        "index.json",
        "model.index.json.safetensors",
        "model.indexes.json",
        "model-index.json",
        "",
    ] {
        assert!(!is_index_name(name), "{name}");
    }
}

#[test]
fn an_index_of_another_format_is_a_file() {
    let lists = |file: &str| format!(r#"{{"metadata":{{}},"weight_map":{{"a":"{file}"}}}}"#);
    let shard = lists("model-00001-of-00002.safetensors");
    assert!(is_index("model.safetensors.index.json", shard.as_bytes()));
    assert!(is_index("model.fp16.index.json", shard.as_bytes()));
    // Whatever it contains: a damaged index is an error.
    assert!(is_index("model.safetensors.index.json", b"{"));
    let other = lists("pytorch_model-00001-of-00002.bin");
    assert!(!is_index("pytorch_model.bin.index.json", other.as_bytes()));
    assert!(!is_index("faiss.index.json", br#"{"weight_map":[]}"#));
    assert!(!is_index("faiss.index.json", b"[1"));
    assert!(!is_index("config.json", shard.as_bytes()));
}
