//! Tar archives: POSIX ustar with the extended headers of pax, and the long names of GNU tar when reading.

mod extended;
mod header;
mod read;
mod write;

pub use read::{Entries, Entry, MAX_ENTRIES, Walker};
pub use write::{END, head, padding};

/// Headers are blocks of this size, and every entry is filled up to a whole one.
pub const BLOCK: u64 = 512;

/// The longest extended header that is read: names have at most a kibibyte.
pub const MAX_EXTENDED_BYTES: u64 = 64 << 10;
