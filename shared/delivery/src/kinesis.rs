//! Kinesis batches as Lambda delivers them, and the partial-failure response.
//!
//! Read leniently: `aws_lambda_events` fails a whole invocation on one record with a null partition key, a bad base64 or
//! a timestamp of four decimals, and a record that can't be read must not hold back the shard.
//! Source: Lambda developer guide, "Process Amazon Kinesis Data Streams records with Lambda".

use std::cmp::Ordering;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{ItemFailure, Outcome};

/// A record's place in its shard. 56 decimal digits (186 bits): too large for `u128` and for a DynamoDB number, so it is
/// compared as text, the longer being the larger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SequenceNumber(String);

impl SequenceNumber {
    /// As Kinesis wrote it.
    pub fn new(digits: impl Into<String>) -> Self {
        Self(digits.into())
    }

    /// As Kinesis wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a record came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The stream's name.
    pub stream: String,
    /// Such as `shardId-000000000000`.
    pub shard: String,
    /// Absent only where the record itself could not be read.
    pub sequence_number: Option<SequenceNumber>,
    /// Its place in the batch, counted from zero.
    pub index: usize,
    /// Its place in its stream record, counted from zero, where that is an aggregate of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_index: Option<usize>,
    /// Its stream record's, by which it can be sent to its shard again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
}

impl Origin {
    /// Of a record of which nothing more is known than its place in the batch.
    pub fn unknown(index: usize) -> Self {
        Self {
            stream: "unknown".into(),
            shard: "unknown".into(),
            sequence_number: None,
            index,
            sub_index: None,
            partition_key: None,
        }
    }

    /// The default identity of a job: the record's place in the stream, which a redelivery has again. The last part is
    /// the sub-record in an aggregate; a plain record is 0.
    pub fn default_job_id(&self) -> String {
        let shard = self.shard.strip_prefix("shardId-").unwrap_or(&self.shard);
        let place =
            self.sequence_number.as_ref().map_or_else(|| format!("unknown-{}", self.index), ToString::to_string);
        format!("{}.{shard}.{place}.{}", self.stream, self.sub_index.unwrap_or(0))
    }
}

/// One record: its place, and its bytes or why they can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it came from.
    pub origin: Origin,
    /// When Kinesis took it in, in milliseconds since the epoch; 0 if the event doesn't say.
    pub arrived_ms: u64,
    /// The payload, or the reason and the record's own JSON.
    pub data: Result<Vec<u8>, Unreadable>,
}

/// A record of the event that is not as AWS documents it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What is wrong.
    pub reason: String,
    /// The record's JSON, as it came.
    pub raw: Vec<u8>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRecord {
    kinesis: Option<RawKinesis>,
    #[serde(rename = "eventID")]
    event_id: Option<String>,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawKinesis {
    sequence_number: Option<String>,
    data: Option<String>,
    partition_key: Option<String>,
    approximate_arrival_timestamp: Option<f64>,
}

/// Reads the payload of an invocation. `None` if it is not a Kinesis batch at all.
pub fn read_batch(payload: &str) -> Option<Vec<Record>> {
    let envelope: Envelope<'_> = serde_json::from_str(payload).ok()?;
    Some(envelope.records.iter().enumerate().map(|(index, raw)| read_record(index, raw)).collect())
}

fn read_record(index: usize, raw: &RawValue) -> Record {
    let unreadable = |reason: String| Err(Unreadable { reason, raw: raw.get().as_bytes().to_vec() });
    let mut origin = Origin::unknown(index);
    let record: RawRecord = match serde_json::from_str(raw.get()) {
        Ok(record) => record,
        Err(error) => {
            // Even then look for the one thing that lets Lambda retry just this record.
            origin.sequence_number = find_sequence_number(raw.get());
            let data = unreadable(format!("the event's record {index} is not as Lambda documents it: {error}"));
            return Record { origin, arrived_ms: 0, data };
        }
    };
    if let Some((_, stream)) = record.event_source_arn.as_deref().and_then(|arn| arn.rsplit_once('/')) {
        origin.stream = stream.to_owned();
    }
    if let Some((shard, _)) = record.event_id.as_deref().and_then(|id| id.split_once(':')) {
        origin.shard = shard.to_owned();
    }
    let Some(kinesis) = record.kinesis else {
        return Record {
            origin,
            arrived_ms: 0,
            data: unreadable(format!("the event's record {index} has no `kinesis`")),
        };
    };
    origin.sequence_number = kinesis.sequence_number.map(SequenceNumber);
    origin.partition_key = kinesis.partition_key;
    let arrived_ms = kinesis.approximate_arrival_timestamp.map_or(0, |seconds| (seconds * 1000.0) as u64);
    let data = match kinesis.data.map(|data| STANDARD.decode(data)) {
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(error)) => unreadable(format!("the event's record {index} is not base64: {error}")),
        None => unreadable(format!("the event's record {index} has no `data`")),
    };
    Record { origin, arrived_ms, data }
}

fn find_sequence_number(raw: &str) -> Option<SequenceNumber> {
    let value: serde_json::Value = serde_json::from_str(raw).ok()?;
    let digits = value.get("kinesis")?.get("sequenceNumber")?.as_str()?;
    Some(SequenceNumber::new(digits))
}

/// The response, which names a record by its sequence number. An empty one means the whole batch.
pub type BatchResponse = crate::BatchResponse<String>;

/// Answers a batch: the first record to retry, in stream order, or nothing.
///
/// Lambda checkpoints at the lowest sequence number named and delivers everything from it again, so one is enough; the
/// records after it that were done answer from the ledger the second time. A record to retry without a sequence number
/// fails the whole batch (an empty identifier), because nothing smaller can be named.
pub fn respond<'a>(outcomes: impl IntoIterator<Item = (&'a Origin, &'a Outcome)>) -> BatchResponse {
    let retried = outcomes.into_iter().filter(|(_, outcome)| matches!(outcome, Outcome::Retry(_)));
    let places: Vec<Option<&SequenceNumber>> = retried.map(|(origin, _)| origin.sequence_number.as_ref()).collect();
    let first = if places.iter().any(Option::is_none) { None } else { places.iter().flatten().min() };
    let item_identifier = match (places.is_empty(), first) {
        (true, _) => return BatchResponse::default(),
        (false, Some(sequence_number)) => sequence_number.to_string(),
        (false, None) => String::new(),
    };
    BatchResponse { batch_item_failures: vec![ItemFailure { item_identifier }] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, Poison};
    use proptest::prelude::*;

    fn event(records: &str) -> String {
        format!(r#"{{"Records":[{records}]}}"#)
    }

    const GOOD: &str = r#"{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"p","sequenceNumber":"49590338271490256608559692538361571095921575989136588898","data":"SGVsbG8=","approximateArrivalTimestamp":1545084650.987},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000006:49590338271490256608559692538361571095921575989136588898","eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::123456789012:role/lambda-role","awsRegion":"us-east-2","eventSourceARN":"arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream"}"#;

    #[test]
    fn reads_the_documented_event() {
        let batch = read_batch(&event(GOOD)).unwrap();
        assert_eq!(batch.len(), 1);
        assert_eq!(batch[0].data.as_deref(), Ok(b"Hello".as_slice()));
        assert_eq!(batch[0].arrived_ms, 1_545_084_650_987);
        assert_eq!(
            batch[0].origin.default_job_id(),
            "lambda-stream.000000000006.49590338271490256608559692538361571095921575989136588898.0"
        );
    }

    #[test]
    fn one_bad_record_leaves_its_neighbours_readable() {
        let bad = [
            GOOD.replace("SGVsbG8=", "***"),
            GOOD.replace("\"data\":\"SGVsbG8=\",", ""),
            GOOD.replace("\"sequenceNumber\":\"4", "\"data2\":{},\"partitionKey2\":\"").replace("SGVsbG8=", "!"),
            "{}".to_owned(),
            "17".to_owned(),
            GOOD.replace("\"SGVsbG8=\"", "5"),
        ];
        for bad in bad {
            let batch = read_batch(&event(&format!("{GOOD},{bad},{GOOD}"))).unwrap();
            assert!(batch[0].data.is_ok() && batch[2].data.is_ok());
            assert_eq!(batch[1].data.as_ref().unwrap_err().raw, bad.as_bytes(), "the raw record is kept");
        }
        let odd = GOOD.replace("\"p\"", "null").replace("50.987", "50.98765432");
        assert!(read_batch(&event(&odd)).unwrap()[0].data.is_ok(), "what AWS also sends is no error");
    }

    #[test]
    fn a_record_of_the_wrong_type_still_names_its_place() {
        let bad = GOOD.replace("\"SGVsbG8=\"", "5");
        let origin = &read_batch(&event(&bad)).unwrap()[0].origin;
        assert!(origin.sequence_number.is_some());
    }

    #[test]
    fn what_is_not_a_batch_is_none() {
        for payload in ["{}", "null", "[]", r#"{"Records":5}"#, "", "{"] {
            assert!(read_batch(payload).is_none(), "{payload}");
        }
    }

    #[test]
    fn sequence_numbers_compare_by_value() {
        let at = SequenceNumber::new;
        assert!(at("9") < at("10"));
        assert!(
            at("49590338271490256608559692538361571095921575989136588898")
                < at("49590338271490256608559692538361571095921575989136588899")
        );
    }

    fn origin(number: u32) -> Origin {
        let sequence_number = Some(SequenceNumber::new(number.to_string()));
        Origin { stream: "s".into(), shard: "shardId-0".into(), sequence_number, ..Origin::unknown(0) }
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Done),
            Just(Outcome::Skipped("before".into())),
            Just(Outcome::Poison(Poison { reason: "bad".into(), raw: vec![] })),
            Just(Outcome::Retry(Failure::passing("SlowDown", "later"))),
        ]
    }

    proptest! {
        /// Nothing that must be retried is acknowledged, and nothing before the first such record comes again.
        #[test]
        fn the_response_names_the_first_retry_and_nothing_else(outcomes in prop::collection::vec(any_outcome(), 0..50)) {
            let origins: Vec<Origin> = (0..outcomes.len()).map(|n| origin(90 + n as u32)).collect();
            let response = respond(origins.iter().zip(&outcomes));
            let first = outcomes.iter().position(|outcome| matches!(outcome, Outcome::Retry(_)));
            let named = response.batch_item_failures.first().map(|failure| failure.item_identifier.clone());
            prop_assert_eq!(named, first.map(|index| (90 + index).to_string()));
        }
    }

    #[test]
    fn a_retry_without_a_place_fails_the_whole_batch() {
        let mut lost = origin(7);
        lost.sequence_number = None;
        let retry = Outcome::Retry(Failure::passing("SlowDown", "later"));
        let response = respond([(&origin(6), &retry), (&lost, &retry)]);
        assert_eq!(serde_json::to_string(&response).unwrap(), r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#);
    }
}
