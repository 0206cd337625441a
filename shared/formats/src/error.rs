//! Why a conversion did not happen.

use std::io;

/// Why a conversion did not happen. Whatever it was, no output is visible.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The data is not what it would have to be. Trying again won't help.
    #[error("{input}: {reason}")]
    Data {
        /// Which input.
        input: String,
        /// What is wrong and, where there is one, the way out.
        reason: String,
    },
    /// A format that needs seeking, inside a compression that allows none, is larger than the disk it may be spooled to.
    #[error("{input}: unpacked it is more than {limit_bytes} bytes, too large to spool; the batch side can do it")]
    TooLargeToSpool {
        /// Which input.
        input: String,
        /// The limit from [`Settings`](crate::Settings).
        limit_bytes: u64,
    },
    /// It is too much for one process.
    #[error("{input}: {reason}; the batch side can do it")]
    TooLarge {
        /// Which input.
        input: String,
        /// What is too much.
        reason: String,
    },
    /// The caller said stop.
    #[error("stopped")]
    Stopped,
    /// Reading or writing failed. The caller's own error is inside.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A defect of this crate or of one below it.
    #[error("{0}")]
    Internal(String),
}

impl ConvertError {
    pub(crate) fn data(input: &str, reason: impl Into<String>) -> Self {
        Self::Data { input: input.to_owned(), reason: reason.into() }
    }

    /// An error while reading `input`: the caller's own if there is one inside, else the content's.
    pub(crate) fn reading(input: &str, doing: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self::data(input, format!("{doing}: it ends too early; the file is truncated"))
            }
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Self::data(input, format!("{doing}: {error}")),
            // Decoders report their own troubles as `Other` with their own text; ours come wrapped by the Input.
            _ => Self::Io(error),
        }
    }
}
