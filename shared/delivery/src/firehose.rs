//! Firehose's transformation batches, and the response that answers every record once.
//!
//! Read leniently, like Kinesis batches: `aws_lambda_events` fails a whole invocation on a record of an MSK source, on an
//! empty sub-sequence number, on one bad base64. Written by hand, because the data are base64 already and a batch is up to
//! 6 MB of it: an encoder that looks at every byte again costs as much as the transformation.
//!
//! Source: Amazon Data Firehose developer guide, "Transform source data in Amazon Data Firehose".

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Lambda takes 6 MB back from a function (Lambda quotas, "Invocation payload"); what is more fails the whole batch.
pub const MOST_RESPONSE_BYTES: usize = 6_000_000;

/// A batch of one delivery stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Firehose's id of this attempt.
    pub invocation_id: Cow<'a, str>,
    /// The delivery stream's name.
    pub stream: String,
    /// How a record's data are called, coming and going.
    pub payload: Payload,
    /// In their order.
    pub records: Vec<Record<'a>>,
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
pub struct Record<'a> {
    /// What the answer must name.
    pub id: Cow<'a, str>,
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

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBatch<'a> {
    #[serde(borrow, default)]
    invocation_id: Text<'a>,
    #[serde(borrow, default)]
    delivery_stream_arn: Text<'a>,
    #[serde(rename = "sourceMSKArn")]
    source_msk_arn: Option<IgnoredAny>,
    #[serde(borrow)]
    records: Vec<RawRecord<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRecord<'a> {
    #[serde(borrow)]
    record_id: Text<'a>,
    #[serde(borrow, default)]
    data: Text<'a>,
    #[serde(borrow, default)]
    kafka_record_value: Text<'a>,
    #[serde(default)]
    approximate_arrival_timestamp: Text<'a>,
}

/// Text, a number, or something else that is not worth failing a batch for.
#[derive(Default)]
enum Text<'a> {
    Given(Cow<'a, str>),
    Number(u64),
    #[default]
    Missing,
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lenient;
        impl<'de> Visitor<'de> for Lenient {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text::Given(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text::Given(Cow::Owned(text.to_owned())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Text<'de>, E> {
                Ok(Text::Number(number))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Text<'de>, E> {
                Ok(Text::Number(number as u64))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Text<'de>, E> {
                Ok(Text::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Text<'de>, E> {
                Ok(Text::Other)
            }
            fn visit_unit<E>(self) -> Result<Text<'de>, E> {
                Ok(Text::Missing)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text::Other)
            }
        }
        deserializer.deserialize_any(Lenient)
    }
}

impl<'a> Text<'a> {
    fn or_empty(self) -> Cow<'a, str> {
        match self {
            Self::Given(text) => text,
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Missing | Self::Other => Cow::Borrowed(""),
        }
    }
}

/// Reads the payload of an invocation. `None` if it is no batch of Firehose's: then there is nobody to answer, and an error
/// is right: Firehose tries again and keeps the batch.
pub fn read_batch(payload: &str) -> Option<Batch<'_>> {
    let raw: RawBatch<'_> = serde_json::from_str(payload).ok()?;
    let arn = raw.delivery_stream_arn.or_empty();
    let stream = arn.rsplit_once('/').map_or("unknown", |(_, name)| name).to_owned();
    let from_kafka = raw.source_msk_arn.is_some()
        || raw.records.first().is_some_and(|record| matches!(record.kafka_record_value, Text::Given(_)));
    let payload = if from_kafka { Payload::KafkaRecordValue } else { Payload::Data };
    let records = raw.records.into_iter().map(|record| read_record(record, payload)).collect();
    Some(Batch { invocation_id: raw.invocation_id.or_empty(), stream, payload, records })
}

fn read_record(raw: RawRecord<'_>, payload: Payload) -> Record<'_> {
    let (data, name) = match payload {
        Payload::Data => (raw.data, "data"),
        Payload::KafkaRecordValue => (raw.kafka_record_value, "kafkaRecordValue"),
    };
    let data = match data {
        Text::Given(text) => {
            base64_simd::STANDARD.decode_to_vec(text.as_bytes()).map_err(|_| format!("its `{name}` is not base64"))
        }
        // A Kafka record without a value: a tombstone.
        Text::Missing => Err(format!("it has no `{name}`")),
        Text::Number(_) | Text::Other => Err(format!("its `{name}` is not text")),
    };
    let arrived_ms = if let Text::Number(ms) = raw.approximate_arrival_timestamp { ms } else { 0 };
    Record { id: raw.record_id.or_empty(), arrived_ms, data }
}

/// What an answer takes of the response, in bytes. Of an id that must be escaped, more than it needs.
fn answer_bytes(record: &Record<'_>, answer: &Answer<'_>) -> usize {
    const FRAME: usize = r#"{"recordId":"","result":"ProcessingFailed"},"#.len();
    let of_text = |text: &str| if is_plain(text) { text.len() } else { text.len() * 6 };
    let rest = match answer {
        Answer::Ok(data, keys) => {
            let keys: usize = keys.iter().map(|(name, value)| of_text(name) + of_text(value) + 6).sum();
            // The longer of the two names, and the frame around the keys.
            data.len().div_ceil(3) * 4
                + r#","kafkaRecordValue":"""#.len()
                + r#","metadata":{"partitionKeys":{}}"#.len()
                + keys
        }
        Answer::Dropped | Answer::ProcessingFailed => 0,
    };
    FRAME + of_text(&record.id) + rest
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\'))
}

/// Which records must be given back so that the response stays below the limit: from front to back, those that don't fit
/// beside the shortest answers of all that follow.
pub fn too_much(records: &[Record<'_>], answers: &[Answer<'_>], most_bytes: usize) -> Vec<usize> {
    let shortest = |record| answer_bytes(record, &Answer::ProcessingFailed);
    let mut left = most_bytes.saturating_sub(r#"{"records":[]}"#.len() + records.iter().map(shortest).sum::<usize>());
    let mut shed = Vec::new();
    for (index, (record, answer)) in records.iter().zip(answers).enumerate() {
        let more = answer_bytes(record, answer).saturating_sub(shortest(record));
        match left.checked_sub(more) {
            Some(rest) => left = rest,
            None => shed.push(index),
        }
    }
    shed
}

/// The response, as JSON: one answer a record, in order.
pub fn respond<'a>(batch: &Batch<'_>, answers: impl IntoIterator<Item = Answer<'a>>) -> String {
    let member = match batch.payload {
        Payload::Data => ",\"data\":\"",
        Payload::KafkaRecordValue => ",\"kafkaRecordValue\":\"",
    };
    let mut response = String::from("{\"records\":[");
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
    if is_plain(text) {
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

    const DIRECT: &str = r#"{"invocationId":"i-1","deliveryStreamArn":"arn:aws:firehose:us-east-1:123456789012:deliverystream/weir-trips","region":"us-east-1","records":[{"recordId":"49546986683135544286507457936321625675700192471156785154","approximateArrivalTimestamp":1495072949453,"data":"SGVsbG8="}]}"#;

    #[test]
    fn a_direct_put_is_read() {
        let batch = read_batch(DIRECT).unwrap();
        assert_eq!((batch.stream.as_str(), batch.payload, &*batch.invocation_id), ("weir-trips", Payload::Data, "i-1"));
        assert_eq!(batch.records[0].arrived_ms, 1_495_072_949_453);
        assert_eq!(batch.records[0].data, Ok(b"Hello".to_vec()));
    }

    #[test]
    fn msk_records_have_their_own_member() {
        let event = r#"{"invocationId":"i","sourceMSKArn":"arn:aws:kafka:x","deliveryStreamArn":"a/b","region":"r","records":[{"recordId":"0","approximateArrivalTimestamp":1,"mskRecordMetadata":{"offset":"0","partitionId":"1","approximateArrivalTimestamp":1},"kafkaRecordValue":"SGVsbG8="}]}"#;
        let batch = read_batch(event).unwrap();
        assert_eq!((batch.payload, &batch.records[0].data), (Payload::KafkaRecordValue, &Ok(b"Hello".to_vec())));
        let response = respond(&batch, [Answer::Ok(b"Hello", &[])]);
        assert_eq!(response, r#"{"records":[{"recordId":"0","result":"Ok","kafkaRecordValue":"SGVsbG8="}]}"#);
    }

    #[test]
    fn one_strange_record_does_not_fail_its_neighbours() {
        let event = r#"{"records":[{"recordId":"1","data":"!"},{"recordId":"2"},{"recordId":3,"data":7},{"recordId":"4","data":["x"],"approximateArrivalTimestamp":"soon","kinesisRecordMetadata":{"subsequenceNumber":""}},{"recordId":"5","data":"SGVsbG8=","data2":{}}]}"#;
        let batch = read_batch(event).unwrap();
        let read: Vec<_> = batch.records.iter().map(|record| (&*record.id, record.data.is_ok())).collect();
        assert_eq!(read, [("1", false), ("2", false), ("3", false), ("4", false), ("5", true)]);
        assert_eq!(read_batch("{\"Records\":[]}"), None);
    }

    #[test]
    fn every_record_is_answered_with_what_firehose_knows() {
        let event =
            r#"{"records":[{"recordId":"1","data":""},{"recordId":"2","data":""},{"recordId":"\"3","data":""}]}"#;
        let batch = read_batch(event).unwrap();
        let keys = [("day".to_owned(), "2024-01-01".to_owned()), ("hour".to_owned(), "\"9".to_owned())];
        let response = respond(&batch, [Answer::Ok(b"{}\n", &keys), Answer::Dropped, Answer::ProcessingFailed]);
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
            let records: Vec<_> = ids.iter().map(|id| Record { id: id.into(), arrived_ms: 0, data: Ok(Vec::new()) }).collect();
            let data: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
            let keys = if keyed { vec![("kéy".to_owned(), "v\n".to_owned())] } else { Vec::new() };
            let mut answers: Vec<_> = data.iter().take(ids.len()).map(|data| Answer::Ok(data, &keys)).collect();
            for index in too_much(&records, &answers, most) {
                answers[index] = Answer::ProcessingFailed;
            }
            let kept = answers.iter().filter(|answer| matches!(answer, Answer::Ok(..))).count();
            let batch = Batch { invocation_id: "".into(), stream: "s".into(), payload: Payload::KafkaRecordValue, records };
            let response = respond(&batch, answers);
            let shortest = batch.records.iter().map(|record| answer_bytes(record, &Answer::ProcessingFailed)).sum::<usize>();
            prop_assert!(response.len() <= most.max(shortest + 14), "{} bytes of {most}", response.len());
            let value: Value = serde_json::from_str(&response).unwrap();
            let answered: Vec<&str> = value["records"].as_array().unwrap().iter().map(|answer| answer["recordId"].as_str().unwrap()).collect();
            prop_assert_eq!(answered, ids.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert!(kept == ids.len() || response.len() + 8000 > most, "nothing is given back without need");
        }
    }
}
