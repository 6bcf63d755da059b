//! Errors of a request to this crate.

use crate::gradient_checkpoints::MAX_LAYERS;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each defect of the input. `Display` is a PostgreSQL primary message: lower case, no full stop, the
/// offending value named. [`Error::detail`] adds what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A chain without layers.
    #[error("chain has no layers")]
    NoLayers,
    /// A chain longer than [`MAX_LAYERS`].
    #[error("chain of {0} layers is too long")]
    TooManyLayers(usize),
    /// Bytes or work of a whole chain that exceed 64 bits.
    #[error("{0} of the chain is out of range")]
    CostOverflow(&'static str),
    /// No plan fits the budget.
    #[error("memory budget of {budget} bytes is too small")]
    BudgetTooSmall {
        /// The budget in bytes.
        budget: u64,
        /// The smallest peak of any plan in bytes.
        smallest_peak: u64,
    },
    /// The caller asked to stop.
    #[error("planning was cancelled")]
    Cancelled,
    /// A size of a model that is zero.
    #[error("{0} must be above zero")]
    ZeroSize(&'static str),
    /// An interval of steps below one.
    #[error("interval of {0} steps is out of range")]
    Interval(i64),
}

impl Error {
    /// Returns what was expected, as a sentence; `None` if the message is enough.
    pub fn detail(&self) -> Option<String> {
        match self {
            Error::TooManyLayers(_) => Some(format!("A chain has at most {MAX_LAYERS} layers.")),
            Error::CostOverflow(_) => Some(format!("A sum is at most {}.", u64::MAX)),
            Error::BudgetTooSmall { smallest_peak, .. } => Some(format!(
                "The plan with the lowest memory use needs {smallest_peak} bytes."
            )),
            Error::Interval(_) => Some("An interval has at least 1 step.".into()),
            _ => None,
        }
    }
}
