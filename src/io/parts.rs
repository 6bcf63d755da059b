//! Bytes that leave in parts: as rows, or into a file of the server.

use crate::error::{Result, or_raise};
use crate::io::bytes::ByteaOut;
use crate::io::half_written::HalfWritten;
use crate::io::server_file::{Access, io_failure, require_absolute, require_privilege};
use pgrx::iter::SetOfIterator;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// An export in progress.
pub trait Parts {
    /// Returns the next part; none at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>>;

    /// Takes the buffer of a part back for a later one.
    fn recycle(&mut self, part: Vec<u8>);
}

/// Returns the parts as rows. Each is copied into memory of the server, and its buffer is reused for a later part.
pub fn stream(mut parts: impl Parts + 'static) -> SetOfIterator<'static, ByteaOut> {
    SetOfIterator::new(std::iter::from_fn(move || {
        or_raise((|| {
            let Some(part) = parts.next()? else {
                return Ok(None);
            };
            let row = ByteaOut::copy(&part)?;
            parts.recycle(part);
            Ok(Some(row))
        })())
    }))
}

/// Passes on all parts, and returns the number of their bytes.
pub fn drain(parts: &mut impl Parts, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<i64> {
    let mut bytes = 0;
    while let Some(part) = parts.next()? {
        bytes += part.len() as i64;
        each(&part)?;
        parts.recycle(part);
        pgrx::check_for_interrupts!();
    }
    Ok(bytes)
}

/// Writes what `begin` returns to a new file of the server, and returns its bytes. The privilege and the path are checked
/// first.
pub fn to_file<P: Parts>(path: &Path, begin: impl FnOnce() -> Result<P>) -> Result<i64> {
    require_privilege(Access::Write)?;
    require_absolute(path)?;
    let mut parts = begin()?;
    // Never over an existing file: the server could overwrite its own.
    let mut file = File::create_new(path).map_err(|e| io_failure("create", path, &e))?;
    let half_written = HalfWritten::new(path);
    let failed = |e| io_failure("write", path, &e);
    let bytes = drain(&mut parts, |part| file.write_all(part).map_err(failed))?;
    file.sync_all().map_err(failed)?;
    half_written.finished();
    Ok(bytes)
}
