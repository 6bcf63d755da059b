//! Errors of a model file.

use modelstore_chunk::MAX_CHUNK_BYTES;
use modelstore_tensor::DType;

use crate::model_delta::{MAX_OVERHEAD_BYTES, VERSION};
use crate::safetensors::{MAX_HEADER_BYTES, MAX_NAME_BYTES, dtype};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The document that contains an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Document {
    /// The JSON header at the start of a safetensors file.
    SafetensorsHeader,
    /// The `model.safetensors.index.json` of a model in several files.
    SafetensorsIndex,
    /// A whole safetensors file.
    SafetensorsFile,
    /// A whole model delta.
    ModelDelta,
    /// The JSON manifest at the start of a model delta.
    DeltaManifest,
    /// The YAML between the `---` lines at the start of a README.md.
    FrontMatter,
}

impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Document::SafetensorsHeader => "safetensors header",
            Document::SafetensorsIndex => "safetensors index",
            Document::SafetensorsFile => "safetensors file",
            Document::ModelDelta => "model delta",
            Document::DeltaManifest => "model delta manifest",
            Document::FrontMatter => "front matter",
        })
    }
}

macro_rules! errors {
    ($( $(#[doc = $doc:literal])+ $message:literal
        $variant:ident $({ $( $(#[doc = $field_doc:literal])+ $field:ident : $type:ty ),+ $(,)? })? ; )*) => {
        /// One variant for each defect of a file. `Display` is a PostgreSQL primary message: lower case, no full stop,
        /// the offending value named and truncated to 64 characters. [`Error::detail`] adds what was expected.
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        pub enum Error {
            $( $(#[doc = $doc])+ #[error($message)]
               $variant $({ $( $(#[doc = $field_doc])+ $field: $type ),+ })?, )*
        }

        /// An [`Error`] without its values, to map to an error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $( $(#[doc = $doc])+ $variant, )*
        }

        impl ErrorKind {
            /// Every kind, so that a table over them can be tested for gaps.
            pub const ALL: &'static [ErrorKind] = &[$( ErrorKind::$variant ),*];
        }

        impl Error {
            /// Returns the kind of defect.
            pub fn kind(&self) -> ErrorKind {
                match self { $( Error::$variant { .. } => ErrorKind::$variant, )* }
            }
        }
    };
}

errors! {
    /// The file, or the given part of it, ends too early.
    "{document} of {actual} bytes is truncated"
    Truncated {
        /// Which file.
        document: Document,
        /// Bytes the file needs at least.
        needed: u64,
        /// Bytes found.
        actual: u64,
    };

    /// The file has another format.
    "file is {format}, not safetensors"
    OtherFormat {
        /// Its format, with an article.
        format: &'static str,
        /// What to do with it, as a sentence.
        advice: &'static str,
    };

    /// The header is longer than [`MAX_HEADER_BYTES`].
    "{document} of {length} bytes is too long"
    HeaderTooLong {
        /// Where.
        document: Document,
        /// The length.
        length: u64,
    };

    /// The JSON does not start with an opening brace.
    "{document} does not start with \"{{\""
    NotAnObject {
        /// Where.
        document: Document,
    };

    /// The text is not UTF-8.
    "invalid UTF-8 at byte {offset} of {document}"
    InvalidUtf8 {
        /// Where.
        document: Document,
        /// The first wrong byte, from the start of the JSON.
        offset: u64,
    };

    /// The text is not JSON.
    "invalid JSON in {document}"
    InvalidJson {
        /// Where.
        document: Document,
        /// The parser's message, with line and column.
        reason: String,
    };

    /// The text is not YAML, or more of YAML than we read.
    "line {line} of {document}: {reason}"
    InvalidYaml {
        /// Where.
        document: Document,
        /// The line of the file, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    };

    /// A value of another JSON type than the format requires.
    "invalid value of key \"{key}\" in {document}"
    WrongType {
        /// Where.
        document: Document,
        /// The outermost key that contains the value.
        key: String,
        /// The parser's message, with line and column.
        reason: String,
    };

    /// A key that occurs twice in one object; readers disagree on which one counts.
    "duplicate key \"{key}\" in {document}"
    DuplicateKey {
        /// Where.
        document: Document,
        /// The key.
        key: String,
    };

    /// A field of a tensor that the format does not have.
    "unknown field \"{field}\" of tensor \"{tensor}\" in safetensors header"
    UnknownField {
        /// The tensor.
        tensor: String,
        /// The field.
        field: String,
    };

    /// A missing field of a tensor.
    "missing field \"{field}\" of tensor \"{tensor}\" in safetensors header"
    MissingField {
        /// The tensor.
        tensor: String,
        /// The field.
        field: &'static str,
    };

    /// A missing key of the document.
    "missing key \"{key}\" in {document}"
    MissingKey {
        /// Where.
        document: Document,
        /// The key.
        key: &'static str,
    };

    /// A dtype name that safetensors does not have.
    "unknown dtype \"{dtype}\" of tensor \"{tensor}\" in safetensors header"
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// The dtype as written.
        dtype: String,
    };

    /// A dtype that cannot be written to a safetensors file.
    "tensor \"{tensor}\" of dtype {dtype} cannot be written as safetensors"
    UnsupportedDtype {
        /// The tensor.
        tensor: String,
        /// The dtype.
        dtype: DType,
    };

    /// A dimension or an offset that is negative, fractional or beyond 64 bits.
    "invalid number {value} in field \"{field}\" of tensor \"{tensor}\""
    InvalidNumber {
        /// The tensor.
        tensor: String,
        /// The field.
        field: &'static str,
        /// The number.
        value: String,
    };

    /// Too many dimensions, or more elements or bytes than fit.
    "invalid shape of tensor \"{tensor}\": {source}"
    InvalidShape {
        /// The tensor.
        tensor: String,
        /// The problem of the shape.
        source: modelstore_tensor::Error,
    };

    /// Elements of less than a byte that do not fill the last byte.
    "tensor \"{tensor}\" of shape {shape} and dtype {dtype} does not end on a whole byte"
    PartialByte {
        /// The tensor.
        tensor: String,
        /// The shape as text.
        shape: String,
        /// The dtype.
        dtype: DType,
    };

    /// Offsets that are not a pair.
    "offsets of tensor \"{tensor}\" must be a pair of numbers"
    OffsetCount {
        /// The tensor.
        tensor: String,
    };

    /// A tensor that ends before it starts.
    "tensor \"{tensor}\" starts at byte {start} and ends at byte {end}"
    OffsetOrder {
        /// The tensor.
        tensor: String,
        /// Its start.
        start: u64,
        /// Its end.
        end: u64,
    };

    /// An end that is beyond any file.
    "end of tensor \"{tensor}\" is out of range"
    OffsetOverflow {
        /// The tensor.
        tensor: String,
    };

    /// Offsets that enclose another number of bytes than shape and dtype require.
    "tensor \"{tensor}\" of shape {shape} and dtype {dtype} needs {expected} bytes, not {actual}"
    WrongLength {
        /// The tensor.
        tensor: String,
        /// The shape as text.
        shape: String,
        /// The dtype.
        dtype: DType,
        /// Bytes the shape needs.
        expected: u64,
        /// Bytes between the offsets.
        actual: u64,
    };

    /// Bytes before a tensor that belong to no tensor.
    "tensor \"{tensor}\" starts at byte {start} and leaves a gap after byte {expected}"
    Hole {
        /// The tensor after the gap.
        tensor: String,
        /// Its start.
        start: u64,
        /// The end of the previous tensor.
        expected: u64,
    };

    /// A tensor that overlaps the previous one.
    "tensor \"{tensor}\" starts at byte {start} and overlaps the one that ends at byte {expected}"
    Overlap {
        /// The second of the two.
        tensor: String,
        /// Its start.
        start: u64,
        /// The end of the previous tensor.
        expected: u64,
    };

    /// Bytes after the last tensor.
    "{document} has {extra} bytes after the last tensor"
    TrailingBytes {
        /// Which file.
        document: Document,
        /// How many.
        extra: u64,
    };

    /// A tensor without a name.
    "empty tensor name in {document}"
    EmptyName {
        /// Where.
        document: Document,
    };

    /// A zero character, which a PostgreSQL text cannot hold.
    "zero character in \"{text}\" of {document}"
    NulCharacter {
        /// Where.
        document: Document,
        /// The text, with the character escaped.
        text: String,
    };

    /// A tensor name longer than [`MAX_NAME_BYTES`].
    "tensor name \"{name}\" of {length} bytes is too long"
    NameTooLong {
        /// The start of the name.
        name: String,
        /// Its length.
        length: u64,
    };

    /// A tensor to be written under the name that safetensors reserves for metadata.
    "tensor name \"{name}\" is reserved"
    ReservedName {
        /// The name.
        name: String,
    };

    /// A file name in an index that is not a plain name.
    "invalid file name \"{file}\" of tensor \"{tensor}\" in safetensors index"
    InvalidFileName {
        /// The tensor.
        tensor: String,
        /// The file name.
        file: String,
    };

    /// A file of the index that was not given.
    "file \"{file}\" of the safetensors index is missing"
    MissingFile {
        /// The file.
        file: String,
    };

    /// A file that the index does not name.
    "file \"{file}\" is not in the safetensors index"
    UnexpectedFile {
        /// The file.
        file: String,
    };

    /// A file given twice.
    "file \"{file}\" of the safetensors index is given twice"
    RepeatedFile {
        /// The file.
        file: String,
    };

    /// A tensor that is not in the file the index names.
    "tensor \"{tensor}\" is missing from file \"{file}\""
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
    };

    /// A tensor in a file that the index does not know.
    "tensor \"{tensor}\" of file \"{file}\" is not in the safetensors index"
    UnexpectedTensor {
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
    };

    /// A tensor in another file than the index says.
    "tensor \"{tensor}\" is in file \"{file}\", not in \"{expected}\""
    MisplacedTensor {
        /// The tensor.
        tensor: String,
        /// The file it is in.
        file: String,
        /// The file according to the index.
        expected: String,
    };

    /// A file of another format where a model delta is read.
    "file does not start as a model delta"
    NotAModelDelta;

    /// A model delta of a version this library does not read.
    "unknown model delta version {version}"
    UnknownVersion {
        /// The version.
        version: u8,
    };

    /// A key that the format does not define.
    "unknown key \"{key}\" in {document}"
    UnknownKey {
        /// Where.
        document: Document,
        /// The key.
        key: String,
    };

    /// An empty text where the format requires content.
    "empty key \"{key}\" in {document}"
    EmptyText {
        /// Where.
        document: Document,
        /// The key.
        key: &'static str,
    };

    /// A hash that is not 64 hexadecimal digits.
    "invalid hash \"{value}\" of key \"{key}\" in {document}"
    InvalidHash {
        /// Where.
        document: Document,
        /// The key.
        key: &'static str,
        /// The text.
        value: String,
    };

    /// The name of a model's file that is not a plain name.
    "invalid file name \"{file}\" in {document}"
    InvalidTargetFile {
        /// Where.
        document: Document,
        /// The file name.
        file: String,
    };

    /// A weight in a model delta that differs from the tensor at this position of its safetensors header.
    "model delta has weight \"{weight}\" in the place of tensor \"{tensor}\""
    WeightMismatch {
        /// The weight.
        weight: String,
        /// The tensor of the header.
        tensor: String,
    };

    /// More or fewer weights in a model delta than tensors in its safetensors header.
    "model delta has {weights} weights for {tensors} tensors"
    WeightCount {
        /// Weights of the manifest.
        weights: u64,
        /// Tensors of the header.
        tensors: u64,
    };

    /// A weight that is neither equal to one of the base model nor stored.
    "weight \"{weight}\" of model delta has neither base nor chunks"
    NoChunks {
        /// The weight.
        weight: String,
    };

    /// A chunk that decodes to nothing, or to more than a chunk may have.
    "chunk {chunk} of weight \"{weight}\" has {raw_bytes} raw bytes"
    RawBytes {
        /// The weight.
        weight: String,
        /// Its index in the weight, from 0.
        chunk: u64,
        /// Its recorded raw length.
        raw_bytes: u32,
    };

    /// A chunk that is empty as stored, or longer than an encoder writes.
    "chunk {chunk} of weight \"{weight}\" has {stored_bytes} stored bytes for {raw_bytes} raw bytes"
    StoredBytes {
        /// The weight.
        weight: String,
        /// Its index in the weight, from 0.
        chunk: u64,
        /// Bytes it decodes to.
        raw_bytes: u32,
        /// Bytes it has in the file.
        stored_bytes: u32,
    };
}

impl Error {
    /// Returns what was expected, as a sentence; `None` if the message is enough.
    pub fn detail(&self) -> Option<String> {
        Some(match self {
            Error::Truncated { needed, .. } => {
                format!("According to its header the file has at least {needed} bytes.")
            }
            Error::NotAModelDelta => "A model delta starts with \"MSDELTA\" and its version.".into(),
            Error::UnknownVersion { .. } => {
                format!("This version of the library reads version {VERSION}.")
            }
            Error::UnknownKey { .. } => {
                "A manifest has the keys of its version and no others.".into()
            }
            Error::InvalidHash { .. } => {
                "A hash is BLAKE3-256, 64 hexadecimal digits in lower case.".into()
            }
            Error::WeightMismatch { .. } | Error::WeightCount { .. } => {
                "The manifest lists the tensors of the safetensors header, in the order of their data.".into()
            }
            Error::NoChunks { .. } => {
                "A weight without chunks is equal to the one of the base model that its hash names.".into()
            }
            Error::RawBytes { .. } => format!("A chunk has 1 to {MAX_CHUNK_BYTES} raw bytes."),
            Error::StoredBytes { .. } => format!(
                "An encoded chunk has at least 1 byte, and at most {MAX_OVERHEAD_BYTES} more than it decodes to."
            ),
            Error::HeaderTooLong { .. } => {
                format!("At most {MAX_HEADER_BYTES} bytes are read.")
            }
            Error::OtherFormat { advice, .. } => (*advice).into(),
            Error::NotAnObject { document } => {
                format!("A {document} is a JSON object with nothing but white space before it.")
            }
            Error::InvalidYaml { .. } => {
                "It is read as YAML 1.2, without aliases and without tags of types.".into()
            }
            Error::InvalidJson { reason, .. } | Error::WrongType { reason, .. } => {
                format!("The JSON parser says: {reason}.")
            }
            Error::DuplicateKey { .. } => "Each key occurs once in an object.".into(),
            Error::UnknownField { .. } | Error::MissingField { .. } => {
                "A tensor has exactly the fields dtype, shape and data_offsets.".into()
            }
            Error::UnknownDtype { .. } | Error::UnsupportedDtype { .. } => {
                format!("The dtypes of safetensors are {}.", dtype::names())
            }
            Error::InvalidNumber { .. } => format!(
                "Dimensions and offsets are whole numbers from 0 to {}.",
                u64::MAX
            ),
            Error::InvalidShape { source, .. } => return source.detail(),
            Error::PartialByte { dtype, .. } => format!(
                "Elements of dtype {dtype} come in groups of {}.",
                dtype.block_elements()
            ),
            Error::OffsetCount { .. } => "The offsets are the start and the end.".into(),
            Error::OffsetOrder { .. } => "A tensor does not end before its start.".into(),
            Error::OffsetOverflow { .. } => {
                format!("A file has at most {} bytes.", i64::MAX)
            }
            Error::Hole { .. } | Error::Overlap { .. } | Error::TrailingBytes { .. } => {
                "Tensors cover the data of the file from its first byte to its last, without gaps.".into()
            }
            Error::EmptyName { .. } => "Every tensor has a name.".into(),
            Error::NulCharacter { .. } => "PostgreSQL text cannot hold the character U+0000.".into(),
            Error::NameTooLong { .. } => {
                format!("A tensor name has at most {MAX_NAME_BYTES} bytes.")
            }
            Error::ReservedName { .. } => "Safetensors keeps metadata under this key.".into(),
            Error::InvalidTargetFile { .. } => {
                "A model's file is named without a directory: no \"/\", \"\\\", \":\", \"..\" or control character, and at most 255 bytes."
                    .into()
            }
            Error::InvalidFileName { .. } => {
                "A shard is named without a directory: no \"/\", \"\\\", \"..\" or control character, and at most 255 bytes."
                    .into()
            }
            Error::MissingTensor { .. }
            | Error::UnexpectedTensor { .. }
            | Error::MisplacedTensor { .. } => {
                "Index and files name the same tensors, each in one file.".into()
            }
            Error::MissingFile { .. } | Error::UnexpectedFile { .. } | Error::RepeatedFile { .. } => {
                "Each file of the index must be given exactly once, and no others.".into()
            }
            Error::InvalidUtf8 { .. }
            | Error::WrongLength { .. }
            | Error::MissingKey { .. }
            | Error::EmptyText { .. } => {
                return None;
            }
        })
    }
}

/// Prepares text for a message: at most 64 characters, no control characters.
pub(crate) fn shown(text: &str) -> String {
    shorten(text, 64)
}

/// The same for a parser's reason, which carries values of the input in the middle.
pub(crate) fn shown_reason(text: &str) -> String {
    // The position at the end matters more than the rest of a long value.
    let position = text.rfind(" at line ").unwrap_or(text.len());
    let (reason, position) = text.split_at(position);
    shorten(reason, 160) + position
}

fn shorten(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(limit) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
