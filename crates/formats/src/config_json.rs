//! Reads `config.json` as Python writes it, without building it in memory.

use serde::de::IgnoredAny;

/// What keeps a text from being a config that jsonb can store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Not JSON, with the parser's reason.
    Syntax(String),
    /// JSON, but no object.
    NoObject,
    /// Contains U+0000.
    Nul,
}

/// Returns a config as strict JSON: the constants `NaN`, `Infinity` and `-Infinity`, which Python's json module writes and
/// RFC 8259 does not have, become strings.
pub fn strict(text: &str) -> Result<String, Defect> {
    let mut strict = String::with_capacity(text.len());
    let (mut in_string, mut copied, mut at) = (false, 0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match (in_string, bytes[at]) {
            // The escaped character is no quote that ends the string.
            (true, b'\\') => {
                match code_unit(&bytes[at..]) {
                    Some(0) => return Err(Defect::Nul),
                    Some(0xd800..=0xdbff)
                        if !matches!(code_unit(&bytes[at + 6..]), Some(0xdc00..=0xdfff)) =>
                    {
                        return Err(lone_surrogate());
                    }
                    Some(0xd800..=0xdbff) => at += 12,
                    Some(0xdc00..=0xdfff) => return Err(lone_surrogate()),
                    _ => at += 2,
                }
                continue;
            }
            (_, b'"') => in_string = !in_string,
            (false, b'N' | b'I' | b'-') => {
                let constants = ["NaN", "Infinity", "-Infinity"];
                if let Some(constant) = constants.iter().find(|c| text[at..].starts_with(**c)) {
                    strict.push_str(&text[copied..at]);
                    strict.push('"');
                    strict.push_str(constant);
                    strict.push('"');
                    at += constant.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    strict.push_str(&text[copied..]);
    // Checks the syntax and keeps nothing.
    serde_json::from_str::<IgnoredAny>(&strict).map_err(|e| Defect::Syntax(e.to_string()))?;
    match strict.trim_start().starts_with('{') {
        true => Ok(strict),
        false => Err(Defect::NoObject),
    }
}

/// Returns the number of an escape such as `\u00e9` at the start.
fn code_unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u")?.get(..4)?;
    let digits = str::from_utf8(digits).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

/// What a parser that keeps nothing does not notice.
fn lone_surrogate() -> Defect {
    Defect::Syntax("lone surrogate in a string".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_python() {
        for (text, expected) in [
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
            (
                r#"{"limit": [0.0, Infinity]}"#,
                r#"{"limit": [0.0, "Infinity"]}"#,
            ),
            (
                r#"{"a":-Infinity,"b":NaN}"#,
                r#"{"a":"-Infinity","b":"NaN"}"#,
            ),
            (
                r#"{"NaN": "Infinity \" NaN", "é": -1}"#,
                r#"{"NaN": "Infinity \" NaN", "é": -1}"#,
            ),
            (r#"{"a": "\\", "b": NaN}"#, r#"{"a": "\\", "b": "NaN"}"#),
            (r#"{"a": "\\u0000"}"#, r#"{"a": "\\u0000"}"#),
        ] {
            assert_eq!(strict(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn defects() {
        let pair = r#"{"a": "\ud83d\ude00"}"#;
        assert_eq!(strict(pair).as_deref(), Ok(pair));
        assert_eq!(strict("[1]"), Err(Defect::NoObject));
        assert_eq!(strict(" 3"), Err(Defect::NoObject));
        assert_eq!(strict(r#"{"a": "\u0000"}"#), Err(Defect::Nul));
        for text in [
            r#"{"a": "\ud800"}"#,
            r#"{"a": "\ud800\u0041"}"#,
            r#"{"a": "\udc00"}"#,
            "",
            "{",
            r#"{"a": Inf}"#,
            r#"{"a": NaNs}"#,
            r#"{"a" 1}"#,
            "{\"a\": \"\\",
        ] {
            assert!(matches!(strict(text), Err(Defect::Syntax(_))), "{text}");
        }
    }
}
