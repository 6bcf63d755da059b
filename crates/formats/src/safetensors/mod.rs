//! The safetensors format: 8 bytes of length, that many bytes of JSON header, then the tensors' bytes without gaps.
//!
//! Reading takes two steps, so that no more than the header is ever in memory:
//!
//! ```
//! use modelstore_formats::safetensors::{header_len, parse_header};
//! # let mut file = 61u64.to_le_bytes().to_vec();
//! # file.extend(br#"{"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}    "#);
//! # file.extend([0; 8]);
//! let file_len = file.len() as u64;
//! let length = header_len(&file[..8], file_len)?;
//! let header = parse_header(&file[8..8 + length as usize], file_len)?;
//! assert_eq!(header.tensors[0].name, "bias");
//! # Ok::<(), modelstore_formats::Error>(())
//! ```
//!
//! Stricter than other readers where these disagree: refuses duplicate keys, unknown fields, and names that a
//! PostgreSQL text or index key cannot store. Like them, it accepts white space before the opening brace and a
//! `__metadata__` of null.

pub mod dtype;
mod entry;
pub mod header;
pub mod index;
pub mod writer;

pub(crate) use entry::{check_distinct, check_name};

pub use header::{Header, TensorEntry, header_len, parse_header, parse_header_of_any};
pub use index::{ShardIndex, is_index, is_index_name, parse_index};
pub use writer::build_header;

/// Bytes of the length before the JSON.
pub const LENGTH_BYTES: u64 = 8;

/// The longest JSON accepted, the same as in other readers.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The longest tensor name. A PostgreSQL index key has less than 2704 bytes, and contains a name and other columns.
pub const MAX_NAME_BYTES: usize = 1024;

/// The key of the header that is not a tensor.
pub const METADATA_KEY: &str = "__metadata__";
