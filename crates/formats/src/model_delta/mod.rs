//! The format in which one model's weights travel as a difference to another's: 16 bytes of prefix, a JSON manifest, the
//! header of the target's safetensors file, then encoded chunks without gaps.
//!
//! Reading takes four steps, so that no more than manifest and header is ever in memory:
//!
//! ```
//! use modelstore_formats::model_delta::{PREFIX_BYTES, manifest_len, parse_manifest};
//! use modelstore_formats::safetensors::{LENGTH_BYTES, parse_header};
//! # let file = include_bytes!("../../tests/data/golden.msdelta");
//! let file_len = file.len() as u64;
//! let length = manifest_len(&file[..16], file_len)?;
//! let header_offset = PREFIX_BYTES + length;
//! let manifest = parse_manifest(&file[16..header_offset as usize])?;
//! let json = header_offset + LENGTH_BYTES;
//! let length = manifest.header_len(&file[header_offset as usize..json as usize], header_offset, file_len)?;
//! let header = parse_header(&file[json as usize..(json + length) as usize], manifest.file_bytes)?;
//! let layout = manifest.check(&header, header_offset, file_len)?;
//! assert_eq!(layout.first_chunks.len(), manifest.weights.len());
//! # Ok::<(), modelstore_formats::Error>(())
//! ```
//!
//! The result gives correct positions of everything. The caller has to check whether the chunks decode to what the
//! hashes promise.

mod check;
mod parse;
mod prefix;
mod weight;

pub use check::Layout;
pub use parse::parse_manifest;
pub use prefix::{build_prefix, manifest_len};
pub use weight::{ChunkDelta, WeightDelta};

/// The magic at the start of a file; the version follows.
pub const MAGIC: &[u8; 7] = b"MSDELTA";

/// The version that is read and written.
pub const VERSION: u8 = 1;

/// Bytes before the manifest: magic, version and the manifest's length.
pub const PREFIX_BYTES: u64 = 16;

/// The most by which an encoded chunk may exceed its raw length. The encoder needs less.
pub const MAX_OVERHEAD_BYTES: u64 = 64;

/// The manifest of a model delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Content hash of the weights of the base model.
    pub from: [u8; 32],
    /// Content hash of the weights of the target model.
    pub to: [u8; 32],
    /// The name of the target model; not empty.
    pub model_name: String,
    /// The version of the target model; not empty.
    pub version: String,
    /// The name of the target's safetensors file, without a directory.
    pub file_name: String,
    /// Bytes of that file.
    pub file_bytes: u64,
    /// BLAKE3-256 of that file.
    pub blake3: [u8; 32],
    /// The weights of the target, in the order of their data in that file.
    pub weights: Vec<WeightDelta>,
}
