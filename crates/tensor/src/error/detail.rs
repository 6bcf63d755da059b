//! The DETAIL and HINT of errors.

use crate::dtype::Kind;
use crate::{DType, Error, Shape};

impl Error {
    /// Returns a statement to run instead; `None` if there is none.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::SliceList(list) => Some(format!("SELECT modelstore.slice(tensor, '{list}');")),
            // It may have been a literal, whose digits f32 has cost already.
            Error::TypmodMismatch {
                dtype: DType::F32,
                converts_to: Some(to),
                ..
            } => Some(format!("SELECT '{to}:[1,2]'::modelstore.tensor;")),
            Error::TypmodMismatch {
                converts_to: Some(to),
                ..
            } => Some(format!("SELECT modelstore.astype(tensor, '{to}');")),
            Error::SliceUnsupported(_) => Some("SELECT modelstore.slice(tensor, '0:2, :');".into()),
            _ => None,
        }
    }

    /// Returns what was expected, as a sentence; `None` if the message is enough.
    pub fn detail(&self) -> Option<String> {
        match self {
            Error::UnknownDType(_) | Error::UnknownDTypeCode(_) => {
                let names: Vec<_> = DType::ALL.iter().map(|d| d.name()).collect();
                Some(format!("Known dtypes are {}.", names.join(", ")))
            }
            Error::RankTooLarge(_) => Some(format!(
                "A tensor has at most {} dimensions.",
                Shape::MAX_RANK
            )),
            Error::NegativeDimension(_) => Some("A dimension is zero or more.".into()),
            Error::NoDimension { .. } => Some(
                "A dimension of -1 stands for the elements divided by the product of the others, and only one can be -1.".into(),
            ),
            Error::PartialBlock { dtype, .. } => Some(format!(
                "Elements of dtype {dtype} come in groups of {}, along the last dimension for block types.",
                dtype.block_elements()
            )),
            Error::InvalidTypmodWord(_) => {
                Some("A type modifier is an optional dtype, then dimensions: numbers, or '*' for any.".into())
            }
            Error::TypmodTooLong(_) => {
                Some("A type modifier has 31 bits. Use '*' for a dimension, or a CHECK constraint on modelstore.shape().".into())
            }
            Error::TruncatedHeader { .. } => {
                Some("A tensor starts with 4 bytes and 8 bytes for each dimension.".into())
            }
            Error::UnknownVersion(_) => Some(format!(
                "This version of the library reads version {}.",
                crate::layout::VERSION
            )),
            Error::UnknownFlags(_) => Some("All flags are reserved and must be zero.".into()),
            Error::UnexpectedToken { expected, .. } => Some(format!("Expected {expected}.")),
            Error::TrailingText { .. } => {
                Some("A tensor ends with its outermost bracket, or after one element.".into())
            }
            Error::RaggedBrackets { .. } | Error::UnevenNesting { .. } => Some(
                "All brackets of one level must hold the same number of items, and all elements be equally deep.".into(),
            ),
            Error::TextTooDeep { .. } => Some(format!(
                "A tensor has at most {} dimensions.",
                Shape::MAX_RANK
            )),
            Error::ShapeRequired { dtype } => {
                Some(format!("Write the shape after the dtype, as in {dtype}(2,64):\\x0123."))
            }
            Error::InvalidElement { dtype, .. } => Some(expected_element(*dtype)),
            Error::SliceSyntax { .. } => Some(
                "A slice is a comma-separated list of integers, start:stop:step and at most one \"...\".".into(),
            ),
            Error::SliceUnsupported(_) => Some(
                "Supported are integers, start:stop:step with a positive step, and one \"...\".".into(),
            ),
            Error::SliceList(_) => Some(
                "numpy takes [0, 1] inside its brackets as rows to gather, which slices do not. Without brackets the integers index one dimension each.".into(),
            ),
            Error::SliceStep(_) => Some("A step is one or more.".into()),
            Error::SliceEllipsis => Some("Only one dimension list can be left open.".into()),
            Error::SlicePartialBlock { dtype } => Some(format!(
                "Elements of dtype {dtype} come in groups of {}.",
                dtype.block_elements()
            )),
            Error::NotNumeric(_) => {
                Some("Tensors of this dtype are stored and returned bit for bit only.".into())
            }
            Error::CastRefused { from, to } => Some(cast_detail(*from, *to)),
            Error::CastOutOfRange { .. } => {
                Some("Casts to integers truncate towards zero and refuse what does not fit.".into())
            }
            _ => None,
        }
    }
}

fn expected_element(dtype: DType) -> String {
    match dtype.kind() {
        Kind::Bool => "Expected true, false, t, f, 1 or 0.".into(),
        Kind::Int => "Expected an integer.".into(),
        _ => "Expected a decimal number, NaN, nan(0x...) with the bits of a NaN, Infinity or -Infinity."
            .into(),
    }
}

fn cast_detail(from: DType, to: DType) -> String {
    match (from.kind(), to.kind()) {
        (_, Kind::Quantised) => "Quantising is not supported.".into(),
        (Kind::Opaque, _) => format!("Elements of dtype {from} are kept bit for bit only."),
        _ => format!("Elements of dtype {to} are kept bit for bit only."),
    }
}
