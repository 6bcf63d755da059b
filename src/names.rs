//! The rule for names of every kind: their length and their characters.

use crate::error::{Code, Failure, Result};
use modelstore_formats::file_name::{MAX_FILE_NAME_BYTES, MAX_FILE_PATH_BYTES, is_file_path};
use modelstore_formats::safetensors::MAX_NAME_BYTES;
use modelstore_names::RESERVED;
use modelstore_names::reference::parse_uuid;

/// The longest name of any kind, in bytes. A B-tree key has at most 2704 bytes and contains up to two names.
pub const MAX_BYTES: usize = MAX_NAME_BYTES;

/// Characters of a name that an error message shows.
const SHOWN: usize = 40;

/// Checks a name that a user chooses: not empty (22023), not too long (42622), no control characters (42602). `kind`
/// begins the message, as in "model name".
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

/// Checks the name of a model as [`check_part`] does, and that it is not taken for a key (42602).
pub fn check_model(name: &str) -> Result<&str> {
    const KIND: &str = "model name";
    check_part(KIND, name)?;
    match parse_uuid(name) {
        None => Ok(name),
        Some(_) => Err(Failure::new(
            Code::ERRCODE_INVALID_NAME,
            format!("invalid {KIND} \"{name}\""),
        )
        .detail("A UUID is the key of a model, not a name.")),
    }
}

/// Checks a name that is a part of a reference such as `name:version`, as [`check`] does, and that the reference reads
/// back as it (42602).
pub fn check_part<'a>(kind: &str, name: &'a str) -> Result<&'a str> {
    check(kind, name)?;
    if name.contains(RESERVED) {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_NAME,
            format!("invalid {kind} \"{name}\""),
        )
        .detail("It must not contain : @ or #, which separate a name from a version, an alias or a step."));
    }
    Ok(name)
}

/// Checks only the length, for names that come with files: their characters are not restricted.
pub fn check_length<'a>(kind: &str, name: &'a str) -> Result<&'a str> {
    within(MAX_BYTES, kind, name)
}

/// Checks the name of a file of a model: a relative path that can be written into a folder (42602), not too long (42622).
pub fn check_file(name: &str) -> Result<&str> {
    within(MAX_FILE_PATH_BYTES, "file name", name)?;
    for part in name.split('/') {
        within(MAX_FILE_NAME_BYTES, "file name", part)?;
    }
    if is_file_path(name) {
        return Ok(name);
    }
    Err(Failure::new(
        Code::ERRCODE_INVALID_NAME,
        format!("invalid file name \"{}\"", name.escape_debug()),
    )
    .detail("Expected a relative path such as config.json or 1_Pooling/config.json: no empty name, \".\" or \"..\" between slashes, no backslash, no control character."))
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
