//! The input is a README.md: its parts are parts of it, its front matter is read or refused with the line, its words fit.

use modelstore_formats::Error;
use modelstore_formats::model_card::{MAX_WORDS_BYTES, read, split, words};

/// Panics where a promise does not hold.
pub fn check(input: &[u8]) {
    let Ok(card) = std::str::from_utf8(input) else {
        return;
    };
    let (front_matter, text) = split(card);
    assert!(card.ends_with(text));
    let words = words(text);
    assert!(words.len() <= MAX_WORDS_BYTES && !words.contains('\0'));
    let Some((first_line, front_matter)) = front_matter else {
        return;
    };
    assert!(card.contains(front_matter));
    match read(front_matter, first_line) {
        Ok(found) => {
            assert!(found.fields.is_object());
            assert!(!found.fields.to_string().contains("\\u0000"));
        }
        Err(Error::InvalidYaml { line, reason, .. }) => {
            let lines = card.lines().count() + card.matches('\r').count() + 2;
            assert!(
                line >= first_line as u64 && line <= lines as u64,
                "{line} {reason}"
            );
            assert!(reason.len() < 1000 && !reason.contains(char::is_control));
        }
        Err(other) => panic!("{other}"),
    }
}
