//! The README.md of a model: its front matter, as model hubs read it, and its text as words to search for.

use serde_json::Value as Json;

use crate::error::{Document, Error, Result};
use crate::yaml::{Node, Value, parse};

/// The longest front matter that is read: the results of large benchmarks take hundreds of kilobytes.
pub const MAX_FRONT_MATTER_BYTES: usize = 1 << 20;

/// How much of the text is searched. A tsvector holds 1 MiB, and words with hyphens and addresses take several times their
/// length in it.
pub const MAX_WORDS_BYTES: usize = 128 << 10;

/// A longer word is data, such as an image in base64. A tsvector holds words of up to 2046 bytes.
const MAX_WORD_BYTES: usize = 500;

/// What a README.md says of its model.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontMatter {
    /// `license`: a text, or a list of one.
    pub license: Option<String>,
    /// `tags`: the scalars of a list, or one; each once.
    pub tags: Vec<String>,
    /// All of it, a JSON object.
    pub fields: Json,
}

/// Splits a README.md into its front matter, with the number of its first line, and its text. Front matter is between a
/// first line and a later one of `---`.
pub fn split(card: &str) -> (Option<(usize, &str)>, &str) {
    let card = card.strip_prefix('\u{feff}').unwrap_or(card);
    let mut lines = card.split_inclusive('\n').enumerate();
    let (mut at, mut first) = (0, None);
    for (number, line) in &mut lines {
        at += line.len();
        match line.trim_end() {
            "" => {}
            "---" => {
                first = Some((number + 2, at));
                break;
            }
            _ => return (None, card),
        }
    }
    let Some((first_line, start)) = first else {
        return (None, card);
    };
    for (_, line) in lines {
        if line.trim_end() == "---" {
            return (
                Some((first_line, &card[start..at])),
                &card[at + line.len()..],
            );
        }
        at += line.len();
    }
    (None, card)
}

/// Reads front matter that [`split`] found.
pub fn read(front_matter: &str, first_line: usize) -> Result<FrontMatter> {
    let refused = |line: usize, reason: String| Error::InvalidYaml {
        document: Document::FrontMatter,
        line: line as u64,
        reason,
    };
    if front_matter.len() > MAX_FRONT_MATTER_BYTES {
        let reason = format!("more than {MAX_FRONT_MATTER_BYTES} bytes");
        return Err(refused(first_line, reason));
    }
    let Some(root) = parse(front_matter, Document::FrontMatter, first_line)? else {
        return Ok(FrontMatter {
            license: None,
            tags: Vec::new(),
            fields: Json::Object(serde_json::Map::new()),
        });
    };
    if !matches!(root.value, Value::Mapping(_)) {
        return Err(refused(root.line, "no keys with values".to_owned()));
    }
    let license = root.get("license").and_then(|license| {
        match license.value {
            // Of several it is not known which one counts.
            Value::List(ref items) if items.len() == 1 => items[0].text(),
            _ => license.text(),
        }
    });
    Ok(FrontMatter {
        license: license.map(str::to_owned),
        tags: root.get("tags").map(texts).unwrap_or_default(),
        fields: root.to_json(),
    })
}

/// Returns the texts of a list, or the one that is no list; each once.
fn texts(node: &Node) -> Vec<String> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut seen = std::collections::HashSet::new();
    let texts = items.iter().filter_map(Node::text);
    texts
        .filter(|text| seen.insert(*text))
        .map(str::to_owned)
        .collect()
}

/// Returns the text of a card that a tsvector can hold, whatever it is: its beginning, without data and control characters.
pub fn words(text: &str) -> String {
    let mut words = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let mut push = |word: &str| {
            let fits = words.len() + word.len() < MAX_WORDS_BYTES;
            if fits && !word.is_empty() {
                words.push_str(word);
                words.push(' ');
            }
            fits
        };
        let fits = match word.len() <= MAX_WORD_BYTES {
            true => push(word),
            // A sentence of a script without spaces, between its punctuation.
            false if !word.is_ascii() => word
                .split(|c: char| !c.is_alphanumeric())
                .filter(|word| word.len() <= MAX_WORD_BYTES)
                .all(push),
            false => true,
        };
        if !fits {
            break;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_card() {
        for (card, front_matter, text) in [
            ("---\na: 1\n---\n# T\n", Some((2, "a: 1\n")), "# T\n"),
            ("---\na: 1\n---", Some((2, "a: 1\n")), ""),
            (
                "\u{feff}---\r\na: 1\r\n---\r\nT",
                Some((2, "a: 1\r\n")),
                "T",
            ),
            ("\n \n---  \na\n--- \nT", Some((4, "a\n")), "T"),
            ("---\n---\n", Some((2, "")), ""),
            // A line within a text is no end.
            ("---\na: |\n  ---\n---\nT", Some((2, "a: |\n  ---\n")), "T"),
            ("# T\n---\na: 1\n---\n", None, "# T\n---\na: 1\n---\n"),
            ("---\na: 1\n", None, "---\na: 1\n"),
            ("----\na\n---\n", None, "----\na\n---\n"),
            ("---", None, "---"),
            ("", None, ""),
        ] {
            assert_eq!(split(card), (front_matter, text), "{card:?}");
        }
    }

    fn read_text(text: &str) -> FrontMatter {
        read(text, 2).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn license_and_tags() {
        for (text, license, tags) in [
            ("license: mit\ntags: [a, b]", Some("mit"), vec!["a", "b"]),
            (
                "license:\n- MIT\ntags:\n- a\n- 'b c'\n- a",
                Some("MIT"),
                vec!["a", "b c"],
            ),
            ("license: [mit, gpl]\ntags: one", None, vec!["one"]),
            ("license: null\ntags:", None, vec![]),
            (
                "license: {a: b}\ntags: [[x], {y: z}, ~, '', 1.0, no, true]",
                None,
                vec!["", "1.0", "no", "true"],
            ),
            ("", None, vec![]),
            ("# nothing\n", None, vec![]),
            ("language: no", None, vec![]),
        ] {
            let read = read_text(text);
            assert_eq!(
                (read.license.as_deref(), read.tags),
                (license, tags.into_iter().map(str::to_owned).collect()),
                "{text}"
            );
        }
        assert_eq!(read_text("").fields, serde_json::json!({}));
        assert_eq!(
            read_text("language: no\nbase_model: [a/b]").fields,
            serde_json::json!({"language": "no", "base_model": ["a/b"]})
        );
    }

    #[test]
    fn what_is_refused() {
        for (text, line, reason) in [
            ("- a", 2, "no keys"),
            ("just words", 2, "no keys"),
            ("a: 1\nb: &x 1\nc: *x", 4, "aliases"),
            ("a: 1\nb: 2\na: 3", 4, "duplicate key \"a\""),
            ("a: 1\n? [x]\n: 2", 3, "a key that is a list"),
            ("a: !!python/object:os.system x", 2, "unknown tag"),
            ("a: \"x\\0y\"", 2, "zero"),
            ("a: 1\n...\n---\nb: 2", 4, "second"),
            ("a: [1, 2\nb: 3", 3, ""),
            ("a: 'x", 2, ""),
        ] {
            match read(text, 2) {
                Err(Error::InvalidYaml {
                    line: at,
                    reason: why,
                    ..
                }) => {
                    assert!(at == line && why.contains(reason), "{text}: {at} {why}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        let long = format!("a: {}", "x".repeat(MAX_FRONT_MATTER_BYTES));
        assert!(read(&long, 2).is_err());
    }

    #[test]
    fn words_are_bounded() {
        assert_eq!(
            words("# A  title\n\0with\u{1}words"),
            "# A title with words "
        );
        let data = "x".repeat(501);
        assert_eq!(words(&format!("a data:{data} b")), "a b ");
        let sentence = "模型".repeat(50);
        let long = format!("{sentence}。{sentence}，{}", "字".repeat(200));
        assert_eq!(words(&long), format!("{sentence} {sentence} "));
        let many = words(&"word ".repeat(100_000));
        assert!(many.len() <= MAX_WORDS_BYTES && many.len() > MAX_WORDS_BYTES - 6);
    }
}
