//! Kafka batches as Lambda delivers them, and the partial-failure response.
//!
//! A batch has records of several topic-partitions, each in the order of its offsets. Read leniently, record by record:
//! `aws_lambda_events` takes header bytes for unsigned, and one record that is not as documented fails its whole invocation.
//! Source: Lambda developer guide, "Process Amazon MSK messages with Lambda", "Using Lambda with self-managed Apache Kafka".

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::kinesis::Unreadable;
use crate::{BatchResponse, ItemFailure};

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Who sent it.
    pub source: Source,
    /// What it has of each topic-partition, in the order of their names.
    pub partitions: Vec<Partition>,
}

/// Where a batch comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Amazon MSK, by the cluster's ARN.
    Msk(String),
    /// A cluster of one's own, by its brokers, as the event lists them.
    SelfManaged(String),
}

/// Records of one topic-partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub number: i32,
    /// In the order of the event, which is that of their offsets.
    pub records: Vec<Record>,
}

impl Partition {
    /// As the event names it, and as Lambda wants it named: `topic-number`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.topic, self.number)
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition; absent only where the record itself could not be read.
    pub offset: Option<i64>,
    /// In milliseconds since the epoch, by the producer's clock or the broker's; `None` if the event doesn't say.
    pub timestamp_ms: Option<i64>,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value, if it has one: a record without one is a tombstone. Or why it can't be read.
    pub value: Result<Option<Vec<u8>>, Unreadable>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    event_source: String,
    event_source_arn: Option<String>,
    bootstrap_servers: Option<String>,
    #[serde(borrow)]
    records: BTreeMap<String, Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRecord {
    offset: Option<i64>,
    timestamp: Option<i64>,
    key: Option<String>,
    value: Option<String>,
    headers: Option<Vec<BTreeMap<String, Option<Vec<i16>>>>>,
}

/// Reads the payload of an invocation. `None` if it is not a Kafka batch at all.
pub fn read_batch(payload: &str) -> Option<Batch> {
    let envelope: Envelope<'_> = serde_json::from_str(payload).ok()?;
    let source = match (envelope.event_source.as_str(), envelope.event_source_arn) {
        ("aws:kafka", Some(arn)) => Source::Msk(arn),
        // Its own documentation writes it both ways.
        ("SelfManagedKafka" | "aws:SelfManagedKafka", _) => {
            Source::SelfManaged(envelope.bootstrap_servers.unwrap_or_default())
        }
        _ => return None,
    };
    let partitions = envelope.records.into_iter().map(|(name, records)| {
        // A topic's name may have dashes.
        let (topic, number) = name.rsplit_once('-')?;
        let records = records.into_iter().enumerate().map(|(index, raw)| read_record(index, raw)).collect();
        Some(Partition { topic: topic.to_owned(), number: number.parse().ok()?, records })
    });
    Some(Batch { source, partitions: partitions.collect::<Option<Vec<_>>>()? })
}

fn read_record(index: usize, raw: &RawValue) -> Record {
    let unreadable = |reason: String| Unreadable { reason, raw: raw.get().as_bytes().to_vec() };
    let record: RawRecord = match serde_json::from_str(raw.get()) {
        Ok(record) => record,
        Err(error) => {
            let why = unreadable(format!("the event's record {index} is not as Lambda documents it: {error}"));
            // Even then look for the one thing that gives it a place.
            let offset =
                serde_json::from_str(raw.get()).ok().and_then(|value: serde_json::Value| value.get("offset")?.as_i64());
            return Record { offset, timestamp_ms: None, key: None, value: Err(why), headers: Vec::new() };
        }
    };
    let decoded = |what: &str, text: Option<String>| {
        let bytes = text.map(|text| STANDARD.decode(text)).transpose();
        bytes.map_err(|error| unreadable(format!("the {what} of the event's record {index} is not base64: {error}")))
    };
    // A byte is signed in Java, where the event is made.
    let byte = |number: i16| (-128..256).contains(&number).then_some(number as u8);
    let headers = record.headers.into_iter().flatten().flatten();
    // One without a value is an empty one here.
    let bytes = |bytes: Option<Vec<i16>>| bytes.unwrap_or_default().into_iter().map(byte).collect::<Option<Vec<u8>>>();
    let headers: Option<Vec<(String, Vec<u8>)>> = headers.map(|(name, value)| Some((name, bytes(value)?))).collect();
    let (key, value) = (decoded("key", record.key), decoded("value", record.value));
    let value = match (record.offset, &key, &headers) {
        (None, ..) => Err(unreadable(format!("the event's record {index} has no `offset`"))),
        (_, Err(why), _) => Err(why.clone()),
        (_, _, None) => {
            Err(unreadable(format!("a header of the event's record {index} has numbers that are no bytes")))
        }
        _ => value,
    };
    Record {
        offset: record.offset,
        timestamp_ms: record.timestamp,
        key: key.unwrap_or_default(),
        value,
        headers: headers.unwrap_or_default(),
    }
}

/// A place in a topic-partition: unlike Kinesis', the identifier of an item is an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `topic-number`.
    pub partition: String,
    /// The first record to deliver again.
    pub offset: i64,
}

/// Answers a batch by the partitions that shall come again, each from an offset on: its neighbours are done.
pub fn respond(again: impl IntoIterator<Item = (String, i64)>) -> BatchResponse<Place> {
    let failure = |(partition, offset)| ItemFailure { item_identifier: Place { partition, offset } };
    BatchResponse { batch_item_failures: again.into_iter().map(failure).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> Batch {
        let path = format!("{}/../../events/ingest/{name}.json", env!("CARGO_MANIFEST_DIR"));
        read_batch(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn both_shapes_have_several_partitions_keys_tombstones_and_signed_headers() {
        let batch = sample("msk");
        assert!(matches!(&batch.source, Source::Msk(arn) if arn.contains(":cluster/")));
        let names: Vec<String> = batch.partitions.iter().map(Partition::name).collect();
        assert_eq!(names, ["log_topic-0", "log_topic-1", "web-orders.v2-12"]);
        let first = &batch.partitions[0].records[0];
        assert_eq!((first.offset, first.timestamp_ms), (Some(15), Some(1_545_084_650_987)));
        assert!(first.value.as_ref().unwrap().as_ref().unwrap().starts_with(b"{"));
        assert_eq!(first.headers, [("trace".to_owned(), vec![104, 200, 255])]);
        let tombstone = &batch.partitions[2].records[0];
        assert_eq!((&tombstone.key, &tombstone.value), (&Some(b"id-1".to_vec()), &Ok(None)));
        assert_eq!(batch.partitions[2].topic, "web-orders.v2");
        let own = sample("self-managed");
        assert_eq!(own.source, Source::SelfManaged("b-1.example:9092,b-2.example:9092".into()));
    }

    #[test]
    fn a_record_that_can_not_be_read_is_that_record_alone() {
        let event = |record: &str| {
            format!(
                r#"{{"eventSource":"aws:kafka","eventSourceArn":"a","records":{{"t-0":[{record},{{"offset":8,"value":"e30="}}]}}}}"#
            )
        };
        for (record, offset, word) in [
            (r#"{"offset":7,"value":"!"}"#, Some(7), "value"),
            (r#"{"offset":7,"key":"!","value":"e30="}"#, Some(7), "key"),
            (r#"{"offset":7,"headers":[{"h":[300]}],"value":"e30="}"#, Some(7), "no bytes"),
            (r#"{"offset":7,"value":{}}"#, Some(7), "documents"),
            (r#"{"value":"e30="}"#, None, "offset"),
            ("7", None, "documents"),
        ] {
            let batch = read_batch(&event(record)).unwrap();
            let [bad, good] = batch.partitions[0].records.as_slice() else { panic!("{record}") };
            assert_eq!(bad.offset, offset, "{record}");
            let why = bad.value.as_ref().unwrap_err();
            assert!(why.reason.contains(word), "{record}: {}", why.reason);
            assert_eq!(why.raw, record.as_bytes());
            assert_eq!((good.offset, &good.value), (Some(8), &Ok(Some(b"{}".to_vec()))));
        }
    }

    #[test]
    fn headers_may_be_none_or_empty() {
        for headers in ["null", "[]", r#"[{"a":null}]"#] {
            let event = format!(
                r#"{{"eventSource":"aws:kafka","eventSourceArn":"a","records":{{"t-0":[{{"offset":8,"value":"e30=","headers":{headers}}}]}}}}"#
            );
            assert_eq!(
                read_batch(&event).unwrap().partitions[0].records[0].value,
                Ok(Some(b"{}".to_vec())),
                "{headers}"
            );
        }
    }

    #[test]
    fn what_is_no_kafka_batch_is_none() {
        for payload in [
            "",
            "{}",
            r#"{"Records":[]}"#,
            r#"{"eventSource":"aws:kinesis","records":{}}"#,
            r#"{"eventSource":"aws:kafka","eventSourceArn":"a","records":{"t":[]}}"#,
        ] {
            assert_eq!(read_batch(payload), None, "{payload}");
        }
    }

    #[test]
    fn a_partition_that_shall_come_again_is_named_by_an_object() {
        let response = respond([("log_topic-0".to_owned(), 15)]);
        let json = serde_json::to_string(&response).unwrap();
        assert_eq!(json, r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"log_topic-0","offset":15}}]}"#);
        assert_eq!(serde_json::to_string(&respond([])).unwrap(), r#"{"batchItemFailures":[]}"#);
    }
}
