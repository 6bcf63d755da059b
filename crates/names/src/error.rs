//! Errors of a text that names nothing.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each defect of the text. `Display` is a PostgreSQL primary message: lower case, no full stop, the
/// offending value named. [`Error::detail`] adds what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that names no model.
    #[error("invalid name of a model: \"{}\"", .0.escape_debug())]
    Model(String),
    /// Text that names no checkpoint.
    #[error("invalid name of a checkpoint: \"{}\"", .0.escape_debug())]
    Checkpoint(String),
    /// A checkpoint without a step.
    #[error("name of a checkpoint has no step: \"{}\"", .0.escape_debug())]
    NoStep(String),
    /// A step that is neither a number nor one of the words.
    #[error("invalid step \"{}\"", .0.escape_debug())]
    Step(String),
}

impl Error {
    /// Returns what was expected, as a sentence.
    pub fn detail(&self) -> &'static str {
        match self {
            Error::Model(_) => {
                "Expected a UUID, name, name:version or name@alias; none of the three contains : @ or #."
            }
            Error::Checkpoint(_) => {
                "Expected a UUID, or a model as name, name:version or name@alias, followed by #step, #latest or #best."
            }
            Error::NoStep(_) => "Expected #step, #latest or #best after the model.",
            Error::Step(_) => "Expected a number from 0, latest or best.",
        }
    }
}
