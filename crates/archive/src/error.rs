//! Errors of an archive.

use modelstore_formats::file_name::MAX_FILE_PATH_BYTES;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant for each defect of an archive. `Display` is a PostgreSQL primary message: lower case, no full stop, the
/// offending value named. [`Error::detail`] adds what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first block is not the header of an entry.
    #[error("file is not a tar archive")]
    NotTar,
    /// The archive ends before an entry does, or before its end is marked.
    #[error("archive of {actual} bytes is truncated")]
    Truncated {
        /// Bytes that it has at least.
        needed: u64,
        /// Bytes found.
        actual: u64,
    },
    /// A header that does not match its checksum.
    #[error("header at byte {offset} of the archive does not match its checksum")]
    Checksum {
        /// Where the header starts.
        offset: u64,
    },
    /// A number of a header that is no number, negative, or beyond 64 bits.
    #[error("invalid size in the header at byte {offset} of the archive")]
    Number {
        /// Where the header starts.
        offset: u64,
    },
    /// An extended header that is malformed, or has no entry after it.
    #[error("malformed extended header at byte {offset} of the archive")]
    Extended {
        /// Where the header starts.
        offset: u64,
    },
    /// An extended header or a long name that is longer than any that is needed.
    #[error("extended header of {length} bytes at byte {offset} of the archive is too long")]
    ExtendedTooLong {
        /// Where the header starts.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// A name that is not UTF-8, or no relative path that stays below the folder.
    #[error("invalid file name \"{name}\" in the archive")]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// A link, a device, or anything else that is neither a file nor a folder.
    #[error("archive contains {what} \"{name}\"")]
    Kind {
        /// The name, shortened.
        name: String,
        /// What it is, with an article.
        what: &'static str,
    },
    /// Two entries of one name.
    #[error("archive contains file \"{name}\" twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// More entries than any model has.
    #[error("archive has more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// No file of this name.
    #[error("archive has no file \"{name}\"")]
    Missing {
        /// The name.
        name: String,
    },
    /// A file that the manifest does not list.
    #[error("archive has a file \"{name}\" that its manifest does not list")]
    Unexpected {
        /// The name.
        name: String,
    },
    /// A file of another size than the manifest says.
    #[error("file \"{name}\" of the archive has {actual} bytes, not {expected}")]
    Size {
        /// The name.
        name: String,
        /// Bytes according to the manifest.
        expected: u64,
        /// Bytes found.
        actual: u64,
    },
    /// A manifest larger than any.
    #[error("manifest of {length} bytes is too long")]
    ManifestTooLong {
        /// Its length.
        length: u64,
    },
    /// A manifest that is no JSON, or not of this form.
    #[error("invalid manifest of the archive")]
    Manifest {
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest of a later version.
    #[error("unknown archive version {version}")]
    Version {
        /// The version.
        version: u64,
    },
    /// A line of metrics that is malformed.
    #[error("invalid line {line} of file \"{name}\" in the archive")]
    Metrics {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Returns what was expected, as a sentence; `None` if the message is enough.
    pub fn detail(&self) -> Option<String> {
        Some(match self {
            Error::NotTar => "An archive is a tar file that is not compressed.".into(),
            Error::Truncated { needed, .. } => format!("It has at least {needed} bytes."),
            Error::ExtendedTooLong { .. } => {
                format!("At most {} bytes are read.", crate::tar::MAX_EXTENDED_BYTES)
            }
            Error::Name { .. } => format!(
                "Expected a relative path of at most {MAX_FILE_PATH_BYTES} bytes: no empty name, \".\" or \"..\" between slashes, no backslash, no control character."
            ),
            Error::Kind { .. } => "An archive of a model contains files and folders only.".into(),
            Error::Missing { name } if name == crate::layout::MANIFEST => {
                "export_archive puts a manifest first.".into()
            }
            Error::ManifestTooLong { .. } => {
                format!("At most {} bytes are read.", crate::MAX_MANIFEST_BYTES)
            }
            Error::Manifest { reason } | Error::Metrics { reason, .. } => {
                format!("The JSON parser says: {reason}.")
            }
            Error::Version { .. } => {
                format!(
                    "This version of the library reads version {}.",
                    crate::VERSION
                )
            }
            _ => return None,
        })
    }
}

/// Prepares text for a message: at most 64 characters, no control characters.
pub(crate) fn shown(text: &str) -> String {
    let start: String = text.chars().take(64).collect();
    start.escape_debug().to_string()
}
