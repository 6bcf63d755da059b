//! What can be wrong with the input of this crate.

use crate::hilbert::{MAX_AXES, MAX_BITS, MAX_RANGES, max_order};
use crate::key::Key;
use crate::modality::Modality;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each way the input can be wrong. `Display` is a PostgreSQL primary message: lower case, no
/// full stop, the offending value named. [`Error::detail`] adds what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number of axes without a Hilbert curve here.
    #[error("hilbert curve of {0} axes is out of range")]
    Axes(usize),
    /// An order whose codes would be empty or too long.
    #[error("order {order} of a hilbert curve is out of range")]
    Order {
        /// The order asked for.
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
    /// A code past the end of the curve.
    #[error("hilbert code {value} is out of range")]
    Code {
        /// The code.
        value: i128,
        /// Bits of the largest code.
        bits: u32,
    },
    /// One element of an array is wrong.
    #[error("element {index}: {source}")]
    Element {
        /// Its place in the array, from 0.
        index: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// Arrays that belong together and are not equally long.
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
    /// A wish for no range at all, or for more than [`MAX_RANGES`].
    #[error("maximum of {0} ranges is out of range")]
    MaxRanges(usize),
    /// A box that no list of [`MAX_RANGES`] ranges covers exactly.
    #[error("box needs more than {MAX_RANGES} ranges of hilbert codes")]
    TooManyRanges,
    /// A modality of another name.
    #[error("modality \"{0}\" does not exist")]
    ModalityName(String),
    /// A modality of another number.
    #[error("modality {0} does not exist")]
    ModalityNumber(i64),
    /// Three codes that are not the key of any atom.
    #[error("({}, {}, {}) is not the key of an atom", .0.h_xy, .0.h_yz, .0.h_zm)]
    Key(Key),
}

impl Error {
    /// What was expected instead, as a sentence; `None` when the message says it all.
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

/// What an axis is called: x, y, z, m, and numbers after that.
fn axis_name(axis: usize) -> String {
    match axis {
        0..4 => ["x", "y", "z", "m"][axis].into(),
        _ => format!("{axis}"),
    }
}
