//! Maps the errors of the pure crates to what PostgreSQL reports: the one table of SQLSTATEs.

use modelstore_archive as archive;
use modelstore_atom as atom;
use modelstore_chunk as chunk;
use modelstore_formats as formats;
use modelstore_names as names;
use modelstore_plot as plot;
use modelstore_tensor as tensor;
use modelstore_training as training;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, function_name};

pub use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

/// Result of the functions that call PostgreSQL.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Panic message of a worker whose allocation was refused.
pub const OUT_OF_MEMORY: &str = "out of memory";

/// An error on its way to the client.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Failure {
    /// Creates an error. The message follows PostgreSQL's style: lower case, no full stop, the offending value named.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// Adds the DETAIL: what was expected, as a sentence.
    pub fn detail(mut self, detail: impl Into<String>) -> Failure {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the HINT: a statement to run.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Prefixes the message with the object it is about.
    pub fn about(mut self, object: &str) -> Failure {
        self.message = format!("{object}: {}", self.message);
        self
    }

    /// Returns the primary message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns SQLSTATE, message, DETAIL and HINT.
    #[cfg(not(feature = "pg15"))]
    pub fn into_parts(self) -> (Code, String, Option<String>, Option<String>) {
        (self.code, self.message, self.detail, self.hint)
    }

    /// Returns whether the error is about a value, not about the store, the role's rights or the server.
    #[cfg(not(feature = "pg15"))]
    pub fn is_about_input(&self) -> bool {
        !matches!(
            self.code,
            Code::ERRCODE_INTERNAL_ERROR
                | Code::ERRCODE_OUT_OF_MEMORY
                | Code::ERRCODE_INSUFFICIENT_RESOURCES
                | Code::ERRCODE_INVALID_SCHEMA_NAME
                | Code::ERRCODE_INSUFFICIENT_PRIVILEGE
                | Code::ERRCODE_FEATURE_NOT_SUPPORTED
                | Code::ERRCODE_OBJECT_IN_USE
                | Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
                | Code::ERRCODE_WRONG_OBJECT_TYPE
                | Code::ERRCODE_DATATYPE_MISMATCH
        )
    }

    /// Returns the SQLSTATE.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Raises the error; destructors on the stack run first.
    pub fn raise(self) -> ! {
        let mut report = ErrorReport::new(self.code, self.message, function_name!());
        if let Some(detail) = self.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// The boundary of every SQL function: returns the value, or raises the error.
pub fn or_raise<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(failure) => failure.raise(),
    }
}

/// Requires an argument of a function that is not STRICT because other arguments may be NULL.
pub fn required<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("argument \"{name}\" must not be null"),
        )
    })
}

/// Sends a message at level WARNING.
pub fn warning(message: &str) {
    ErrorReport::new(Code::ERRCODE_WARNING, message.to_owned(), function_name!())
        .report(PgLogLevel::WARNING);
}

/// Sends a message at level NOTICE.
pub fn notice(message: &str) {
    ErrorReport::new(
        Code::ERRCODE_SUCCESSFUL_COMPLETION,
        message.to_owned(),
        function_name!(),
    )
    .report(PgLogLevel::NOTICE);
}

/// Sends a message at level INFO.
pub fn info(message: &str) {
    ErrorReport::new(
        Code::ERRCODE_SUCCESSFUL_COMPLETION,
        message.to_owned(),
        function_name!(),
    )
    .report(PgLogLevel::INFO);
}

impl From<pgrx::spi::Error> for Failure {
    fn from(e: pgrx::spi::Error) -> Failure {
        Failure::new(Code::ERRCODE_INTERNAL_ERROR, format!("query failed: {e}"))
    }
}

impl From<names::Error> for Failure {
    fn from(e: names::Error) -> Failure {
        from_pure(
            Code::ERRCODE_INVALID_NAME,
            e.to_string(),
            Some(e.detail().to_owned()),
        )
    }
}

/// Combines an SQLSTATE with the message and DETAIL of a pure crate's error.
fn from_pure(code: Code, message: String, detail: Option<String>) -> Failure {
    Failure {
        code,
        message,
        detail,
        hint: None,
    }
}

impl From<tensor::Error> for Failure {
    fn from(e: tensor::Error) -> Failure {
        Failure {
            hint: e.hint(),
            ..from_pure(tensor_code(&e), e.to_string(), e.detail())
        }
    }
}

fn tensor_code(e: &tensor::Error) -> Code {
    use tensor::Error as E;
    match e {
        E::UnknownDType(_) => Code::ERRCODE_UNDEFINED_OBJECT,
        E::UnknownDTypeCode(_)
        | E::TruncatedHeader { .. }
        | E::UnknownVersion(_)
        | E::UnknownFlags(_)
        | E::TruncatedPayload { .. }
        | E::TrailingBytes { .. } => Code::ERRCODE_INVALID_BINARY_REPRESENTATION,
        E::RankTooLarge(_)
        | E::ShapeTooLarge(_)
        | E::TooLarge { .. }
        | E::TextTooDeep { .. }
        | E::TypmodTooLong(_) => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        E::NegativeDimension(_)
        | E::NoDimension { .. }
        | E::InvalidTypmodWord(_)
        | E::InvalidTypmod(_)
        | E::SliceSyntax { .. }
        | E::SliceEllipsis
        | E::SliceStep(_) => Code::ERRCODE_INVALID_PARAMETER_VALUE,
        E::PartialBlock { .. }
        | E::WrongLength { .. }
        | E::TypmodMismatch { .. }
        | E::SelectionShape { .. } => Code::ERRCODE_DATA_EXCEPTION,
        E::EmptyText
        | E::UnterminatedText { .. }
        | E::UnexpectedToken { .. }
        | E::TrailingText { .. }
        | E::RaggedBrackets { .. }
        | E::UnevenNesting { .. }
        | E::StatedShape { .. }
        | E::ShapeRequired { .. }
        | E::InvalidElement { .. } => Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
        E::ElementOutOfRange { .. } | E::DimensionOutOfRange { .. } | E::CastOutOfRange { .. } => {
            Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE
        }
        E::SliceRank { .. } | E::SliceIndex { .. } => Code::ERRCODE_ARRAY_ELEMENT_ERROR,
        E::SliceUnsupported(_)
        | E::SliceList(_)
        | E::SlicePartialBlock { .. }
        | E::NotNumeric(_) => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        E::CastRefused { .. } => Code::ERRCODE_CANNOT_COERCE,
        _ => Code::ERRCODE_DATA_EXCEPTION,
    }
}

impl From<chunk::Error> for Failure {
    fn from(e: chunk::Error) -> Failure {
        if let chunk::Error::Tensor(e) = e {
            return e.into();
        }
        let failure = from_pure(chunk_code(&e), e.to_string(), e.detail());
        match failure.code {
            Code::ERRCODE_DATA_CORRUPTED => {
                failure.hint("SELECT * FROM modelstore.verify_store();")
            }
            _ => failure,
        }
    }
}

fn chunk_code(e: &chunk::Error) -> Code {
    use chunk::Error as E;
    match e {
        E::Truncated { .. }
        | E::TrailingBytes { .. }
        | E::Version(_)
        | E::Codec(_)
        | E::Width(_)
        | E::Flags(_)
        | E::RawLength(_)
        | E::BlockSize(_)
        | E::IndexEntry { .. }
        | E::Plane { .. }
        | E::Sparse { .. } => Code::ERRCODE_INVALID_BINARY_REPRESENTATION,
        E::ChunkSize(_) | E::Range { .. } | E::OutputLength { .. } | E::BaseMissing(_) => {
            Code::ERRCODE_INVALID_PARAMETER_VALUE
        }
        E::TooManyPieces { .. } => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        E::HashLength(_)
        | E::BaseLength { .. }
        | E::Missing(_)
        | E::HashMismatch { .. }
        | E::DeltaTooDeep(_)
        | E::DeltaCycle(_)
        | E::DamagedChunk(_)
        | E::Hole { .. }
        | E::PieceTooLarge(_)
        | E::ChunksLength { .. }
        | E::ContentHash(_)
        | E::TensorSize { .. }
        | E::DamagedTensor(_) => Code::ERRCODE_DATA_CORRUPTED,
        E::NotStored(_) | E::SourceChanged(_) => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        E::SourceEnd { .. } => Code::ERRCODE_INTERNAL_ERROR,
        E::Threads { .. } => Code::ERRCODE_INSUFFICIENT_RESOURCES,
        E::WorkerPanic(text) if text == OUT_OF_MEMORY => Code::ERRCODE_OUT_OF_MEMORY,
        E::WorkerPanic(_) => Code::ERRCODE_INTERNAL_ERROR,
        _ => Code::ERRCODE_DATA_EXCEPTION,
    }
}

impl From<formats::Error> for Failure {
    fn from(e: formats::Error) -> Failure {
        from_pure(format_code(e.kind()), e.to_string(), e.detail())
    }
}

impl From<archive::Error> for Failure {
    fn from(e: archive::Error) -> Failure {
        use archive::Error as E;
        let code = match e {
            E::NotTar | E::Kind { .. } => Code::ERRCODE_WRONG_OBJECT_TYPE,
            E::Truncated { .. } => Code::ERRCODE_STRING_DATA_LENGTH_MISMATCH,
            E::Checksum { .. } => Code::ERRCODE_DATA_CORRUPTED,
            E::Number { .. } => Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            E::Extended { .. } => Code::ERRCODE_BAD_COPY_FILE_FORMAT,
            E::ExtendedTooLong { .. } | E::TooMany { .. } | E::ManifestTooLong { .. } => {
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED
            }
            E::Name { .. } => Code::ERRCODE_INVALID_NAME,
            E::Duplicate { .. } | E::Unexpected { .. } => Code::ERRCODE_DUPLICATE_FILE,
            E::Missing { .. } => Code::ERRCODE_UNDEFINED_FILE,
            E::Size { .. } => Code::ERRCODE_INVALID_BINARY_REPRESENTATION,
            E::Manifest { .. } | E::Metrics { .. } => Code::ERRCODE_INVALID_JSON_TEXT,
            E::Version { .. } => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            _ => Code::ERRCODE_DATA_EXCEPTION,
        };
        from_pure(code, e.to_string(), e.detail())
    }
}

impl From<training::Error> for Failure {
    fn from(e: training::Error) -> Failure {
        use training::Error as E;
        let code = match e {
            E::TooManyLayers(_) => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            E::CostOverflow(_) => Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            E::BudgetTooSmall { .. } => Code::ERRCODE_INSUFFICIENT_RESOURCES,
            E::Cancelled => Code::ERRCODE_QUERY_CANCELED,
            _ => Code::ERRCODE_INVALID_PARAMETER_VALUE,
        };
        from_pure(code, e.to_string(), e.detail())
    }
}

impl From<atom::Error> for Failure {
    fn from(e: atom::Error) -> Failure {
        use atom::Error as E;
        let code = match e {
            E::EmptyBox { .. } | E::MaxRanges(_) => Code::ERRCODE_INVALID_PARAMETER_VALUE,
            E::Lengths(..) => Code::ERRCODE_ARRAY_ELEMENT_ERROR,
            E::TooManyRanges => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            E::ModalityName(_) | E::ModalityNumber(_) | E::Key(_) => {
                Code::ERRCODE_INVALID_PARAMETER_VALUE
            }
            _ => Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        };
        from_pure(code, e.to_string(), e.detail())
    }
}

impl From<plot::Error> for Failure {
    fn from(e: plot::Error) -> Failure {
        let code = match e {
            plot::Error::Size(..)
            | plot::Error::Limit(_)
            | plot::Error::Limits(..)
            | plot::Error::Smoothing(_) => Code::ERRCODE_INVALID_PARAMETER_VALUE,
            _ => Code::ERRCODE_INTERNAL_ERROR,
        };
        from_pure(code, e.to_string(), e.detail())
    }
}

/// Each way a file can be malformed has its own SQLSTATE, the closest standard one, so that clients need not parse
/// messages.
fn format_code(kind: formats::ErrorKind) -> Code {
    use formats::ErrorKind as K;
    match kind {
        K::Truncated => Code::ERRCODE_STRING_DATA_LENGTH_MISMATCH,
        K::OtherFormat => Code::ERRCODE_WRONG_OBJECT_TYPE,
        K::HeaderTooLong => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        K::NotAnObject => Code::ERRCODE_SQL_JSON_OBJECT_NOT_FOUND,
        K::InvalidUtf8 => Code::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
        K::InvalidJson => Code::ERRCODE_INVALID_JSON_TEXT,
        K::InvalidYaml => Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
        K::WrongType => Code::ERRCODE_DATATYPE_MISMATCH,
        K::DuplicateKey => Code::ERRCODE_DUPLICATE_JSON_OBJECT_KEY_VALUE,
        K::UnknownField => Code::ERRCODE_UNDEFINED_COLUMN,
        K::MissingField => Code::ERRCODE_SQL_JSON_MEMBER_NOT_FOUND,
        K::MissingKey => Code::ERRCODE_UNDEFINED_PARAMETER,
        K::UnknownDtype => Code::ERRCODE_UNDEFINED_OBJECT,
        K::UnsupportedDtype => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        K::InvalidNumber => Code::ERRCODE_NON_NUMERIC_SQL_JSON_ITEM,
        K::InvalidShape => Code::ERRCODE_ARRAY_ELEMENT_ERROR,
        K::PartialByte => Code::ERRCODE_INVALID_PARAMETER_VALUE,
        K::OffsetCount => Code::ERRCODE_TOO_MANY_JSON_ARRAY_ELEMENTS,
        K::OffsetOrder => Code::ERRCODE_SUBSTRING_ERROR,
        K::OffsetOverflow => Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        K::WrongLength => Code::ERRCODE_INVALID_BINARY_REPRESENTATION,
        K::Hole => Code::ERRCODE_BAD_COPY_FILE_FORMAT,
        K::Overlap => Code::ERRCODE_EXCLUSION_VIOLATION,
        K::TrailingBytes => Code::ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
        K::EmptyName => Code::ERRCODE_ZERO_LENGTH_CHARACTER_STRING,
        K::NulCharacter => Code::ERRCODE_UNTRANSLATABLE_CHARACTER,
        K::NameTooLong => Code::ERRCODE_NAME_TOO_LONG,
        K::ReservedName => Code::ERRCODE_RESERVED_NAME,
        K::InvalidFileName => Code::ERRCODE_INVALID_NAME,
        K::MissingFile => Code::ERRCODE_UNDEFINED_FILE,
        K::UnexpectedFile => Code::ERRCODE_DUPLICATE_FILE,
        K::RepeatedFile => Code::ERRCODE_DUPLICATE_OBJECT,
        K::MissingTensor => Code::ERRCODE_FOREIGN_KEY_VIOLATION,
        K::UnexpectedTensor => Code::ERRCODE_CHECK_VIOLATION,
        K::MisplacedTensor => Code::ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION,
        _ => model_delta_code(kind),
    }
}

/// A malformed model delta gets the SQLSTATE that a safetensors file with the same defect gets.
fn model_delta_code(kind: formats::ErrorKind) -> Code {
    use formats::ErrorKind as D;
    match kind {
        D::NotAModelDelta => Code::ERRCODE_WRONG_OBJECT_TYPE,
        D::UnknownVersion => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        D::UnknownKey => Code::ERRCODE_UNDEFINED_COLUMN,
        D::EmptyText => Code::ERRCODE_ZERO_LENGTH_CHARACTER_STRING,
        D::InvalidHash => Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
        D::InvalidTargetFile => Code::ERRCODE_INVALID_NAME,
        D::WeightMismatch => Code::ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION,
        D::WeightCount => Code::ERRCODE_CARDINALITY_VIOLATION,
        D::NoChunks => Code::ERRCODE_SQL_JSON_MEMBER_NOT_FOUND,
        D::RawBytes | D::StoredBytes => Code::ERRCODE_INVALID_BINARY_REPRESENTATION,
        _ => Code::ERRCODE_DATA_EXCEPTION,
    }
}
