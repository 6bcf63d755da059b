//! The one rule for names of every kind: how long they may be, and what may be in them.

use crate::error::{Code, Failure, Result};
use modelstore_formats::safetensors::{MAX_FILE_NAME_BYTES, MAX_NAME_BYTES};

/// The longest name of any kind, in bytes. A key of a B-tree has at most 2704 bytes, and up to two names stand in one.
pub const MAX_BYTES: usize = MAX_NAME_BYTES;

/// Characters of a name that an error shows.
const SHOWN: usize = 40;

/// A name that users choose: not empty (22023), not too long (42622), without control characters (42602). `kind` begins
/// the message, as in "model name".
pub fn check<'a>(kind: &str, name: &'a str) -> Result<&'a str> {
    if name.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{kind} must not be empty"),
        ));
    }
    check_length(kind, name)?;
    if name.chars().any(char::is_control) {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_NAME,
            format!("invalid {kind} \"{}\"", name.escape_debug()),
        )
        .detail("A name has no control characters."));
    }
    Ok(name)
}

/// The length alone, for names that come with files: these keep whatever characters they have.
pub fn check_length<'a>(kind: &str, name: &'a str) -> Result<&'a str> {
    within(MAX_BYTES, kind, name)
}

/// The same for names of files, which a file system has to take again.
pub fn check_file_name_length(name: &str) -> Result<&str> {
    within(MAX_FILE_NAME_BYTES, "file name", name)
}

fn within<'a>(limit: usize, kind: &str, name: &'a str) -> Result<&'a str> {
    if name.len() <= limit {
        return Ok(name);
    }
    let start: String = name.chars().take(SHOWN).collect();
    Err(Failure::new(
        Code::ERRCODE_NAME_TOO_LONG,
        format!("{kind} \"{}...\" is too long", start.escape_debug()),
    )
    .detail(format!(
        "It has {} bytes; at most {limit} are allowed.",
        name.len()
    )))
}
