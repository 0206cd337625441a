//! What dead letters are, purely: ours, Lambda's on-failure objects, Firehose's.
//!
//! Sources: shared/records and the functions' READMEs; Lambda developer guide, "Capturing records of invocations" (the payload of
//! what a mapping gave up; `requestPayload` of asynchronous calls); Firehose developer guide, "Handle failure in data transformation"
//! (`rawData`).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use weir_command::Location;
use weir_delivery::{kafka, kinesis};

/// Something that was put aside, and can be sent again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Letter {
    /// Which line or record of its object it is, counted from zero.
    pub(crate) line: usize,
    /// Why it was put aside.
    pub(crate) reason: String,
    /// When it came, in milliseconds since the epoch; 0 if that is not said.
    pub(crate) arrived_ms: u64,
    /// Where it came from.
    pub(crate) to: To,
    /// Its bytes; none is Kafka's tombstone.
    pub(crate) raw: Option<Vec<u8>>,
}

/// Where a letter goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum To {
    /// A Kinesis stream, by its partition key.
    Stream(String, Option<String>),
    /// Whatever a delivery stream reads.
    Delivery(String),
    /// A Kafka topic.
    Topic(Record),
    /// A function, asynchronously.
    Function(String),
    /// Nowhere: why.
    Nowhere(String),
}

/// A Kafka record, but for its value and its time: with the old one the topic might forget it at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl To {
    /// What a request may have together: one kind, one name.
    pub(crate) fn place(&self) -> (u8, &str) {
        let kind = match self {
            Self::Stream(..) => 0,
            Self::Delivery(_) => 1,
            Self::Topic(_) => 2,
            Self::Function(_) => 3,
            Self::Nowhere(_) => 4,
        };
        (kind, self.name())
    }

    /// Whether it can be sent.
    pub(crate) fn is_somewhere(&self) -> bool {
        !matches!(self, Self::Nowhere(_))
    }

    /// As people name it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Stream(name, _) | Self::Delivery(name) | Self::Function(name) => name,
            Self::Topic(record) => &record.topic,
            Self::Nowhere(_) => "nowhere",
        }
    }
}

/// What is known of a stack beside its objects. What a letter names, and is none of this, is not sent anything.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Its name.
    pub(crate) stack: String,
    /// Where Firehose leaves what failed, and whose it is.
    pub(crate) errors: Vec<(Location, String)>,
    /// Its streams.
    pub(crate) streams: BTreeSet<String>,
    /// Topics that it reads, or that somebody named.
    pub(crate) topics: BTreeSet<String>,
}

impl Known {
    fn delivery(&self, at: &Location) -> Option<&str> {
        self.errors.iter().find(|(prefix, _)| prefix.covers(at)).map(|(_, name)| name.as_str())
    }

    /// Where it may go: a letter says itself where it came from, and whoever may write here may say anything.
    fn allow(&self, letter: Letter) -> Letter {
        let ours = match &letter.to {
            To::Stream(name, _) => self.streams.contains(name),
            To::Topic(record) => self.topics.contains(&record.topic),
            To::Function(name) => *name == format!("{}-orchestrator", self.stack),
            To::Delivery(_) | To::Nowhere(_) => true,
        };
        if ours {
            return letter;
        }
        let why =
            format!("`{}` is none of the streams, topics and functions of the stack {}", letter.to.name(), self.stack);
        Letter { to: To::Nowhere(why), ..letter }
    }
}

/// How letters lie in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// One a line.
    Lines,
    /// One a record of a Kinesis batch.
    Records,
    /// One, or several that go together.
    Whole,
}

/// An object's letters.
#[derive(Debug)]
pub(crate) struct Opened {
    /// All of them. Lines that are explanations only, of what lies elsewhere, are none.
    pub(crate) letters: Vec<Letter>,
    parts: Parts,
}

/// Reads an object.
///
/// # Errors
/// What is wrong with one that should be one of letters.
pub(crate) fn open(at: &Location, bytes: &[u8], known: &Known) -> Result<Opened, String> {
    let folders: Vec<&str> = at.key().split('/').collect();
    let one = |letter: Option<Letter>, what: &str| letter.map(|letter| vec![letter]).ok_or_else(|| what.to_owned());
    let (letters, parts) = match (known.delivery(at), folders.as_slice()) {
        (Some(delivery), _) => (lines(bytes, |line| failed_delivery(line, delivery)), Parts::Lines),
        (None, ["poison", "firehose", stream, ..]) => (lines(bytes, |line| bad_document(line, stream)), Parts::Lines),
        (None, ["poison", "ingest", ..]) => (lines(bytes, bad_record), Parts::Lines),
        (None, ["poison", "orchestrator", ..]) => {
            (one(buried(bytes, &known.stack), "it is no buried event"), Parts::Whole)
        }
        (None, ["poison", ..]) => (one(poison(bytes), "it is no dead letter"), Parts::Whole),
        (None, ["aws", "lambda", ..]) => match given_up(bytes, &known.stack) {
            Some((letters, parts)) => (Ok(letters), parts),
            None => (Err("it is no record of an invocation".to_owned()), Parts::Whole),
        },
        _ => (Ok(Vec::new()), Parts::Whole),
    };
    Ok(Opened { letters: letters?.into_iter().map(|letter| known.allow(letter)).collect(), parts })
}

impl Opened {
    /// Whether letters can be taken away one by one.
    pub(crate) fn has_parts(&self) -> bool {
        self.parts != Parts::Whole
    }

    /// As it is written again.
    pub(crate) fn content_type(&self) -> &'static str {
        if self.parts == Parts::Lines { "application/x-ndjson" } else { "application/json" }
    }

    /// The object without some of its letters; nothing if none is left.
    pub(crate) fn without(&self, bytes: &[u8], sent: &BTreeSet<usize>) -> Option<Vec<u8>> {
        match self.parts {
            Parts::Lines => {
                let left = split(bytes).enumerate().filter(|(number, _)| !sent.contains(number));
                let left: Vec<u8> = left.flat_map(|(_, line)| line.iter().chain(b"\n")).copied().collect();
                (!left.is_empty()).then_some(left)
            }
            _ if sent.len() == self.letters.len() => None,
            Parts::Records => Some(without_records(bytes, sent).unwrap_or_else(|| bytes.to_vec())),
            Parts::Whole => Some(bytes.to_vec()),
        }
    }
}

/// A batch that was given up, without some of its records.
fn without_records(bytes: &[u8], sent: &BTreeSet<usize>) -> Option<Vec<u8>> {
    let mut given_up: Value = serde_json::from_slice(bytes).ok()?;
    let payload = given_up.get_mut("payload")?;
    let mut batch: Value = serde_json::from_str(payload.as_str()?).ok()?;
    let mut number = 0..;
    batch.get_mut("Records")?.as_array_mut()?.retain(|_| number.next().is_some_and(|number| !sent.contains(&number)));
    *payload = batch.to_string().into();
    Some(given_up.to_string().into_bytes())
}

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// `read` gives `None` for a line that is not as it should be, `Some(None)` for one that is no letter.
fn lines(bytes: &[u8], read: impl Fn(&Value) -> Option<Option<Letter>>) -> Result<Vec<Letter>, String> {
    let mut letters = Vec::new();
    for (line, text) in split(bytes).enumerate() {
        let wrong = || format!("line {} is no dead letter", line + 1);
        let value: Value = serde_json::from_slice(text).map_err(|_| wrong())?;
        if let Some(letter) = read(&value).ok_or_else(wrong)? {
            letters.push(Letter { line, ..letter });
        }
    }
    Ok(letters)
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn bytes_of(value: &Value, name: &str) -> Option<Vec<u8>> {
    STANDARD.decode(value.get(name)?.as_str()?).ok()
}

/// A record of a stream (shared/records).
fn poison(bytes: &[u8]) -> Option<Letter> {
    let letter: Value = serde_json::from_slice(bytes).ok()?;
    let origin = letter.get("origin")?;
    let stream = text(origin, "stream")?;
    let to = match stream.as_str() {
        "unknown" => To::Nowhere("the event did not say which stream it was of".to_owned()),
        _ => To::Stream(stream, text(origin, "partition_key")),
    };
    let arrived_ms = letter.get("arrived_ms")?.as_u64()?;
    Some(Letter {
        line: 0,
        reason: text(&letter, "reason")?,
        arrived_ms,
        to,
        raw: Some(bytes_of(&letter, "raw_base64")?),
    })
}

/// A document of a delivery (functions/transform).
fn bad_document(line: &Value, stream: &str) -> Option<Option<Letter>> {
    if line.get("kept")?.as_str()? != "here" {
        return Some(None);
    }
    let to = To::Delivery(text(line, "delivery_stream").unwrap_or_else(|| stream.to_owned()));
    let arrived_ms = line.get("arrived_ms").and_then(Value::as_u64).unwrap_or_default();
    Some(Some(Letter {
        line: 0,
        reason: text(line, "reason")?,
        arrived_ms,
        to,
        raw: Some(bytes_of(line, "raw_base64")?),
    }))
}

/// A record of a delivery, as Firehose keeps it: one that was not transformed, or that was and then could not be converted.
fn failed_delivery(line: &Value, delivery: &str) -> Option<Option<Letter>> {
    let said = |name: &str, last: &str| text(line, name).or_else(|| text(line, last));
    let code = said("errorCode", "lastErrorCode")?;
    let reason = [code, said("errorMessage", "lastErrorMessage").unwrap_or_default()].join(": ");
    let arrived_ms = line.get("arrivalTimestamp").and_then(Value::as_u64).unwrap_or_default();
    let raw = Some(bytes_of(line, "rawData")?);
    let to = match line.get("lastErrorCode") {
        None => To::Delivery(delivery.to_owned()),
        Some(_) => To::Nowhere("it was transformed already; what it was before is not kept".to_owned()),
    };
    Some(Some(Letter { line: 0, reason, arrived_ms, to, raw }))
}

/// A record of Kafka's (functions/ingest).
fn bad_record(line: &Value) -> Option<Option<Letter>> {
    let header = |header: &Value| Some((text(header, "name")?, bytes_of(header, "value_base64")?));
    let record = Record {
        topic: text(line, "topic")?,
        partition: i32::try_from(line.get("partition")?.as_i64()?).ok()?,
        key: bytes_of(line, "key_base64"),
        headers: line.get("headers")?.as_array()?.iter().map(header).collect::<Option<_>>()?,
    };
    let arrived_ms = line.get("timestamp_ms").and_then(Value::as_u64).unwrap_or_default();
    let (raw, to) = match line.get("value_base64") {
        Some(Value::Null) => (None, To::Topic(record)),
        Some(_) => (Some(bytes_of(line, "value_base64")?), To::Topic(record)),
        None => (None, To::Nowhere("what Lambda passed on was not as Kafka had it".to_owned())),
    };
    Some(Some(Letter { line: 0, reason: text(line, "reason")?, arrived_ms, to, raw }))
}

/// An event that the orchestrator did not understand.
fn buried(bytes: &[u8], stack: &str) -> Option<Letter> {
    let letter: Value = serde_json::from_slice(bytes).ok()?;
    let raw = text(&letter, "raw")?.into_bytes();
    let arrived_ms = letter.get("stored_ms")?.as_u64()?;
    let to = To::Function(format!("{stack}-orchestrator"));
    Some(Letter { line: 0, reason: text(&letter, "reason")?, arrived_ms, to, raw: Some(raw) })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenUp<'a> {
    request_context: Context,
    timestamp: Option<String>,
    /// A mapping's event.
    payload: Option<String>,
    /// An asynchronous call's, byte for byte.
    #[serde(borrow)]
    request_payload: Option<&'a RawValue>,
    response_payload: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    function_arn: String,
    condition: Option<String>,
}

/// What Lambda gave up.
fn given_up(bytes: &[u8], stack: &str) -> Option<(Vec<Letter>, Parts)> {
    let given_up: GivenUp<'_> = serde_json::from_slice(bytes).ok()?;
    let Context { function_arn, condition } = given_up.request_context;
    // arn:aws:lambda:REGION:ACCOUNT:function:NAME, perhaps with a version.
    let function = function_arn.split(':').nth(6).unwrap_or(&function_arn).to_owned();
    let said = given_up.response_payload.as_ref().and_then(|said| text(said, "errorMessage"));
    let said = said.map_or(String::new(), |said| format!(": {said}"));
    let reason = format!("{function} gave it up ({}){said}", condition.as_deref().unwrap_or("unknown"));
    let at_ms = given_up.timestamp.and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let at_ms = at_ms.and_then(|at| u64::try_from(at.as_millisecond()).ok()).unwrap_or_default();
    if let Some(payload) = given_up.request_payload {
        let raw = Some(payload.get().as_bytes().to_vec());
        return Some((
            vec![Letter { line: 0, reason, arrived_ms: at_ms, to: To::Function(function), raw }],
            Parts::Whole,
        ));
    }
    let payload = given_up.payload?;
    if let Some(batch) = kafka::read_batch(&payload) {
        return Some((numbered(batch.partitions.into_iter().flat_map(|one| of_partition(one, &reason))), Parts::Whole));
    }
    // The stream's other readers have had these records.
    let shared = function == format!("{stack}-analytics");
    let letter = |record: kinesis::Record| {
        let to = match (shared, record.origin.stream.as_str()) {
            (true, _) => {
                To::Nowhere("the table has these records; only the statistics of their windows lack them".to_owned())
            }
            (false, "unknown") => To::Nowhere("the event did not say which stream it was of".to_owned()),
            (false, stream) => To::Stream(stream.to_owned(), record.origin.partition_key),
        };
        match record.data {
            Ok(raw) => Letter { line: 0, reason: reason.clone(), arrived_ms: record.arrived_ms, to, raw: Some(raw) },
            Err(unreadable) => {
                let to = To::Nowhere(unreadable.reason);
                Letter { line: 0, reason: reason.clone(), arrived_ms: record.arrived_ms, to, raw: None }
            }
        }
    };
    Some((numbered(kinesis::read_batch(&payload)?.into_iter().map(letter)), Parts::Records))
}

fn numbered(letters: impl Iterator<Item = Letter>) -> Vec<Letter> {
    letters.enumerate().map(|(line, letter)| Letter { line, ..letter }).collect()
}

fn of_partition(partition: kafka::Partition, reason: &str) -> Vec<Letter> {
    let kafka::Partition { topic, number, records } = partition;
    let letter = |record: kafka::Record| {
        let arrived_ms = record.timestamp_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default();
        let to = Record { topic: topic.clone(), partition: number, key: record.key, headers: record.headers };
        let (raw, to) = match record.value {
            Ok(raw) => (raw, To::Topic(to)),
            Err(unreadable) => (None, To::Nowhere(unreadable.reason)),
        };
        Letter { line: 0, reason: reason.to_owned(), arrived_ms, to, raw }
    };
    records.into_iter().map(letter).collect()
}
