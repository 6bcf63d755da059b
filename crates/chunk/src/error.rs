//! Errors of a chunk, of a request on it, or of the work around it.

use modelstore_tensor::DType;

use crate::ChunkHash;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each defect of the input. `Display` is a PostgreSQL primary message: lower case, no full stop, the
/// offending value named. [`Error::detail`] adds what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor that cannot be split because it is invalid.
    #[error(transparent)]
    Tensor(#[from] modelstore_tensor::Error),
    /// A chunk size outside the limits.
    #[error("chunk size {0} is out of range")]
    ChunkSize(u64),
    /// More pieces than an index can count.
    #[error("tensor of {bytes} bytes has too many pieces of {piece_bytes} bytes")]
    TooManyPieces {
        /// Bytes of the tensor.
        bytes: u64,
        /// Bytes of a piece.
        piece_bytes: u64,
    },
    /// A hash that does not have 32 bytes.
    #[error("chunk hash has {0} bytes")]
    HashLength(usize),
    /// Fewer bytes than the chunk's header or index requires.
    #[error("tensor chunk ends at byte {actual}, but needs {needed}")]
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes found.
        actual: usize,
    },
    /// Bytes after the end of the payload.
    #[error("tensor chunk of {expected} bytes has {actual}")]
    TrailingBytes {
        /// Bytes the header and index describe.
        expected: usize,
        /// Bytes found.
        actual: usize,
    },
    /// A version this library does not read.
    #[error("unknown tensor chunk version {0}")]
    Version(u8),
    /// A codec this library does not read.
    #[error("unknown tensor chunk codec {0}")]
    Codec(u8),
    /// An element width other than 1, 2, 4 or 8.
    #[error("invalid tensor chunk element width {0}")]
    Width(u8),
    /// Reserved bits or bytes that are not zero, or a flag its codec does not have.
    #[error("invalid tensor chunk flags {0:#04x}")]
    Flags(u8),
    /// A raw length above the limit, or one its codec cannot have.
    #[error("invalid tensor chunk raw length {0}")]
    RawLength(u64),
    /// A block size outside the limits.
    #[error("invalid tensor chunk block size 2^{0}")]
    BlockSize(u8),
    /// An index entry that no encoder writes.
    #[error("invalid tensor chunk index entry {entry:#x} of block {block}, plane {plane}")]
    IndexEntry {
        /// The entry.
        entry: u32,
        /// The block.
        block: usize,
        /// The plane within the block.
        plane: usize,
    },
    /// Compressed bytes that do not decompress to one plane.
    #[error("corrupt tensor chunk data in block {block}, plane {plane}")]
    Plane {
        /// The block.
        block: usize,
        /// The plane within the block.
        plane: usize,
    },
    /// A sparse block whose counts and positions do not fit together.
    #[error("corrupt tensor chunk data in sparse block {block}")]
    Sparse {
        /// The block.
        block: usize,
    },
    /// A range of raw bytes that the chunk does not have.
    #[error("byte range {start} to {end} is outside a tensor chunk of {raw_len} bytes")]
    Range {
        /// First byte asked for.
        start: u32,
        /// One past the last byte asked for.
        end: u32,
        /// Raw bytes of the chunk.
        raw_len: u32,
    },
    /// A delta without its base.
    #[error("tensor chunk is a delta of chunk {0}, which was not given")]
    BaseMissing(ChunkHash),
    /// A base of another length than the delta.
    #[error("base chunk {hash} has {actual} bytes, not {expected}")]
    BaseLength {
        /// The base.
        hash: ChunkHash,
        /// Raw bytes of the delta.
        expected: usize,
        /// Raw bytes of the base.
        actual: usize,
    },
    /// An output buffer of another length than the chunk.
    #[error("output of {actual} bytes does not fit a tensor chunk of {expected} bytes")]
    OutputLength {
        /// Raw bytes of the chunk.
        expected: usize,
        /// Bytes of the buffer.
        actual: usize,
    },
    /// A chunk that the store does not have.
    #[error("tensor chunk {0} does not exist")]
    Missing(ChunkHash),
    /// Decoded bytes that do not have the hash they are stored under.
    #[error("tensor chunk {expected} decodes to bytes with hash {actual}")]
    HashMismatch {
        /// The hash it is stored under.
        expected: ChunkHash,
        /// The hash of what it decodes to.
        actual: ChunkHash,
    },
    /// A chain of deltas longer than [`crate::MAX_DELTA_DEPTH`].
    #[error("tensor chunk {0} is the end of a chain of too many deltas")]
    DeltaTooDeep(ChunkHash),
    /// A chain of deltas that comes back to itself.
    #[error("tensor chunk {0} is a base of itself")]
    DeltaCycle(ChunkHash),
    /// A chunk of a tensor that is missing or damaged; the text is the message.
    #[error("{0}")]
    DamagedChunk(String),
    /// Pieces that do not cover the elements of a tensor.
    #[error("pieces of tensor \"{label}\" do not cover elements {first} to {end}")]
    Hole {
        /// The tensor.
        label: String,
        /// First element requested.
        first: u64,
        /// One past the last element requested.
        end: u64,
    },
    /// A piece of more bytes than a chunk has.
    #[error("piece of tensor \"{0}\" is too large")]
    PieceTooLarge(String),
    /// Chunks whose total size differs from that of their tensor's shape.
    #[error("chunks of tensor \"{label}\" do not have the {raw_bytes} bytes of its shape")]
    ChunksLength {
        /// The tensor.
        label: String,
        /// Bytes of its shape.
        raw_bytes: u64,
    },
    /// Chunks that match their hashes, but are not those of their tensor.
    #[error("tensor \"{0}\" does not match its BLAKE3 hash")]
    ContentHash(String),
    /// A tensor whose recorded size is not that of its shape.
    #[error(
        "tensor \"{label}\" of shape {shape} and dtype {dtype} is recorded with {raw_bytes} bytes"
    )]
    TensorSize {
        /// The tensor.
        label: String,
        /// Its shape as text.
        shape: String,
        /// Its element type.
        dtype: DType,
        /// The recorded size.
        raw_bytes: u64,
    },
    /// A stored tensor with the content hash of a new one of this name, whose chunks do not match that hash.
    #[error("stored tensor with the same content as \"{0}\" is damaged")]
    DamagedTensor(String),
    /// A tensor that was neither inserted nor found.
    #[error("tensor \"{0}\" was not stored")]
    NotStored(String),
    /// A source whose bytes differ from those hashed before.
    #[error("source changed while it was read: {0}")]
    SourceChanged(String),
    /// A stream that shall go on where no piece begins.
    #[error("no piece begins at byte {0} of the tensors")]
    StreamPosition(u64),
    /// Bytes after the last tensor of a stream.
    #[error("{0} bytes follow the last tensor")]
    TooManyBytes(u64),
    /// A read behind the end of a source.
    #[error("source ends before byte {offset} and the {len} after it")]
    SourceEnd {
        /// First byte requested.
        offset: u64,
        /// Bytes requested.
        len: usize,
    },
    /// The operating system could not start the threads.
    #[error("could not start {threads} worker threads: {reason}")]
    Threads {
        /// Threads requested.
        threads: usize,
        /// The reason.
        reason: String,
    },
    /// A job panicked; the text is that of the panic.
    #[error("worker thread failed: {0}")]
    WorkerPanic(String),
}

impl Error {
    /// Returns what was expected, as a sentence; `None` if the message is enough.
    pub fn detail(&self) -> Option<String> {
        use crate::{MAX_CHUNK_BYTES, MAX_DELTA_DEPTH, MIN_CHUNK_BYTES, header};
        match self {
            Error::Tensor(e) => e.detail(),
            Error::ChunkSize(_) => Some(format!(
                "A chunk has {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES} bytes."
            )),
            Error::TooManyPieces { .. } => {
                Some(format!("A tensor has at most {} pieces.", u32::MAX))
            }
            Error::HashLength(_) => Some(format!("A chunk hash has {} bytes.", ChunkHash::LEN)),
            Error::Version(_) => Some(format!(
                "This version of the library reads version {}.",
                header::VERSION
            )),
            Error::Width(_) => Some("An element has 1, 2, 4 or 8 bytes.".into()),
            Error::RawLength(_) => Some(format!(
                "A chunk has at most {MAX_CHUNK_BYTES} bytes, in whole elements."
            )),
            Error::BlockSize(_) => Some(format!(
                "A block has 2^{} to 2^{} bytes.",
                header::MIN_BLOCK_LOG2,
                header::MAX_BLOCK_LOG2
            )),
            Error::DeltaTooDeep(_) => Some(format!(
                "A chain of deltas has at most {MAX_DELTA_DEPTH} steps."
            )),
            Error::HashMismatch { .. } => {
                Some("The stored bytes are damaged, or were stored under a wrong hash.".into())
            }
            Error::DamagedTensor(_) => {
                Some("Its list of chunks does not match its content hash.".into())
            }
            Error::SourceChanged(_) => Some(
                "Its bytes differ from those hashed in the first pass. Nothing was stored.".into(),
            ),
            _ => None,
        }
    }
}
