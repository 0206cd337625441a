//! What is said on standard output.
//!
//! Who reads it may have had enough, as `head` does. That is nobody's error, and nothing is said of it; but how the command would
//! have ended is not known, so it ends as if by the signal that other tools die of.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// 128 and SIGPIPE's number, as shells say it.
const SIGPIPE: i32 = 141;

/// Says something, as it stands.
pub(crate) fn write(words: Arguments<'_>) {
    let mut out = io::stdout().lock();
    out.write_fmt(words).and_then(|()| out.flush()).unwrap_or_else(|error| failed(&error));
}

/// Ends the command that can't say what it has to.
pub(crate) fn failed(error: &io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        exit(SIGPIPE);
    }
    eprintln!("weir: can't write: {error}");
    exit(3)
}

/// `println!`, but for the panic when nobody reads.
macro_rules! say {
    ($($words:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($words)*))) };
}
pub(crate) use say;
