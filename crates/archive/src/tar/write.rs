//! Headers of an archive that is written.

use crate::tar::BLOCK;
use crate::tar::extended;
use crate::tar::header::{
    Block, GID, KIND, MAX_OCTAL, MODE, MTIME, NAME, PREFIX, SIZE, UID, put, seal,
};

/// The end of an archive.
pub const END: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// Returns the header of a file, with an extended header before it where the fields of ustar do not suffice: for a name that
/// is long or not ASCII, or a size of more than 8 GiB. `mtime` is in seconds since 1970.
pub fn head(name: &str, size: u64, mtime: u64) -> Vec<u8> {
    let mut records = Vec::new();
    let (prefix, short) = split(name).unwrap_or_else(|| {
        extended::write(&mut records, "path", name);
        ("", "")
    });
    if size > MAX_OCTAL {
        extended::write(&mut records, "size", &size.to_string());
    }
    let mut out = Vec::new();
    if !records.is_empty() {
        let len = records.len();
        out.extend_from_slice(&block("", "PaxHeaders/file", b'x', len as u64, mtime));
        out.append(&mut records);
        out.resize(out.len() + padding(len as u64), 0);
    }
    let size = if size > MAX_OCTAL { 0 } else { size };
    let short = if short.is_empty() { "file" } else { short };
    out.extend_from_slice(&block(prefix, short, b'0', size, mtime));
    out
}

/// Returns the zeros that follow so many bytes of content.
pub fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK) as usize
}

/// Splits a name into what fits into the fields of ustar.
fn split(name: &str) -> Option<(&str, &str)> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= NAME.len() {
        return Some(("", name));
    }
    let slashes = name.match_indices('/').map(|(at, _)| at);
    slashes
        .map(|at| (&name[..at], &name[at + 1..]))
        .find(|(prefix, short)| prefix.len() <= PREFIX.len() && short.len() <= NAME.len())
        .filter(|(prefix, short)| !prefix.is_empty() && !short.is_empty())
}

fn block(prefix: &str, name: &str, kind: u8, size: u64, mtime: u64) -> Block {
    let mut block = [0; BLOCK as usize];
    block[NAME][..name.len()].copy_from_slice(name.as_bytes());
    block[PREFIX][..prefix.len()].copy_from_slice(prefix.as_bytes());
    put(&mut block, MODE, 0o644);
    put(&mut block, UID, 0);
    put(&mut block, GID, 0);
    put(&mut block, SIZE, size);
    put(&mut block, MTIME, mtime.min(MAX_OCTAL));
    block[KIND] = kind;
    seal(&mut block);
    block
}
