//! Which of two changes of a row is the later one.

use serde::{Deserialize, Serialize};

/// How a row came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Phase {
    /// It was read when the capture began: before any change, even one that is in the stream before it.
    #[default]
    Load,
    /// It was changed since.
    Change,
}

/// A change's place among the changes of its row. The later one is greater: by what the database says first, by the order in the
/// stream last.
///
/// The time at which a message was made orders nothing: several tasks of a capture make them at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Place {
    /// How it came.
    pub phase: Phase,
    /// When its transaction was committed, in microseconds since 1970, if that is said.
    pub committed_us: Option<i64>,
    /// Where it is in the database's log, in a form that sorts.
    pub log: String,
    /// Which of its transaction's changes it is.
    pub record: u64,
    /// The stream's number of its record, in a form that sorts.
    pub sequence: String,
}

/// Digits of a Kinesis sequence number: 56 now, and some to grow.
const SEQUENCE_DIGITS: usize = 64;

/// Digits of a log position: PostgreSQL's is 64 bits.
const LOG_DIGITS: usize = 20;

impl Place {
    pub(crate) fn new(phase: Phase, sequence: &str) -> Self {
        Self { phase, sequence: padded(sequence, SEQUENCE_DIGITS), ..Self::default() }
    }

    /// With a log position that is a number.
    pub(crate) fn at(mut self, log: u64) -> Self {
        self.log = padded(&log.to_string(), LOG_DIGITS);
        self
    }
}

/// Numbers of one length sort as texts.
fn padded(number: &str, digits: usize) -> String {
    format!("{number:0>digits$}")
}
