//! Errors of a plot.

use crate::line_plot::{MAX_SIZE, MIN_SIZE};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each defect of the input. `Display` is a PostgreSQL primary message: lower case, no full stop, the
/// offending value named. [`Error::detail`] adds what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A width or height outside the limits.
    #[error("plot {0} of {1} pixels is out of range")]
    Size(&'static str, u32),
    /// A limit of the vertical axis that it cannot show.
    #[error("limit {0} is out of range")]
    Limit(String),
    /// Limits in the wrong order.
    #[error("limits {0} and {1} leave no range")]
    Limits(String, String),
    /// A share of the smoothing outside 0 to 1.
    #[error("smoothing {0} is out of range")]
    Smoothing(String),
    /// The drawing library failed; the text is its message.
    #[error("could not draw plot: {0}")]
    Drawing(String),
}

impl Error {
    /// Returns what was expected, as a sentence; `None` if the message is enough.
    pub fn detail(&self) -> Option<String> {
        match self {
            Error::Size(..) => Some(format!(
                "Width and height are {MIN_SIZE} to {MAX_SIZE} pixels."
            )),
            Error::Limit(_) => {
                Some("A limit is a finite number, above zero on a logarithmic axis.".into())
            }
            Error::Limits(..) => Some("The lower limit is less than the upper one.".into()),
            Error::Smoothing(_) => Some("Smoothing is from 0, for none, to below 1.".into()),
            Error::Drawing(_) => None,
        }
    }
}
