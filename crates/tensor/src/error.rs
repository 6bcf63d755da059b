//! What can be wrong with a tensor, its text, its wire form or a request on it.

use crate::DType;

mod detail;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each way the input can be wrong. `Display` is a PostgreSQL primary message: lower case, no
/// full stop, the offending value named. [`Error::detail`] adds what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A dtype name that is not known.
    #[error("unknown tensor dtype \"{0}\"")]
    UnknownDType(String),
    /// A stored or sent dtype code that is not known.
    #[error("unknown tensor dtype code {0}")]
    UnknownDTypeCode(u8),
    /// More dimensions than [`crate::Shape::MAX_RANK`].
    #[error("tensor rank {0} is too large")]
    RankTooLarge(usize),
    /// A dimension below zero.
    #[error("tensor dimension {0} is negative")]
    NegativeDimension(i64),
    /// More elements than can be counted.
    #[error("tensor shape {0} is too large")]
    ShapeTooLarge(String),
    /// The product of the dimensions, or its size in bytes, does not fit.
    #[error("tensor of shape {shape} and dtype {dtype} is too large")]
    TooLarge {
        /// The shape as text.
        shape: String,
        /// The element type.
        dtype: DType,
    },
    /// The elements do not fill whole groups of a sub-byte or block type.
    #[error("tensor of shape {shape} does not fill whole groups of dtype {dtype}")]
    PartialBlock {
        /// The shape as text.
        shape: String,
        /// The element type.
        dtype: DType,
    },
    /// Shape and dtype ask for another number of bytes than there are.
    #[error("tensor of shape {shape} and dtype {dtype} needs {expected} bytes, not {actual}")]
    WrongLength {
        /// The shape as text.
        shape: String,
        /// The element type.
        dtype: DType,
        /// Bytes the shape needs.
        expected: u64,
        /// Bytes given.
        actual: u64,
    },
    /// A word between the parentheses of a type name that is neither a dtype nor a dimension.
    #[error("invalid tensor type modifier \"{0}\"")]
    InvalidTypmodWord(String),
    /// A type modifier that does not fit the bits there are.
    #[error("tensor type modifier {0} is too long")]
    TypmodTooLong(String),
    /// A stored type modifier that was not made here.
    #[error("invalid tensor type modifier {0}")]
    InvalidTypmod(i32),
    /// A tensor that a type modifier does not allow.
    #[error("tensor of dtype {dtype} and shape {shape} does not match type tensor{expected}")]
    TypmodMismatch {
        /// The modifier.
        expected: String,
        /// The tensor's dtype.
        dtype: DType,
        /// The tensor's shape.
        shape: String,
    },
    /// A header that ends early.
    #[error("tensor header needs {needed} bytes, not {actual}")]
    TruncatedHeader {
        /// Bytes the header needs as far as it was read.
        needed: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// A version byte that is not known.
    #[error("unknown tensor format version {0}")]
    UnknownVersion(u8),
    /// Flag bits that are reserved.
    #[error("tensor header has unknown flags {0:#04x}")]
    UnknownFlags(u8),
    /// Fewer element bytes than the header announces.
    #[error("tensor of {actual} bytes is truncated, its header announces {expected}")]
    TruncatedPayload {
        /// Bytes of header and elements.
        expected: u64,
        /// Bytes given.
        actual: u64,
    },
    /// More bytes than the header announces.
    #[error("tensor of {actual} bytes has trailing bytes, its header announces {expected}")]
    TrailingBytes {
        /// Bytes of header and elements.
        expected: u64,
        /// Bytes given.
        actual: u64,
    },
    /// Text with nothing in it.
    #[error("tensor text is empty")]
    EmptyText,
    /// Text that stops in the middle.
    #[error("tensor text ends at position {position}, where {expected} should be")]
    UnterminatedText {
        /// One past the last character, counted from 1.
        position: usize,
        /// What should follow.
        expected: &'static str,
    },
    /// Something that cannot stand where it does.
    #[error("unexpected \"{found}\" at position {position} of tensor text")]
    UnexpectedToken {
        /// The token.
        found: String,
        /// Its first character, counted from 1.
        position: usize,
        /// What could stand there.
        expected: &'static str,
    },
    /// Text after the closing bracket or the scalar.
    #[error("trailing \"{found}\" at position {position} of tensor text")]
    TrailingText {
        /// The first token of it.
        found: String,
        /// Its first character, counted from 1.
        position: usize,
    },
    /// Brackets of one level with different numbers of items.
    #[error(
        "brackets that end at position {position} of tensor text hold {actual} items, not {expected}"
    )]
    RaggedBrackets {
        /// The closing bracket, counted from 1.
        position: usize,
        /// Items of the brackets before.
        expected: u64,
        /// Items of these brackets.
        actual: u64,
    },
    /// An element or bracket that is deeper or less deep than the ones before.
    #[error(
        "\"{found}\" at position {position} of tensor text is at depth {actual}, not {expected}"
    )]
    UnevenNesting {
        /// The token.
        found: String,
        /// Its first character, counted from 1.
        position: usize,
        /// Brackets around what came before.
        expected: usize,
        /// Brackets around this.
        actual: usize,
    },
    /// More brackets than a tensor has dimensions.
    #[error("brackets at position {position} of tensor text are nested too deeply")]
    TextTooDeep {
        /// The bracket, counted from 1.
        position: usize,
    },
    /// A stated shape that the brackets contradict.
    #[error("tensor text states shape {stated} but its brackets have shape {actual}")]
    StatedShape {
        /// The shape before the colon.
        stated: String,
        /// The shape of the brackets.
        actual: String,
    },
    /// Hexadecimal elements without a shape.
    #[error("tensor text of dtype {dtype} has hexadecimal elements but no shape")]
    ShapeRequired {
        /// The element type.
        dtype: DType,
    },
    /// A token that is no element of the dtype.
    #[error("invalid {dtype} element \"{token}\" at position {position} of tensor text")]
    InvalidElement {
        /// The token.
        token: String,
        /// The element type.
        dtype: DType,
        /// Its first character, counted from 1.
        position: usize,
    },
    /// An element that is beyond the dtype.
    #[error("\"{token}\" at position {position} of tensor text is out of range for dtype {dtype}")]
    ElementOutOfRange {
        /// The token.
        token: String,
        /// The element type.
        dtype: DType,
        /// Its first character, counted from 1.
        position: usize,
    },
    /// A stated dimension that is beyond 64 bits.
    #[error("tensor dimension \"{token}\" at position {position} of tensor text is out of range")]
    DimensionOutOfRange {
        /// The token.
        token: String,
        /// Its first character, counted from 1.
        position: usize,
    },
    /// A slice that cannot be read.
    #[error("unexpected \"{found}\" at position {position} of slice")]
    SliceSyntax {
        /// The token, or `end of text`.
        found: String,
        /// Its first character, counted from 1.
        position: usize,
    },
    /// Indexing that numpy has and slices here do not.
    #[error("slice item \"{0}\" is not supported")]
    SliceUnsupported(String),
    /// Integers in brackets, which numpy reads in two ways.
    #[error("slice \"[{0}]\" could be a list of indices")]
    SliceList(String),
    /// A step below one.
    #[error("slice step {0} is not positive")]
    SliceStep(i128),
    /// Two times `...`.
    #[error("slice has more than one ellipsis")]
    SliceEllipsis,
    /// More items than dimensions.
    #[error("slice has {given} items for a tensor of rank {rank}")]
    SliceRank {
        /// Items given.
        given: usize,
        /// Dimensions there are.
        rank: usize,
    },
    /// An integer outside its dimension.
    #[error("index {index} is out of range for dimension {axis} of size {size}")]
    SliceIndex {
        /// The index as written.
        index: i128,
        /// The dimension, from 0.
        axis: usize,
        /// Its size.
        size: u64,
    },
    /// A selection used on a tensor of another shape.
    #[error("slice of a tensor of shape {expected} does not apply to shape {actual}")]
    SelectionShape {
        /// The shape it was resolved for.
        expected: String,
        /// The shape it was used on.
        actual: String,
    },
    /// A selection that cuts through a group of a sub-byte or block type.
    #[error("slice does not select whole groups of dtype {dtype}")]
    SlicePartialBlock {
        /// The element type.
        dtype: DType,
    },
    /// Arithmetic on a dtype that has none.
    #[error("dtype {0} has no arithmetic")]
    NotNumeric(DType),
    /// A conversion that does not exist.
    #[error("cannot cast tensor of dtype {from} to dtype {to}")]
    CastRefused {
        /// The dtype there is.
        from: DType,
        /// The dtype asked for.
        to: DType,
    },
    /// An element that the other dtype does not have.
    #[error("element {index} of tensor is {value}, out of range for dtype {to}")]
    CastOutOfRange {
        /// The element as text.
        value: String,
        /// Its row-major position, from 0.
        index: u64,
        /// The dtype asked for.
        to: DType,
    },
}
