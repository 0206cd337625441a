//! Firehose's transformation batches, and the response that answers every record once.
//!
//! Read leniently, like Kinesis batches: `aws_lambda_events` fails a whole invocation on a record of an MSK source, on an
//! empty sub-sequence number, on one bad base64. Written by hand, because the data are base64 already and a batch is up to
//! 6 MB of it: an encoder that looks at every byte again costs as much as the transformation.
//!
//! Source: Amazon Data Firehose developer guide, "Transform source data in Amazon Data Firehose".

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use weir_values::is_plain;

/// Lambda takes 6 MB back from a function (Lambda quotas, "Invocation payload"); what is more fails the whole batch.
pub const MOST_RESPONSE_BYTES: usize = 6_000_000;

/// A batch of one delivery stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "RawBatch")]
pub struct Batch {
    /// The delivery stream's name.
    pub stream: String,
    /// How a record's data are called, coming and going.
    pub payload: Payload,
    /// In their order.
    pub records: Vec<Record>,
}

/// The member that holds a record's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// `data`: direct put and Kinesis.
    Data,
    /// `kafkaRecordValue`: MSK.
    KafkaRecordValue,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the answer must name.
    pub id: String,
    /// When Firehose took it in, in milliseconds since the epoch; 0 if the event doesn't say.
    pub arrived_ms: u64,
    /// The payload, or why it can't be read.
    pub data: Result<Vec<u8>, String>,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Goes on as this, with these keys for dynamic partitioning.
    Ok(&'a [u8], &'a [(String, String)]),
    /// Is no data; Firehose forgets it.
    Dropped,
    /// Firehose keeps it, as it came, under its prefix for what could not be processed.
    ProcessingFailed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBatch {
    #[serde(default)]
    delivery_stream_arn: Scalar,
    #[serde(rename = "sourceMSKArn")]
    source_msk_arn: Option<IgnoredAny>,
    records: Vec<RawRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRecord {
    record_id: Scalar,
    #[serde(default)]
    data: Base64,
    #[serde(default)]
    kafka_record_value: Base64,
    #[serde(default)]
    approximate_arrival_timestamp: Scalar,
}

/// Text, a number, or something else that is not worth failing a batch for.
#[derive(Default)]
enum Scalar {
    Text(String),
    Number(u64),
    #[default]
    Other,
}

/// Base64, decoded where it stands in the event; or why not.
#[derive(Default)]
enum Base64 {
    Bytes(Vec<u8>),
    #[default]
    Missing,
    Wrong,
    Other,
}

/// Takes any JSON value; makes something of text and numbers.
struct Lenient<T>(PhantomData<T>);

/// What [`Lenient`] makes of a value.
trait FromAny: Sized {
    fn text(text: &str) -> Self;
    fn number(number: u64) -> Self;
    fn null() -> Self;
    fn other() -> Self;
}

impl FromAny for Scalar {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
    fn number(number: u64) -> Self {
        Self::Number(number)
    }
    fn null() -> Self {
        Self::Other
    }
    fn other() -> Self {
        Self::Other
    }
}

impl FromAny for Base64 {
    fn text(text: &str) -> Self {
        base64_simd::STANDARD.decode_to_vec(text.as_bytes()).map_or(Self::Wrong, Self::Bytes)
    }
    fn number(_: u64) -> Self {
        Self::Other
    }
    fn null() -> Self {
        Self::Missing
    }
    fn other() -> Self {
        Self::Other
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient(PhantomData))
    }
}

impl<'de, T: FromAny> Visitor<'de> for Lenient<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::text(text))
    }
    fn visit_u64<E>(self, number: u64) -> Result<T, E> {
        Ok(T::number(number))
    }
    fn visit_f64<E>(self, number: f64) -> Result<T, E> {
        Ok(T::number(number as u64))
    }
    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::other())
    }
    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::other())
    }
    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::null())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::other())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(T::other())
    }
}

impl From<RawBatch> for Batch {
    fn from(raw: RawBatch) -> Self {
        let stream = match &raw.delivery_stream_arn {
            Scalar::Text(arn) => arn.rsplit_once('/').map_or("unknown", |(_, name)| name),
            _ => "unknown",
        };
        let first = raw.records.first();
        let from_kafka = raw.source_msk_arn.is_some()
            || first.is_some_and(|first| matches!(first.kafka_record_value, Base64::Bytes(_)));
        let payload = if from_kafka { Payload::KafkaRecordValue } else { Payload::Data };
        Self {
            stream: stream.to_owned(),
            payload,
            records: raw.records.into_iter().map(|record| record.read(payload)).collect(),
        }
    }
}

impl RawRecord {
    fn read(self, payload: Payload) -> Record {
        let (data, name) = match payload {
            Payload::Data => (self.data, "data"),
            Payload::KafkaRecordValue => (self.kafka_record_value, "kafkaRecordValue"),
        };
        let data = match data {
            Base64::Bytes(bytes) => Ok(bytes),
            Base64::Wrong => Err(format!("its `{name}` is not base64")),
            // A Kafka record without a value: a tombstone.
            Base64::Missing => Err(format!("it has no `{name}`")),
            Base64::Other => Err(format!("its `{name}` is not text")),
        };
        let id = match self.record_id {
            Scalar::Text(id) => id,
            Scalar::Number(id) => id.to_string(),
            Scalar::Other => String::new(),
        };
        let arrived_ms = if let Scalar::Number(ms) = self.approximate_arrival_timestamp { ms } else { 0 };
        Record { id, arrived_ms, data }
    }
}

/// What is around an answer's id and data.
const FRAME: usize = r#"{"recordId":"","result":"ProcessingFailed"},"#.len();

/// What an answer takes of the response, in bytes. Of an id that must be escaped, more than it needs.
fn answer_bytes(record: &Record, answer: &Answer<'_>) -> usize {
    FRAME + of_text(&record.id) + answer_bytes_beside(answer)
}

fn of_text(text: &str) -> usize {
    if is_plain(text.as_bytes()) { text.len() } else { text.len() * 6 }
}

/// The same, beside its frame and the record's id.
fn answer_bytes_beside(answer: &Answer<'_>) -> usize {
    match answer {
        Answer::Ok(data, keys) => {
            let keys: usize = keys.iter().map(|(name, value)| of_text(name) + of_text(value) + 6).sum();
            // The longer of the two names, and the frame around the keys.
            data.len().div_ceil(3) * 4
                + r#","kafkaRecordValue":"""#.len()
                + r#","metadata":{"partitionKeys":{}}"#.len()
                + keys
        }
        Answer::Dropped | Answer::ProcessingFailed => 0,
    }
}

/// Which records must be given back so that the response stays below the limit: from front to back, those that don't fit
/// beside the shortest answers of all that follow.
pub fn too_much(records: &[Record], answers: &[Answer<'_>], most_bytes: usize) -> Vec<usize> {
    // Mostly there is room even if every id had to be escaped.
    let bound = |(record, answer): (&Record, &Answer<'_>)| FRAME + record.id.len() * 6 + answer_bytes_beside(answer);
    if records.iter().zip(answers).map(bound).sum::<usize>() < most_bytes {
        return Vec::new();
    }
    let shortest: Vec<usize> = records.iter().map(|record| answer_bytes(record, &Answer::ProcessingFailed)).collect();
    let mut left = most_bytes.saturating_sub(r#"{"records":[]}"#.len() + shortest.iter().sum::<usize>());
    let mut shed = Vec::new();
    for (index, answer) in answers.iter().take(shortest.len()).enumerate() {
        let more = answer_bytes_beside(answer);
        match left.checked_sub(more) {
            Some(rest) => left = rest,
            None => shed.push(index),
        }
    }
    shed
}

/// The response, as JSON: one answer a record, in order.
pub fn respond(batch: &Batch, answers: &[Answer<'_>]) -> String {
    let member = match batch.payload {
        Payload::Data => ",\"data\":\"",
        Payload::KafkaRecordValue => ",\"kafkaRecordValue\":\"",
    };
    let bytes = |(record, answer): (&Record, &Answer<'_>)| FRAME + record.id.len() + answer_bytes_beside(answer);
    let bytes = batch.records.iter().zip(answers).map(bytes).sum::<usize>();
    let mut response = String::with_capacity(bytes + 16);
    response.push_str("{\"records\":[");
    for (index, (record, answer)) in batch.records.iter().zip(answers).enumerate() {
        response.push_str(if index == 0 { "{\"recordId\":" } else { ",{\"recordId\":" });
        push_text(&mut response, &record.id);
        match answer {
            Answer::Dropped => response.push_str(",\"result\":\"Dropped\""),
            Answer::ProcessingFailed => response.push_str(",\"result\":\"ProcessingFailed\""),
            Answer::Ok(data, keys) => {
                response.push_str(",\"result\":\"Ok\"");
                response.push_str(member);
                base64_simd::STANDARD.encode_append(data, &mut response);
                response.push('"');
                for (index, (name, value)) in keys.iter().enumerate() {
                    response.push_str(if index == 0 { ",\"metadata\":{\"partitionKeys\":{" } else { "," });
                    push_text(&mut response, name);
                    response.push(':');
                    push_text(&mut response, value);
                }
                if !keys.is_empty() {
                    response.push_str("}}");
                }
            }
        }
        response.push('}');
    }
    response.push_str("]}");
    response
}

fn push_text(out: &mut String, text: &str) {
    if is_plain(text.as_bytes()) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(event: &str) -> serde_json::Result<Batch> {
        serde_json::from_str(event)
    }

    const DIRECT: &str = r#"{"invocationId":"i-1","deliveryStreamArn":"arn:aws:firehose:us-east-1:123456789012:deliverystream/weir-trips","region":"us-east-1","records":[{"recordId":"49546986683135544286507457936321625675700192471156785154","approximateArrivalTimestamp":1495072949453,"data":"SGVsbG8="}]}"#;

    #[test]
    fn a_direct_put_is_read() {
        let batch = read(DIRECT).unwrap();
        assert_eq!((batch.stream.as_str(), batch.payload), ("weir-trips", Payload::Data));
        assert_eq!(batch.records[0].arrived_ms, 1_495_072_949_453);
        assert_eq!(batch.records[0].data, Ok(b"Hello".to_vec()));
    }

    #[test]
    fn msk_records_have_their_own_member() {
        let event = r#"{"invocationId":"i","sourceMSKArn":"arn:aws:kafka:x","deliveryStreamArn":"a/b","region":"r","records":[{"recordId":"0","approximateArrivalTimestamp":1,"mskRecordMetadata":{"offset":"0","partitionId":"1","approximateArrivalTimestamp":1},"kafkaRecordValue":"SGVsbG8="}]}"#;
        let batch = read(event).unwrap();
        assert_eq!((batch.payload, &batch.records[0].data), (Payload::KafkaRecordValue, &Ok(b"Hello".to_vec())));
        let response = respond(&batch, &[Answer::Ok(b"Hello", &[])]);
        assert_eq!(response, r#"{"records":[{"recordId":"0","result":"Ok","kafkaRecordValue":"SGVsbG8="}]}"#);
    }

    #[test]
    fn one_strange_record_does_not_fail_its_neighbours() {
        let event = r#"{"records":[{"recordId":"1","data":"!"},{"recordId":"2"},{"recordId":3,"data":7},{"recordId":"4","data":["x"],"approximateArrivalTimestamp":"soon","kinesisRecordMetadata":{"subsequenceNumber":""}},{"recordId":"5","data":"SGVsbG8=","data2":{}}]}"#;
        let batch = read(event).unwrap();
        let answered: Vec<_> = batch.records.iter().map(|record| (&*record.id, record.data.is_ok())).collect();
        assert_eq!(answered, [("1", false), ("2", false), ("3", false), ("4", false), ("5", true)]);
        assert!(read("{\"Records\":[]}").is_err(), "then an error is right: Firehose tries again and keeps the batch");
    }

    #[test]
    fn every_record_is_answered_with_what_firehose_knows() {
        let event =
            r#"{"records":[{"recordId":"1","data":""},{"recordId":"2","data":""},{"recordId":"\"3","data":""}]}"#;
        let batch = read(event).unwrap();
        let keys = [("day".to_owned(), "2024-01-01".to_owned()), ("hour".to_owned(), "\"9".to_owned())];
        let response = respond(&batch, &[Answer::Ok(b"{}\n", &keys), Answer::Dropped, Answer::ProcessingFailed]);
        assert_eq!(
            serde_json::from_str::<Value>(&response).unwrap(),
            json!({"records": [
                {"recordId": "1", "result": "Ok", "data": "e30K", "metadata": {"partitionKeys": {"day": "2024-01-01", "hour": "\"9"}}},
                {"recordId": "2", "result": "Dropped"},
                {"recordId": "\"3", "result": "ProcessingFailed"},
            ]})
        );
    }

    proptest! {
        #[test]
        fn the_response_fits_and_answers_all(
            ids in prop::collection::vec("\\PC{0,12}", 0..30),
            sizes in prop::collection::vec(0..4000usize, 30),
            most in 3_000..40_000usize,
            keyed in any::<bool>(),
        ) {
            let records: Vec<_> = ids.iter().map(|id| Record { id: id.clone(), arrived_ms: 0, data: Ok(Vec::new()) }).collect();
            let data: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
            let keys = if keyed { vec![("kéy".to_owned(), "v\n".to_owned())] } else { Vec::new() };
            let mut answers: Vec<_> = data.iter().take(ids.len()).map(|data| Answer::Ok(data, &keys)).collect();
            for index in too_much(&records, &answers, most) {
                answers[index] = Answer::ProcessingFailed;
            }
            let kept = answers.iter().filter(|answer| matches!(answer, Answer::Ok(..))).count();
            let batch = Batch { stream: "s".into(), payload: Payload::KafkaRecordValue, records };
            let response = respond(&batch, &answers);
            let shortest = batch.records.iter().map(|record| answer_bytes(record, &Answer::ProcessingFailed)).sum::<usize>();
            prop_assert!(response.len() <= most.max(shortest + 14), "{} bytes of {most}", response.len());
            let value: Value = serde_json::from_str(&response).unwrap();
            let answered: Vec<&str> = value["records"].as_array().unwrap().iter().map(|answer| answer["recordId"].as_str().unwrap()).collect();
            prop_assert_eq!(answered, ids.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert!(kept == ids.len() || response.len() + 8000 > most, "nothing is given back without need");
        }
    }
}
