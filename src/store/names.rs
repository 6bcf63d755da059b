//! Names of stores.

use crate::error::{Code, Failure, Result};
use pgrx::pg_sys;

/// Returns a name for messages: on one line.
pub fn shown(name: &str) -> String {
    let mut shown = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Refuses names that PostgreSQL would truncate silently, and names reserved by it or by the extension.
pub fn check_name(name: &str) -> Result<()> {
    let limit = pg_sys::NAMEDATALEN as usize - 1;
    let invalid = || {
        Failure::new(
            Code::ERRCODE_INVALID_NAME,
            format!("invalid store name \"{}\"", shown(name)),
        )
    };
    if name.is_empty() || name.len() > limit {
        return Err(invalid().detail(format!(
            "A store's name is a schema name of 1 to {limit} bytes."
        )));
    }
    if name.contains(char::is_control) {
        return Err(invalid().detail("A store's name has no control characters."));
    }
    let reserved_for = match name {
        "modelstore" => "The schema modelstore holds the extension's own types and functions.",
        "information_schema" => "Schemas of that name belong to PostgreSQL.",
        _ if name.starts_with("pg_") => "Schemas of that name belong to PostgreSQL.",
        _ => return Ok(()),
    };
    Err(Failure::new(
        Code::ERRCODE_RESERVED_NAME,
        format!("store name \"{name}\" is reserved"),
    )
    .detail(reserved_for)
    .hint("SELECT modelstore.create_store('store');"))
}
