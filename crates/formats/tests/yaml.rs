//! YAML, tried against JSON, which is YAML, and against what PyYAML and the specification say.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../fuzz/checks/model_card.rs"]
mod model_card;

use modelstore_formats::yaml::{Node, parse};
use modelstore_formats::{Document, Error};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn read(text: &str) -> Result<Option<Node>, Error> {
    parse(text, Document::FrontMatter, 1)
}

fn as_json(text: &str) -> Json {
    let node = read(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    node.map_or(Json::Null, |node| node.to_json())
}

/// PyYAML 6.0.3 reads the same, but for what YAML 1.1 has instead: booleans such as no, octal numbers, 1_000, 12:30, dates,
/// floats without a point, `! 2`. Keys are texts here, and so are numbers that JSON has not.
#[test]
fn forms() {
    for (text, expected) in [
        ("", json!(null)),
        ("# a comment\n", json!(null)),
        ("a: 1\nb: two\n", json!({"a": 1, "b": "two"})),
        (
            "a:\n  - x\n  - y: 1\n    z: 2\n",
            json!({"a": ["x", {"y": 1, "z": 2}]}),
        ),
        ("a:\n- x\n- - y\n  - z\n", json!({"a": ["x", ["y", "z"]]})),
        (
            "{a: [1, 2, {b: c}], 'd e': \"f\\n\\u00e9\"}",
            json!({"a": [1, 2, {"b": "c"}], "d e": "f\né"}),
        ),
        (
            "a: |\n  two\n   lines\n\nb: >-\n  one\n  line\n",
            json!({"a": "two\n lines\n", "b": "one line"}),
        ),
        (
            "a: 'it''s'  # why\nb: x#y\n",
            json!({"a": "it's", "b": "x#y"}),
        ),
        (
            "a: ~\nb: null\nc:\nd: Null\n",
            json!({"a": null, "b": null, "c": null, "d": null}),
        ),
        (
            "[true, True, FALSE, 'true', yes, no, on]",
            json!([true, true, false, "true", "yes", "no", "on"]),
        ),
        (
            "[1, -2, +3, 0x1F, 0o17, 017, 18446744073709551615]",
            json!([1, -2, 3, 31, 15, 17, 18446744073709551615u64]),
        ),
        (
            "[1.5, -.5, 1e3, 1., 6.02e+23]",
            json!([1.5, -0.5, 1000.0, 1.0, 6.02e23]),
        ),
        (
            "[1_000, 12:30, 2024-01-31, 1.2.3, .inf, -.NaN, 1e999, 99999999999999999999, '1', 0x, 0o9, +, 0x+1, e5, .]",
            json!([
                "1_000",
                "12:30",
                "2024-01-31",
                "1.2.3",
                ".inf",
                "-.NaN",
                "1e999",
                "99999999999999999999",
                "1",
                "0x",
                "0o9",
                "+",
                "0x+1",
                "e5",
                "."
            ]),
        ),
        (
            "a: !!str 1\nb: ! 2\nc: !!int 3\nd: !!seq [x]\n",
            json!({"a": "1", "b": "2", "c": 3, "d": ["x"]}),
        ),
        ("a: &anchor x\n", json!({"a": "x"})),
        ("\"a\": 1\r\nb:\r\n- c\r\n", json!({"a": 1, "b": ["c"]})),
        ("a: plain\n  over lines\n", json!({"a": "plain over lines"})),
        ("? a\n: b\n", json!({"a": "b"})),
        ("1: x\ntrue: y\n", json!({"1": "x", "true": "y"})),
        ("模型: 文字 😀\n", json!({"模型": "文字 😀"})),
    ] {
        assert_eq!(as_json(text), expected, "{text:?}");
    }
}

#[test]
fn errors_name_their_line() {
    for (text, line, words) in [
        ("a: 1\nb: *x\n", 2, ""),
        ("a: &x 1\n\nb: *x\n", 3, "aliases"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, "duplicate key \"c\""),
        ("a: 1\n[b]: 2\n", 2, "a list or a mapping"),
        ("a: 1\nb: !x 1\n", 2, "unknown tag \"!x\""),
        ("a: 1\nb: !!binary aGk=\n", 2, "unknown tag"),
        ("a: 1\n\tb: 2\n", 2, ""),
        ("a: 1\n b: 2\n", 2, ""),
        ("a: [1,\nb: 2\n", 3, ""),
        ("a: \"x\n\n", 1, ""),
        ("a: 1\n...\n---\nb: 1\n", 3, "second"),
        ("a: \"\\0\"\n", 1, "zero"),
        ("a: 1\n}\n", 2, ""),
    ] {
        match read(text) {
            Err(Error::InvalidYaml {
                line: at, reason, ..
            }) => {
                assert!(
                    at.abs_diff(line) <= 1 && reason.contains(words),
                    "{text:?}: {at} {reason}"
                );
                assert!(words.is_empty() || at == line, "{text:?}: {at} {reason}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn depth_and_size_are_bounded() {
    assert!(read(&("[".repeat(64) + &"]".repeat(64))).is_ok());
    for text in [
        "[".repeat(65) + &"]".repeat(65),
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        "a,".repeat(100_001),
    ] {
        let text = if text.starts_with("a,") {
            format!("[{text}]")
        } else {
            text
        };
        assert!(read(&text).is_err(), "{}", &text[..20]);
    }
}

/// A billion laughs end at the first.
#[test]
fn aliases_multiply_nothing() {
    let mut bomb = "a: &a [x, x]\n".to_owned();
    for (last, next) in ('a'..='y').zip('b'..='z') {
        bomb.push_str(&format!("{next}: &{next} [*{last}, *{last}]\n"));
    }
    assert_eq!(
        read(&bomb).unwrap_err().to_string(),
        "line 2 of front matter: aliases are not read"
    );
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        (-1e300..1e300f64).prop_map(Json::from),
        "[^\0]{0,20}".prop_map(Json::from),
        "[a-z:# '\"\\[\\]{},&*!|>%@`?~-]{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::btree_map("[^\0]{0,8}", inner, 0..6)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

/// Writes a value as a person would: an item or a key a line, texts in quotes.
fn block(value: &Json, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Json::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("\n{margin}-"));
                block(item, indent + 2, out);
            }
        }
        Json::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                out.push_str(&format!("\n{margin}{}:", Json::from(key.as_str())));
                block(value, indent + 1, out);
            }
        }
        value => out.push_str(&format!(" {value}")),
    }
}

proptest! {
    #[test]
    fn json_is_yaml(value in any_json()) {
        prop_assert_eq!(as_json(&value.to_string()), value.clone());
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(as_json(&pretty), value);
    }

    #[test]
    fn blocks_are_what_they_were_written_from(value in any_json()) {
        let mut text = String::new();
        block(&value, 0, &mut text);
        prop_assert_eq!(as_json(&text), value, "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ab01 \n\t\r:#'\"\\[\\]{},&*!|>%@`?~.\\\\<=-]{0,80}") {
        model_card::check(text.as_bytes());
        model_card::check(format!("---\n{text}\n---\n{text}").as_bytes());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        model_card::check(&bytes);
    }
}
