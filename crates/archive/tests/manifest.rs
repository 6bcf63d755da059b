//! The manifest: what is written is read, and whatever else is an error.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use modelstore_archive::tar::{END, Entries, head, padding};
use modelstore_archive::{Error, Manifest};
use modelstore_chunk::Memory;
use serde_json::{Value, json};

/// An error of the archive, or of the source.
#[derive(Debug, PartialEq)]
enum Failed {
    Archive(Error),
    Source(modelstore_chunk::Error),
}

impl From<Error> for Failed {
    fn from(e: Error) -> Failed {
        Failed::Archive(e)
    }
}

impl From<modelstore_chunk::Error> for Failed {
    fn from(e: modelstore_chunk::Error) -> Failed {
        Failed::Source(e)
    }
}

fn example() -> Value {
    json!({
        "format": "pg_modelstore archive",
        "version": 1,
        "model": {
            "name": "m", "version": "1", "status": "ready", "derivation": null, "architecture": "bert",
            "config": {"a": 1}, "metadata": null, "evaluations": [], "license": null, "tags": [], "content_hash": null,
            "created_at": "2026-01-01T00:00:00.000000Z", "aliases": ["best"],
            "lineage": [{"name": "base", "version": "1", "content_hash": null, "derivation": null}],
            "frozen": [], "files": [{"name": "a/config.json", "bytes": 8, "sha256": ""}], "gradients_bytes": null
        },
        "runs": [{
            "name": null, "status": "completed", "config": null, "total_steps": 5, "loss_metric": "loss", "host": null,
            "error": null, "created_at": "", "started_at": null, "ended_at": null, "resumed_from": 0,
            "gradient_checkpoints": null, "metrics_bytes": 3
        }],
        "checkpoints": [{
            "folder": "checkpoints/000001-step-7", "run": 0, "step": 7, "epoch": 0.5, "parent": null, "metrics": {"loss": 1e-400},
            "rng_state": "00ff", "param_groups": null, "metadata": null, "pinned": true, "content_hash": null, "created_at": "",
            "files": [{"name": "model.safetensors", "bytes": 9, "sha256": ""}], "added_optimizer_bytes": 4
        }]
    })
}

fn parse(json: &Value) -> Result<Manifest, Error> {
    Manifest::parse(json.to_string().as_bytes())
}

#[test]
fn what_is_written_is_read() {
    let text = r#"{"digits": 1.00000000000000000000000001, "large": 1e400}"#;
    let with = example().to_string().replace(r#"{"a":1}"#, text);
    let manifest = Manifest::parse(with.as_bytes()).expect("a manifest");
    let written = manifest.write().expect("writes");
    // Numbers keep their digits.
    assert!(String::from_utf8_lossy(&written).contains(text));
    let again = Manifest::parse(&written).expect("a manifest");
    assert_eq!(again.write().as_deref(), Ok(&written[..]));
    assert_eq!(
        again.entries(),
        [
            ("model/a/config.json".to_owned(), 8),
            ("runs/000001/metrics.jsonl".to_owned(), 3),
            ("checkpoints/000001-step-7/model.safetensors".to_owned(), 9),
            (
                "checkpoints/000001-step-7/optimizer-added.safetensors".to_owned(),
                4
            ),
        ]
    );
}

#[test]
fn keys_have_their_types_and_no_other_is_known() {
    fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.push(at.to_owned());
                for (key, value) in object {
                    objects(value, &format!("{at}/{key}"), found);
                }
            }
            Value::Array(list) => {
                for (n, value) in list.iter().enumerate() {
                    objects(value, &format!("{at}/{n}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    objects(&example(), "", &mut found);
    found.retain(|at| !at.ends_with("config") && !at.ends_with("metrics"));
    assert!(found.len() >= 7, "{found:?}");
    for at in found {
        let mut more = example();
        let object = more.pointer_mut(&at).expect("an object");
        object["more"] = json!(1);
        assert!(matches!(parse(&more), Err(Error::Manifest { .. })), "{at}");
        let keys: Vec<String> = example()
            .pointer(&at)
            .expect("an object")
            .as_object()
            .expect("one")
            .keys()
            .cloned()
            .collect();
        for key in keys {
            let mut wrong = example();
            // Of no type that any key has.
            wrong.pointer_mut(&at).expect("an object")[&key] = json!([[1.5]]);
            let is_free = [
                "config",
                "metadata",
                "evaluations",
                "metrics",
                "param_groups",
                "gradient_checkpoints",
            ]
            .contains(&key.as_str());
            assert_eq!(parse(&wrong).is_err(), !is_free, "{at}/{key}");
        }
    }
}

#[test]
fn what_refers_to_nothing_is_an_error() {
    for (at, value) in [
        ("/checkpoints/0/run", json!(1)),
        ("/checkpoints/0/run", json!(-1)),
        ("/checkpoints/0/parent", json!(0)),
        ("/checkpoints/0/folder", json!("checkpoints/../..")),
        ("/checkpoints/0/step", json!(8)),
        ("/runs/0/resumed_from", json!(1)),
        ("/format", json!("zip")),
        ("/model/status", json!("bogus")),
    ] {
        let mut wrong = example();
        *wrong.pointer_mut(at).expect("a value") = value;
        assert!(matches!(parse(&wrong), Err(Error::Manifest { .. })), "{at}");
    }
    let mut wrong = example();
    wrong["model"]["files"][0]["name"] = json!("../x");
    assert_eq!(
        parse(&wrong).err(),
        Some(Error::Name {
            name: "../x".into()
        })
    );
    let mut later = example();
    later["version"] = json!(2);
    later["more"] = json!(1);
    assert_eq!(parse(&later).err(), Some(Error::Version { version: 2 }));
    for bytes in [
        &b""[..],
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"null",
        &b"[".repeat(100_000),
    ] {
        assert!(matches!(
            Manifest::parse(bytes),
            Err(Error::Manifest { .. })
        ));
    }
}

fn entries(files: &[(&str, usize)]) -> Entries {
    let mut out = Vec::new();
    for (name, size) in files {
        out.extend(head(name, *size as u64, 0));
        out.resize(out.len() + size + padding(*size as u64), 0);
    }
    out.extend(END);
    Entries::collect::<Failed>(&mut Memory(&out), || Ok(())).expect("entries")
}

#[test]
fn entries_are_those_of_the_manifest() {
    let manifest = parse(&example()).expect("a manifest");
    let all = [
        ("manifest.json", 1),
        ("model/a/config.json", 8),
        ("runs/000001/metrics.jsonl", 3),
        ("checkpoints/000001-step-7/model.safetensors", 9),
        ("checkpoints/000001-step-7/optimizer-added.safetensors", 4),
    ];
    assert_eq!(manifest.check_entries(&entries(&all)), Ok(()));
    for left_out in 1..all.len() {
        let mut some = all.to_vec();
        let (name, size) = some.remove(left_out);
        let missing = Error::Missing { name: name.into() };
        assert_eq!(manifest.check_entries(&entries(&some)), Err(missing));
        some.push((name, size + 1));
        let (name, expected, actual) = (name.to_owned(), size as u64, size as u64 + 1);
        let wrong = Error::Size {
            name,
            expected,
            actual,
        };
        assert_eq!(manifest.check_entries(&entries(&some)), Err(wrong));
    }
    let mut more = all.to_vec();
    more.push(("model/b", 0));
    let unexpected = Error::Unexpected {
        name: "model/b".into(),
    };
    assert_eq!(manifest.check_entries(&entries(&more)), Err(unexpected));
}
