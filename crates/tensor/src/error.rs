//! Errors of a tensor, its text, its wire form or a request on it.

use crate::DType;

mod detail;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each defect of the input. `Display` is a PostgreSQL primary message: lower case, no full stop, the
/// offending value named. [`Error::detail`] adds what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An unknown dtype name.
    #[error("unknown tensor dtype \"{0}\"")]
    UnknownDType(String),
    /// An unknown dtype code, stored or sent.
    #[error("unknown tensor dtype code {0}")]
    UnknownDTypeCode(u8),
    /// More dimensions than [`crate::Shape::MAX_RANK`].
    #[error("tensor rank {0} is too large")]
    RankTooLarge(usize),
    /// A dimension below zero.
    #[error("tensor dimension {0} is negative")]
    NegativeDimension(i64),
    /// Dimensions with a -1 that no number can take the place of.
    #[error("cannot reshape {elements} elements to ({})", .dims.iter().map(i64::to_string).collect::<Vec<_>>().join(","))]
    NoDimension {
        /// Elements of the tensor.
        elements: u64,
        /// The dimensions asked for.
        dims: Vec<i64>,
    },
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
    /// A number of bytes that does not match shape and dtype.
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
    /// A word in the parentheses of a type name that is neither a dtype nor a dimension.
    #[error("invalid tensor type modifier \"{0}\"")]
    InvalidTypmodWord(String),
    /// A type modifier that does not fit into the available bits.
    #[error("tensor type modifier {0} is too long")]
    TypmodTooLong(String),
    /// A stored type modifier that this library does not create.
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
        /// The dtype it can be converted to, if its shape fits.
        converts_to: Option<DType>,
    },
    /// A header that ends early.
    #[error("tensor header needs {needed} bytes, not {actual}")]
    TruncatedHeader {
        /// Bytes the header needs, as far as it was parsed.
        needed: usize,
        /// Bytes given.
        actual: usize,
    },
    /// An unknown version byte.
    #[error("unknown tensor format version {0}")]
    UnknownVersion(u8),
    /// Reserved flag bits that are set.
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
    /// Empty text.
    #[error("tensor text is empty")]
    EmptyText,
    /// Text that ends too early.
    #[error("tensor text ends at position {position}, where {expected} should be")]
    UnterminatedText {
        /// One past the last character, counted from 1.
        position: usize,
        /// What should follow.
        expected: &'static str,
    },
    /// A token that is not allowed at its position.
    #[error("unexpected \"{found}\" at position {position} of tensor text")]
    UnexpectedToken {
        /// The token.
        found: String,
        /// Its first character, counted from 1.
        position: usize,
        /// What is allowed there.
        expected: &'static str,
    },
    /// Text after the closing bracket or the scalar.
    #[error("trailing \"{found}\" at position {position} of tensor text")]
    TrailingText {
        /// The first token after it.
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
        /// Items of the previous brackets.
        expected: u64,
        /// Items of these brackets.
        actual: u64,
    },
    /// An element or bracket at a different depth than the previous ones.
    #[error(
        "\"{found}\" at position {position} of tensor text is at depth {actual}, not {expected}"
    )]
    UnevenNesting {
        /// The token.
        found: String,
        /// Its first character, counted from 1.
        position: usize,
        /// Depth of the previous ones.
        expected: usize,
        /// Depth of this one.
        actual: usize,
    },
    /// More brackets than a tensor has dimensions.
    #[error("brackets at position {position} of tensor text are nested too deeply")]
    TextTooDeep {
        /// The bracket, counted from 1.
        position: usize,
    },
    /// A stated shape that contradicts the brackets.
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
    /// A token that is not an element of the dtype.
    #[error("invalid {dtype} element \"{token}\" at position {position} of tensor text")]
    InvalidElement {
        /// The token.
        token: String,
        /// The element type.
        dtype: DType,
        /// Its first character, counted from 1.
        position: usize,
    },
    /// An element out of range of the dtype.
    #[error("\"{token}\" at position {position} of tensor text is out of range for dtype {dtype}")]
    ElementOutOfRange {
        /// The token.
        token: String,
        /// The element type.
        dtype: DType,
        /// Its first character, counted from 1.
        position: usize,
    },
    /// A stated dimension that exceeds 64 bits.
    #[error("tensor dimension \"{token}\" at position {position} of tensor text is out of range")]
    DimensionOutOfRange {
        /// The token.
        token: String,
        /// Its first character, counted from 1.
        position: usize,
    },
    /// A malformed slice.
    #[error("unexpected \"{found}\" at position {position} of slice")]
    SliceSyntax {
        /// The token, or `end of text`.
        found: String,
        /// Its first character, counted from 1.
        position: usize,
    },
    /// Indexing that numpy supports and slices here do not.
    #[error("slice item \"{0}\" is not supported")]
    SliceUnsupported(String),
    /// Integers in brackets, which numpy reads in two ways.
    #[error("slice \"[{0}]\" could be a list of indices")]
    SliceList(String),
    /// A step below one.
    #[error("slice step {0} is not positive")]
    SliceStep(i128),
    /// A second `...`.
    #[error("slice has more than one ellipsis")]
    SliceEllipsis,
    /// More items than dimensions.
    #[error("slice has {given} items for a tensor of rank {rank}")]
    SliceRank {
        /// Items given.
        given: usize,
        /// Dimensions of the tensor.
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
    /// A selection used on a tensor of a different shape.
    #[error("slice of a tensor of shape {expected} does not apply to shape {actual}")]
    SelectionShape {
        /// The shape it was resolved for.
        expected: String,
        /// The shape it was used on.
        actual: String,
    },
    /// A selection that splits a group of a sub-byte or block type.
    #[error("slice does not select whole groups of dtype {dtype}")]
    SlicePartialBlock {
        /// The element type.
        dtype: DType,
    },
    /// Arithmetic on a dtype without arithmetic.
    #[error("dtype {0} has no arithmetic")]
    NotNumeric(DType),
    /// A conversion that is not supported.
    #[error("cannot cast tensor of dtype {from} to dtype {to}")]
    CastRefused {
        /// The source dtype.
        from: DType,
        /// The target dtype.
        to: DType,
    },
    /// An element that the target dtype cannot represent.
    #[error("element {index} of tensor is {value}, out of range for dtype {to}")]
    CastOutOfRange {
        /// The element as text.
        value: String,
        /// Its row-major position, from 0.
        index: u64,
        /// The target dtype.
        to: DType,
    },
}
