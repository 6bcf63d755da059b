//! A `bytea` argument as a source.

use crate::error::{Code, Failure, Result};
use crate::pg::varlena::{Building, Detoasted, Toasted, varlena_argument, varlena_result};

/// A `bytea` argument that is not detoasted at once.
pub struct Bytea<'a>(pub Toasted<'a>);

varlena_argument!(Bytea, Toasted, "bytea");

/// A `bytea` result that is filled in place.
pub struct ByteaOut(pub Building);

varlena_result!(ByteaOut, "bytea", pgrx::pg_sys::BYTEAOID);

impl ByteaOut {
    /// Copies bytes into a result.
    pub fn copy(bytes: &[u8]) -> Result<ByteaOut> {
        Ok(ByteaOut(Building::from_parts(&[bytes])?))
    }
}

/// Reads a `bytea` in pieces if TOAST can (out of line, uncompressed), else all at once: inline, it is in memory as it is.
pub enum ByteaSource<'a> {
    /// Not yet read.
    Pieces(Toasted<'a>),
    /// Compressed by TOAST: every piece would decompress everything before it again.
    Whole(Detoasted<'a>),
}

impl<'a> ByteaSource<'a> {
    /// Chooses by how the value is stored.
    pub fn new(value: Bytea<'a>) -> ByteaSource<'a> {
        if value.0.is_compressed() || !value.0.is_out_of_line() {
            ByteaSource::Whole(value.0.whole())
        } else {
            ByteaSource::Pieces(value.0)
        }
    }
}

impl modelstore_chunk::Source<Failure> for ByteaSource<'_> {
    fn len(&self) -> u64 {
        match self {
            ByteaSource::Pieces(value) => value.len() as u64,
            ByteaSource::Whole(value) => value.bytes().len() as u64,
        }
    }

    fn read_at(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        let missing = || {
            Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                "bytea value is shorter than its length says",
            )
        };
        let offset = usize::try_from(offset).map_err(|_| missing())?;
        out.clear();
        match self {
            ByteaSource::Pieces(value) => out.extend_from_slice(value.slice(offset, len).bytes()),
            ByteaSource::Whole(value) => {
                let end = offset.checked_add(len).ok_or_else(missing)?;
                out.extend_from_slice(value.bytes().get(offset..end).ok_or_else(missing)?);
            }
        }
        if out.len() == len {
            Ok(())
        } else {
            Err(missing())
        }
    }
}
