//! A large object as a source, and as a sink of exports. Calls PostgreSQL's SQL functions, which check privileges.

use crate::error::{Code, Failure, Result};
use crate::io::length_changed;
use crate::pg::query;
use crate::pg::scratch::in_scratch_memory;
use pgrx::pg_sys::Oid;

/// A large object: readable at any offset, or appended to.
pub struct LargeObject {
    oid: Oid,
    len: u64,
}

impl LargeObject {
    /// Opens an existing one. PostgreSQL raises the error for an unknown OID or a missing privilege.
    pub fn open(oid: Oid) -> Result<LargeObject> {
        // pgrx passes OID 0 as NULL, which would hide the cause.
        if oid == Oid::INVALID {
            return Err(Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                "large object 0 does not exist",
            )
            .hint("SELECT oid FROM pg_largeobject_metadata;"));
        }
        let len = size_of_object(oid)?;
        Ok(LargeObject { oid, len })
    }

    /// Creates an empty one.
    pub fn create() -> Result<LargeObject> {
        let made = query::write("SELECT pg_catalog.lo_create(0)", &[], |row| {
            row.get::<Oid>(1)
        })?;
        match made.first() {
            Some(&oid) => Ok(LargeObject { oid, len: 0 }),
            None => Err(Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "could not create a large object",
            )),
        }
    }

    /// Returns its OID.
    pub fn oid(&self) -> Oid {
        self.oid
    }

    /// Appends bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        // The argument is a copy.
        in_scratch_memory(|| {
            query::execute(
                "SELECT pg_catalog.lo_put($1, $2, $3)",
                &[
                    self.oid.into(),
                    (self.len as i64).into(),
                    crate::pg::arguments::bytes(bytes),
                ],
            )
        })?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

fn size_of_object(oid: Oid) -> Result<u64> {
    // INV_READ is 0x40000; SEEK_END is 2. The descriptor is closed in the same statement.
    let ends = query::rows(
        "SELECT l.size, pg_catalog.lo_close(l.fd)
         FROM (SELECT o.fd, pg_catalog.lo_lseek64(o.fd, 0, 2) AS size
               FROM (SELECT pg_catalog.lo_open($1, 262144) AS fd OFFSET 0) o OFFSET 0) l",
        &[oid.into()],
        |row| row.get::<i64>(1),
    )?;
    match ends.first().map(|&size| u64::try_from(size)) {
        Some(Ok(len)) => Ok(len),
        _ => Err(Failure::new(
            Code::ERRCODE_DATA_CORRUPTED,
            format!("large object {oid} has no size"),
        )),
    }
}

impl modelstore_chunk::Source<Failure> for LargeObject {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        let short = || length_changed(&format!("large object {}", self.oid));
        let wanted = i32::try_from(len).map_err(|_| short())?;
        out.clear();
        query::query(
            "SELECT pg_catalog.lo_get($1, $2, $3)",
            &[self.oid.into(), (offset as i64).into(), wanted.into()],
            |row| row.append_bytes(1, out).map(drop),
        )?;
        if out.len() == len {
            Ok(())
        } else {
            Err(short())
        }
    }

    fn check_len(&mut self) -> Result<()> {
        if size_of_object(self.oid)? == self.len {
            return Ok(());
        }
        Err(length_changed(&format!("large object {}", self.oid)))
    }
}
