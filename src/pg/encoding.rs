//! Text is UTF-8 everywhere: names, files, results of functions. A database of another encoding would store and return
//! it wrongly, so the extension refuses to be created there.

use crate::error::{Code, Failure, Result};
use pgrx::pg_sys;
use std::ffi::CStr;

/// Requires that the database's encoding is UTF8. SQL_ASCII does not qualify: its text may be anything.
#[allow(unsafe_code)]
pub fn require_utf8() -> Result<()> {
    // SAFETY: reads what the session knows of its database; the name is a constant string of the server.
    let (encoding, name) = unsafe {
        let name = CStr::from_ptr(pg_sys::GetDatabaseEncodingName());
        (pg_sys::GetDatabaseEncoding(), name.to_string_lossy())
    };
    if encoding == pg_sys::pg_enc::PG_UTF8 as i32 {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("pg_modelstore does not support databases with encoding {name}"),
    )
    .detail("It reads and writes text as UTF8.")
    .hint("CREATE DATABASE models TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';"))
}
