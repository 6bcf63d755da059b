//! References to models and checkpoints.
//!
//! ```text
//! model      = uuid | name | name ":" version | name "@" alias
//! checkpoint = uuid | model "#" (step | "latest" | "best")
//! ```
//!
//! A name alone is its newest version. Names, versions and aliases contain none of [`RESERVED`], and no name is a UUID, so
//! a text has one meaning. Nothing is trimmed and case counts, as for any value of type text.

use crate::error::{Error, Result};
use uuid::Uuid;

/// Characters that separate the parts of a reference and therefore occur in none of them.
pub const RESERVED: [char; 3] = [':', '@', '#'];

/// A model as a user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelReference<'a> {
    /// Its key.
    Id(Uuid),
    /// One of the versions of a name.
    Named {
        /// The name, not empty.
        name: &'a str,
        /// Which version.
        which: Which<'a>,
    },
}

/// Which version of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The newest that is not archived.
    Newest,
    /// This one.
    Version(&'a str),
    /// The one that an alias points at.
    Alias(&'a str),
}

/// A checkpoint as a user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointReference<'a> {
    /// Its key.
    Id(Uuid),
    /// One of the checkpoints of a model.
    Of {
        /// The model.
        model: ModelReference<'a>,
        /// Which checkpoint.
        step: Step,
    },
}

/// Which checkpoint of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The one at this step, of whichever run.
    Number(i64),
    /// The newest.
    Latest,
    /// The one with the lowest loss.
    Best,
}

impl<'a> ModelReference<'a> {
    /// Parses a reference.
    pub fn parse(text: &'a str) -> Result<ModelReference<'a>> {
        if let Some(id) = parse_uuid(text) {
            return Ok(ModelReference::Id(id));
        }
        let invalid = || Error::Model(text.to_owned());
        let Some(at) = text.find(RESERVED) else {
            return match text {
                "" => Err(invalid()),
                name => Ok(ModelReference::Named {
                    name,
                    which: Which::Newest,
                }),
            };
        };
        // A reserved character has one byte.
        let (name, part) = (&text[..at], &text[at + 1..]);
        if name.is_empty() || part.is_empty() || part.contains(RESERVED) {
            return Err(invalid());
        }
        let which = match text.as_bytes()[at] {
            b':' => Which::Version(part),
            b'@' => Which::Alias(part),
            _ => return Err(invalid()),
        };
        Ok(ModelReference::Named { name, which })
    }
}

impl<'a> CheckpointReference<'a> {
    /// Parses a reference.
    pub fn parse(text: &'a str) -> Result<CheckpointReference<'a>> {
        if let Some(id) = parse_uuid(text) {
            return Ok(CheckpointReference::Id(id));
        }
        let Some((model, step)) = text.split_once('#') else {
            // Without a step the text may be a model, which is worth saying.
            return Err(match ModelReference::parse(text) {
                Ok(_) => Error::NoStep(text.to_owned()),
                Err(_) => Error::Checkpoint(text.to_owned()),
            });
        };
        let model = ModelReference::parse(model).map_err(|_| Error::Checkpoint(text.to_owned()))?;
        let step = match step {
            "latest" => Step::Latest,
            "best" => Step::Best,
            number => match number.parse() {
                Ok(step) if step >= 0 && number.bytes().all(|b| b.is_ascii_digit()) => {
                    Step::Number(step)
                }
                _ => return Err(Error::Step(number.to_owned())),
            },
        };
        Ok(CheckpointReference::Of { model, step })
    }
}

/// Parses the forms that PostgreSQL's type uuid takes: 32 digits, in braces or not, with a hyphen after any group of
/// four.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    let digits = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let (mut value, mut count) = (0u128, 0);
    let mut after_hyphen = true; // none at the start
    for byte in digits.bytes() {
        if byte == b'-' {
            if after_hyphen || count % 4 != 0 {
                return None;
            }
            after_hyphen = true;
            continue;
        }
        let digit = char::from(byte).to_digit(16)?;
        if count == 32 {
            return None;
        }
        value = value << 4 | u128::from(digit);
        count += 1;
        after_hyphen = false;
    }
    (count == 32 && !after_hyphen).then(|| Uuid::from_u128(value))
}
