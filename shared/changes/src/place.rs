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
    /// The stream's number of its record, and which of an aggregate's records it is, in a form that sorts.
    pub sequence: String,
}

/// Digits of a Kinesis sequence number: 56 now, and some to grow.
const SEQUENCE_DIGITS: usize = 58;

/// Digits of a number in an aggregate: its records are 1 MB together, or 50 MB unpacked.
const SUB_DIGITS: usize = 6;

/// Where a message was in its stream: what orders it if it does not say so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At<'a> {
    /// The record's sequence number.
    pub sequence: &'a str,
    /// Which of the record's messages it is, if that is an aggregate; from zero.
    pub sub: usize,
}

/// Digits of a log position: PostgreSQL's is 64 bits.
const LOG_DIGITS: usize = 20;

impl Place {
    pub(crate) fn new(phase: Phase, at: At<'_>) -> Self {
        let sequence = padded(at.sequence, SEQUENCE_DIGITS) + &padded(&at.sub.to_string(), SUB_DIGITS);
        Self { phase, sequence, ..Self::default() }
    }

    /// With a log position that is a number.
    pub(crate) fn at(mut self, log: u64) -> Self {
        self.log = padded(&log.to_string(), LOG_DIGITS);
        self
    }
}

impl Place {
    /// It as a text that sorts as it does: what a table keeps of a row's version.
    pub fn text(&self) -> String {
        let Self { phase, committed_us, log, record, sequence } = self;
        let class = match (phase, committed_us) {
            (Phase::Load, None) => 0,
            (Phase::Load, Some(_)) => 1,
            (Phase::Change, None) => 2,
            (Phase::Change, Some(_)) => 3,
        };
        // From the least of all times on, so that it has no sign.
        let committed = committed_us.map_or(0, |micros| micros.abs_diff(i64::MIN));
        format!("{class} {committed:016x} {log} {record:016x} {sequence}")
    }
}

/// Numbers of one length sort as texts.
fn padded(number: &str, digits: usize) -> String {
    format!("{number:0>digits$}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        let phase = prop_oneof![Just(Phase::Load), Just(Phase::Change)];
        let log = prop_oneof![Just(String::new()), "[0-9A-F]{8}/[0-9A-F]{8}", "[0-9A-F]{8}/[0-9A-F]{8}\\.[0-9]"];
        (phase, proptest::option::of(any::<i64>()), log, 0u64..3, 0u64..5).prop_map(
            |(phase, committed_us, log, record, sequence)| Place {
                committed_us,
                log,
                record,
                ..Place::new(phase, At { sequence: &sequence.to_string(), sub: (record % 2) as usize })
            },
        )
    }

    proptest! {
        #[test]
        fn texts_sort_as_places(one in place(), other in place()) {
            prop_assert_eq!(one.text().cmp(&other.text()), one.cmp(&other));
        }
    }
}
