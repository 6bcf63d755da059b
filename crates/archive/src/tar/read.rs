//! Walks the entries of an archive that is read at any offset.
//!
//! The `tar` crate reads long names and extended headers of any length into memory and says what is wrong as text; here
//! both are bounded, and each defect has its own error.

use crate::error::shown;
use crate::tar::extended::Records;
use crate::tar::header::{Block, Header};
use crate::tar::{BLOCK, MAX_EXTENDED_BYTES};
use crate::{Error, Result};
use modelstore_chunk::Source;
use modelstore_formats::file_name::is_file_path;
use std::collections::BTreeMap;

/// The most entries that are read; a model has at most ten thousand files.
pub const MAX_ENTRIES: usize = 100_000;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name: a relative path.
    pub name: String,
    /// Where its content begins.
    pub offset: u64,
    /// Bytes of its content.
    pub size: u64,
}

/// Walks an archive, entry by entry.
#[derive(Debug, Default)]
pub struct Walker {
    at: u64,
}

/// What the headers before that of an entry say of it.
#[derive(Default)]
struct Before {
    /// Where the first of them starts.
    offset: Option<u64>,
    records: Records,
    /// Of GNU tar.
    long_name: Option<Vec<u8>>,
}

impl Walker {
    /// Begins at the first entry.
    pub fn new() -> Walker {
        Walker::default()
    }

    /// Returns the next file; `None` at the end. Folders are left out.
    pub fn next<E: From<Error>>(&mut self, source: &mut dyn Source<E>) -> Result<Option<Entry>, E> {
        let mut before = Before::default();
        loop {
            let offset = self.at;
            let bytes = read(source, offset, BLOCK)?;
            let Ok(block) = <&Block>::try_from(bytes.as_slice()) else {
                return Err(truncated(source, offset + BLOCK));
            };
            let Some(header) = Header::parse(block, offset)? else {
                return match before.offset {
                    Some(offset) => Err(Error::Extended { offset }.into()),
                    None => Ok(None),
                };
            };
            if let b'x' | b'g' | b'L' | b'K' = header.kind {
                self.read_extended(source, &header, &mut before)?;
                continue;
            }
            let size = before.records.size.unwrap_or(header.size);
            let data = self.skip(source, size)?;
            let name = before.name(header.name);
            let what = match header.kind {
                _ if before.records.is_sparse => "a sparse file",
                b'5' => "",
                // Before POSIX, folders were known by their name.
                0 if name.ends_with(b"/") => "",
                b'0' | 0 | b'7' => {
                    let name = path(&name)?;
                    return Ok(Some(Entry {
                        name,
                        offset: data,
                        size,
                    }));
                }
                b'1' => "a link",
                b'2' => "a symbolic link",
                b'3' | b'4' => "a device",
                b'6' => "a pipe",
                b'S' => "a sparse file",
                _ => "an entry of an unknown kind",
            };
            if !what.is_empty() {
                let name = shown(&String::from_utf8_lossy(&name));
                return Err(Error::Kind { name, what }.into());
            }
            folder(&name)?;
            before = Before::default();
        }
    }

    /// Moves behind the content of the entry whose header is here; returns where it begins.
    fn skip<E: From<Error>>(&mut self, source: &dyn Source<E>, size: u64) -> Result<u64, E> {
        let data = self.at + BLOCK;
        let end = data.checked_add(size).filter(|end| *end <= source.len());
        let Some(end) = end else {
            return Err(truncated(source, data.saturating_add(size)));
        };
        // A source is shorter than i64::MAX.
        self.at = end.next_multiple_of(BLOCK);
        Ok(data)
    }

    fn read_extended<E: From<Error>>(
        &mut self,
        source: &mut dyn Source<E>,
        header: &Header,
        before: &mut Before,
    ) -> Result<(), E> {
        let offset = self.at;
        if header.size > MAX_EXTENDED_BYTES {
            let length = header.size;
            return Err(Error::ExtendedTooLong { offset, length }.into());
        }
        let data = self.skip(source, header.size)?;
        let bytes = read(source, data, header.size)?;
        let malformed = || Error::Extended { offset };
        match header.kind {
            b'x' if before.records == Records::default() => {
                before.records = Records::parse(&bytes).ok_or_else(malformed)?;
            }
            b'L' if before.long_name.is_none() => {
                let end = bytes.iter().position(|byte| *byte == 0);
                before.long_name = Some(bytes[..end.unwrap_or(bytes.len())].to_vec());
            }
            // Names and sizes of all entries that follow make no sense; the rest does not matter.
            b'g' if Records::parse(&bytes).ok_or_else(malformed)? == Records::default() => {
                return Ok(());
            }
            // The target of a link; the link itself is refused.
            b'K' => {}
            _ => return Err(malformed().into()),
        }
        before.offset.get_or_insert(offset);
        Ok(())
    }
}

impl Before {
    fn name(&mut self, of_header: Vec<u8>) -> Vec<u8> {
        let long = self.records.path.take().or_else(|| self.long_name.take());
        long.unwrap_or(of_header)
    }
}

/// Returns the name of a file. Archives of a folder begin each name with `./`.
fn path(name: &[u8]) -> Result<String> {
    let invalid = || Error::Name {
        name: shown(&String::from_utf8_lossy(name)),
    };
    let mut name = std::str::from_utf8(name).map_err(|_| invalid())?;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest;
    }
    match is_file_path(name) {
        true => Ok(name.to_owned()),
        false => Err(invalid()),
    }
}

/// Checks the name of a folder.
fn folder(name: &[u8]) -> Result<()> {
    let end = name.iter().rposition(|byte| *byte != b'/');
    match name.get(..=end.unwrap_or(0)) {
        Some(b".") => Ok(()),
        folder => path(folder.unwrap_or(name)).map(drop),
    }
}

/// Reads bytes; an error if the archive ends before them.
fn read<E: From<Error>>(source: &mut dyn Source<E>, offset: u64, len: u64) -> Result<Vec<u8>, E> {
    let mut out = Vec::new();
    let end = offset.checked_add(len).filter(|end| *end <= source.len());
    match (end, usize::try_from(len)) {
        (Some(_), Ok(len)) => source.read_at(offset, len, &mut out)?,
        _ => return Err(truncated(source, offset.saturating_add(len))),
    }
    Ok(out)
}

fn truncated<E: From<Error>>(source: &dyn Source<E>, needed: u64) -> E {
    let actual = source.len();
    match actual {
        0..BLOCK => Error::NotTar.into(),
        _ => Error::Truncated { needed, actual }.into(),
    }
}

/// The files of an archive, by name.
#[derive(Debug, Default)]
pub struct Entries(BTreeMap<String, (u64, u64)>);

impl Entries {
    /// Walks the whole archive. `check` is called at each entry, and may end it.
    pub fn collect<E: From<Error>>(
        source: &mut dyn Source<E>,
        mut check: impl FnMut() -> Result<(), E>,
    ) -> Result<Entries, E> {
        let (mut walker, mut entries) = (Walker::new(), Entries::default());
        while let Some(entry) = walker.next(source)? {
            check()?;
            if entries.0.len() == MAX_ENTRIES {
                return Err(Error::TooMany { limit: MAX_ENTRIES }.into());
            }
            let place = (entry.offset, entry.size);
            if entries.0.insert(entry.name.clone(), place).is_some() {
                return Err(Error::Duplicate { name: entry.name }.into());
            }
        }
        Ok(entries)
    }

    /// Returns where the content of a file begins, and its bytes.
    pub fn find(&self, name: &str) -> Result<(u64, u64)> {
        self.0.get(name).copied().ok_or_else(|| Error::Missing {
            name: name.to_owned(),
        })
    }

    /// Returns the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
