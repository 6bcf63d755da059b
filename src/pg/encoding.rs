//! Text is UTF-8 everywhere: in names, in files, in what functions return. In a database of another encoding it would be
//! stored and returned wrongly, so the extension refuses to be made in one.

use crate::error::{Code, Failure, Result};
use pgrx::pg_sys;
use std::ffi::CStr;

/// An error unless the database's encoding is UTF8. SQL_ASCII is none: its text may be anything.
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
