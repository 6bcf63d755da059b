//! Errors of the input of this crate.

use crate::hilbert::{MAX_AXES, MAX_BITS, MAX_RANGES, max_order};
use crate::key::Key;
use crate::modality::Modality;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each defect of the input. `Display` is a PostgreSQL primary message: lower case, no full stop, the
/// offending value named. [`Error::detail`] adds what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number of axes for which there is no curve here.
    #[error("hilbert curve of {0} axes is out of range")]
    Axes(usize),
    /// An order outside the range for these axes.
    #[error("order {order} of a hilbert curve is out of range")]
    Order {
        /// The requested order.
        order: i32,
        /// The axes of the curve.
        axes: usize,
    },
    /// A coordinate outside the grid.
    #[error("coordinate {} = {value} is out of range", axis_name(*.axis))]
    Coordinate {
        /// The axis, from 0.
        axis: usize,
        /// The coordinate.
        value: i128,
        /// The order of the curve.
        order: u32,
    },
    /// A code beyond the end of the curve.
    #[error("hilbert code {value} is out of range")]
    Code {
        /// The code.
        value: i128,
        /// Bits of the largest code.
        bits: u32,
    },
    /// An invalid element of an array.
    #[error("element {index}: {source}")]
    Element {
        /// Its index in the array, from 0.
        index: usize,
        /// The error of the element.
        source: Box<Error>,
    },
    /// Arrays that must have the same length and do not.
    #[error("arrays of {0} and {1} coordinates differ in length")]
    Lengths(usize, usize),
    /// A box whose lower corner is above its upper one.
    #[error("box from {min} to {max} along {} is empty", axis_name(*.axis))]
    EmptyBox {
        /// The axis, from 0.
        axis: usize,
        /// The lower corner's coordinate.
        min: i64,
        /// The upper corner's coordinate.
        max: i64,
    },
    /// A maximum of no ranges, or of more than [`MAX_RANGES`].
    #[error("maximum of {0} ranges is out of range")]
    MaxRanges(usize),
    /// A box that [`MAX_RANGES`] ranges cannot cover exactly.
    #[error("box needs more than {MAX_RANGES} ranges of hilbert codes")]
    TooManyRanges,
    /// An unknown name of a modality.
    #[error("modality \"{0}\" does not exist")]
    ModalityName(String),
    /// An unknown number of a modality.
    #[error("modality {0} does not exist")]
    ModalityNumber(i64),
    /// Three codes that are not the key of an atom.
    #[error("({}, {}, {}) is not the key of an atom", .0.h_xy, .0.h_yz, .0.h_zm)]
    Key(Key),
}

impl Error {
    /// Returns what was expected, as a sentence; `None` if the message is enough.
    pub fn detail(&self) -> Option<String> {
        match self {
            Error::Axes(_) => Some(format!("A curve has 2 to {MAX_AXES} axes.")),
            Error::Order { axes, .. } => Some(format!(
                "The order of a curve of {axes} axes is 1 to {}, for codes of at most {MAX_BITS} bits.",
                max_order(*axes)
            )),
            Error::Coordinate { order, .. } => Some(format!(
                "Coordinates at order {order} are 0 to {}.",
                (1u64 << order) - 1
            )),
            Error::Code { bits, .. } => Some(format!(
                "Codes of this curve are 0 to {}.",
                (1u64 << bits) - 1
            )),
            Error::Element { source, .. } => source.detail(),
            Error::MaxRanges(_) => Some(format!("A list has 1 to {MAX_RANGES} ranges.")),
            Error::TooManyRanges => {
                Some("A maximum of ranges covers more cells than the box.".into())
            }
            Error::ModalityName(_) => Some(format!(
                "Modalities are {}.",
                Modality::ALL.map(Modality::name).join(", ")
            )),
            Error::ModalityNumber(_) => Some("Modalities are 0 to 7.".into()),
            Error::Key(_) => Some(
                "Its codes are of (x, y) with the modality above it, of (y, z) and of (z, m), each of order 28.".into(),
            ),
            Error::Lengths(..) | Error::EmptyBox { .. } => None,
        }
    }
}

/// Returns the name of an axis: x, y, z, m, then numbers.
fn axis_name(axis: usize) -> String {
    match axis {
        0..4 => ["x", "y", "z", "m"][axis].into(),
        _ => format!("{axis}"),
    }
}
