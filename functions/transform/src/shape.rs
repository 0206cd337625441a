//! One record: opened, its documents cleaned.

use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use weir_contract::{Row, Verdict, Violation};
use weir_kpl::{MOST_BYTES, Unpacked, unpack};

use crate::config::Applied;

/// What a record came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shaped {
    /// What to answer.
    pub fate: Fate,
    /// Documents that are clean.
    pub clean: u64,
    /// Documents that the contract drops.
    pub dropped: u64,
    /// Documents that are bad.
    pub bad: Vec<BadDocument>,
}

/// What to answer for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its clean lines, in [`Shaper::lines`], and their partition.
    Ok(Range<usize>, Vec<(String, String)>),
    /// There is nothing in it to be kept.
    Dropped,
    /// Nothing of it goes on, for this reason.
    Failed(String),
}

/// A document that breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadDocument {
    /// Its place in the record, counted from zero.
    pub index: u64,
    /// What it breaks.
    pub violation: Violation,
    /// The document, as it came.
    pub raw: Bytes,
}

/// Cleans the records of one batch.
pub struct Shaper<'c> {
    row: Row<'c>,
    partition_keys: bool,
    lines: Vec<u8>,
}

/// A CloudWatch Logs subscription's payload (CloudWatch Logs user guide, "Subscription filters with Firehose").
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogSubscription {
    message_type: String,
    #[serde(default)]
    log_events: Vec<LogEvent>,
}

#[derive(Deserialize)]
struct LogEvent {
    message: String,
}

/// How a log subscription's payload begins; a dataset has no such member.
const LOG_SUBSCRIPTION: &[u8] = b"{\"messageType\":";

/// A record while its documents are read.
struct Reading {
    from: usize,
    index: u64,
    shaped: Shaped,
    keys: Option<Vec<(String, String)>>,
    mixed: bool,
}

impl Reading {
    fn bad(&mut self, violation: Violation, raw: Bytes) {
        self.shaped.bad.push(BadDocument { index: self.index, violation, raw });
        self.index += 1;
    }

    fn note_partition(&mut self, row: &Row<'_>) {
        // A key becomes part of a path.
        let safe = |value: String| value.replace(|c: char| !(c.is_alphanumeric() || "-_.:@ ".contains(c)), "_");
        let keys: Vec<_> = row.partition().map(|(name, value)| (name.to_owned(), safe(value))).collect();
        match &self.keys {
            None => self.keys = Some(keys),
            Some(known) => self.mixed |= *known != keys,
        }
    }
}

impl<'c> Shaper<'c> {
    /// `now_micros` is the time that derived columns are given, in microseconds since 1970.
    pub fn new(applied: &'c Applied, now_micros: i64) -> Self {
        let row = applied.contract.row(applied.audience, now_micros);
        Self { row, partition_keys: applied.keys, lines: Vec::new() }
    }

    /// The clean lines of all records so far.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Cleans one record.
    pub fn shape(&mut self, data: &Bytes) -> Shaped {
        let shaped = Shaped { fate: Fate::Dropped, clean: 0, dropped: 0, bad: Vec::new() };
        let mut reading = Reading { from: self.lines.len(), index: 0, shaped, keys: None, mixed: false };
        match unpack(data, &mut MOST_BYTES.clone()) {
            Err(damaged) => reading.shaped.fate = Fate::Failed(damaged.to_string()),
            Ok(unpacked) => {
                match unpacked {
                    Unpacked::Plain => self.payload(data, &mut reading),
                    Unpacked::One(payload) => self.payload(&payload, &mut reading),
                    Unpacked::Many(records) => {
                        for (record, damaged) in records {
                            match damaged {
                                None => self.payload(&record.data, &mut reading),
                                Some(damaged) => reading.bad(Violation::unreadable(damaged.to_string()), record.data),
                            }
                        }
                    }
                }
                self.decide(&mut reading);
            }
        }
        reading.shaped
    }

    fn decide(&mut self, reading: &mut Reading) {
        let Reading { from, shaped, keys, mixed, .. } = reading;
        let failed = match (shaped.clean, shaped.bad.first()) {
            (1.., _) if *mixed => {
                let reason = "its documents belong to different partitions, and a record goes to one; send them one a record, or switch dynamic partitioning off";
                Some(reason.to_owned())
            }
            (1.., _) => None,
            (0, Some(BadDocument { violation, .. })) => Some(violation.to_string()),
            (0, None) if shaped.dropped > 0 => return,
            (0, None) => Some("there is nothing in it".to_owned()),
        };
        shaped.fate = match failed {
            None => Fate::Ok(*from..self.lines.len(), keys.take().unwrap_or_default()),
            Some(reason) => {
                self.lines.truncate(*from);
                Fate::Failed(reason)
            }
        };
    }

    fn payload(&mut self, payload: &Bytes, reading: &mut Reading) {
        let subscription = payload
            .starts_with(LOG_SUBSCRIPTION)
            .then(|| serde_json::from_slice::<LogSubscription>(payload).ok())
            .flatten();
        match subscription {
            None => self.documents(payload, reading),
            // "CloudWatch Logs is checking health of the Firehose stream."
            Some(subscription) if subscription.message_type == "CONTROL_MESSAGE" => reading.shaped.dropped += 1,
            Some(subscription) => {
                for event in subscription.log_events {
                    self.documents(&Bytes::from(event.message), reading);
                }
            }
        }
    }

    /// One document or several.
    fn documents(&mut self, payload: &Bytes, reading: &mut Reading) {
        let Self { row, partition_keys, lines } = self;
        row.each_document(payload, |row, at, verdict| {
            match verdict {
                Verdict::Clean => {
                    row.write_json(lines);
                    lines.push(b'\n');
                    reading.shaped.clean += 1;
                    if *partition_keys {
                        reading.note_partition(row);
                    }
                }
                Verdict::Dropped => reading.shaped.dropped += 1,
                Verdict::Bad(violation) => {
                    return reading.bad(violation, payload.slice(at.start..at.end.min(payload.len())));
                }
            }
            reading.index += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_contract::{Audience, contract};
    use weir_kpl::{Aggregate, Codec, SubRecord, compress};

    const GOOD: &str =
        r#"{"event_timestamp":"2024-03-01T12:34:56Z","session_id":"s","page_url":"/a","TTI":1,"TTAR":2}"#;
    const OTHER_DAY: &str =
        r#"{"event_timestamp":"2024-03-02T12:34:56Z","session_id":"s","page_url":"/a","TTI":1,"TTAR":2}"#;

    fn shape(keys: bool, data: &[u8]) -> (Shaped, Vec<u8>) {
        let applied = Applied { contract: contract("page_logs").unwrap(), keys, audience: Audience::Tables };
        let mut shaper = Shaper::new(&applied, 0);
        let shaped = shaper.shape(&Bytes::copy_from_slice(data));
        (shaped, shaper.lines().to_vec())
    }

    fn aggregate(data: &[&str]) -> Vec<u8> {
        let mut aggregate = Aggregate::new();
        for data in data {
            let data = Bytes::copy_from_slice(data.as_bytes());
            aggregate.push(SubRecord { partition_key: "k".into(), explicit_hash_key: None, data });
        }
        aggregate.finish()
    }

    #[test]
    fn one_document_is_one_line() {
        let (shaped, lines) = shape(false, GOOD.as_bytes());
        assert_eq!((shaped.fate, shaped.clean), (Fate::Ok(0..lines.len(), vec![]), 1));
        assert!(lines.ends_with(b"}\n") && !lines[..lines.len() - 1].contains(&b'\n'));
    }

    #[test]
    fn several_documents_in_any_wrapping_are_all_read() {
        let joined = format!("{GOOD}{GOOD}\n\n{GOOD}");
        let three = aggregate(&[GOOD, &format!("{GOOD}\n{GOOD}")]);
        for data in [
            joined.into_bytes(),
            three.clone(),
            compress(Codec::Zstd, &three).unwrap(),
            compress(Codec::Gzip, &three).unwrap(),
        ] {
            let (shaped, lines) = shape(false, &data);
            assert_eq!((shaped.clean, shaped.bad.len()), (3, 0));
            assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 3);
        }
    }

    #[test]
    fn a_bad_document_stays_behind_and_its_neighbours_go_on() {
        let bad = GOOD.replace(":2}", ":-2}");
        let (shaped, lines) = shape(false, format!("{GOOD}{bad}\n{{\"broken\":\n{GOOD}").as_bytes());
        assert_eq!((shaped.clean, shaped.bad.len()), (2, 2));
        assert_eq!(shaped.bad[0].raw, bad.as_bytes());
        assert_eq!((shaped.bad[1].index, &shaped.bad[1].raw[..]), (2, &b"{\"broken\":\n"[..]));
        assert!(matches!(shaped.fate, Fate::Ok(..)) && lines.len() > 100);
    }

    #[test]
    fn an_empty_record_among_others_is_accounted_for() {
        let (shaped, _) = shape(false, &aggregate(&[GOOD, " \n", "", GOOD]));
        assert_eq!((shaped.clean, shaped.bad.len()), (2, 2));
        assert_eq!((shaped.bad[1].index, shaped.bad[1].violation.to_string().contains("empty")), (2, true));
    }

    #[test]
    fn nothing_clean_is_failed_and_nothing_at_all_too() {
        for (data, word) in
            [("{}", "`event_timestamp` breaks required"), ("", "empty"), ("[1]", "not an object"), ("nope", "json:")]
        {
            let (shaped, lines) = shape(false, data.as_bytes());
            let Fate::Failed(reason) = shaped.fate else { panic!("{data}: {:?}", shaped.fate) };
            assert!(reason.contains(word) && lines.is_empty(), "{reason}");
        }
        let mut damaged = compress(Codec::Gzip, GOOD.as_bytes()).unwrap();
        damaged.truncate(20);
        assert!(matches!(shape(false, &damaged).0.fate, Fate::Failed(reason) if reason.contains("gzip")));
    }

    #[test]
    fn log_subscriptions_are_unpacked_and_their_control_messages_dropped() {
        let events = serde_json::json!({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "g", "logStream": "s",
            "logEvents": [{"id": "1", "timestamp": 1, "message": GOOD}, {"id": "2", "timestamp": 1, "message": "START RequestId"}]});
        let text = events.to_string().replace("{\"logEvents\"", "{\"messageType\":\"DATA_MESSAGE\",\"logEvents\"");
        let text = text.replace(",\"messageType\":\"DATA_MESSAGE\",\"owner\"", ",\"owner\"");
        let (shaped, _) = shape(false, &compress(Codec::Gzip, text.as_bytes()).unwrap());
        assert_eq!((shaped.clean, shaped.bad.len()), (1, 1));
        let control = br#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],"logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}"#;
        assert_eq!(shape(false, &compress(Codec::Gzip, control).unwrap()).0.fate, Fate::Dropped);
    }

    #[test]
    fn a_record_goes_to_one_partition() {
        let (shaped, _) = shape(true, format!("{GOOD}{GOOD}").as_bytes());
        assert!(
            matches!(shaped.fate, Fate::Ok(_, keys) if keys == [("event_date".to_owned(), "2024-03-01".to_owned())])
        );
        let (shaped, lines) = shape(true, format!("{GOOD}{OTHER_DAY}").as_bytes());
        assert!(
            matches!(shaped.fate, Fate::Failed(reason) if reason.contains("different partitions")) && lines.is_empty()
        );
    }
}
