//! Turns what a consumer group gets of a topic into invocations, as Lambda's event source mapping for Kafka does.
//!
//! One poller is one consumer. It gathers records of the partitions it has, up to the batch's size, 6 MB or the window; invokes;
//! commits the offsets of what is done, and goes back to where the function said for what is not. Delivered at least once: a poller
//! that dies has not committed, and whoever gets its partitions next begins where it last did. Source: Lambda developer guide, "Using
//! Lambda with self-managed Apache Kafka", "Amazon MSK event source mapping".

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_lambda::error::DisplayErrorContext;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, Offset, Timestamp, TopicPartitionList};
use serde_json::{Value, json};
use weir_delivery::BatchResponse;
use weir_delivery::kafka::Place;

use crate::chaos::Dice;
use crate::invoker::{Deployed, Invoker};
use crate::runtime::Answer;

type Failed = Box<dyn Error + Send + Sync>;

/// "The maximum payload size is 6 MB."
const MOST_BYTES: usize = 6 * 1024 * 1024;

/// What a record adds to the payload beside its key and value.
const ENVELOPE_BYTES: usize = 200;

/// How long a batch that failed waits.
const REST: Duration = Duration::from_millis(200);

/// How long a call to the broker may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mapping.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// `host:port,…`.
    pub brokers: String,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The most records of a batch.
    pub batch_size: usize,
    /// How long a batch is gathered.
    pub window: Duration,
    /// Whether answers name the partitions that are to come again.
    pub reports: bool,
}

/// A record, in the shape of the event.
struct Gathered {
    offset: i64,
    bytes: usize,
    json: Value,
}

type Batch = BTreeMap<i32, Vec<Gathered>>;

/// Polls until something fails, or whoever runs it drops it.
///
/// # Errors
/// The broker's, or the invoker's own.
pub async fn poll(mapping: &Mapping, invoker: &dyn Invoker, dice: &Dice) -> Result<(), Failed> {
    loop {
        consume(mapping, invoker, dice).await?;
    }
}

/// Until it can't go back to where it has to, because the partition was taken away meanwhile: reading on would leave something out.
/// Then it begins anew, where what is done ends.
async fn consume(mapping: &Mapping, invoker: &dyn Invoker, dice: &Dice) -> Result<(), Failed> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", &mapping.brokers)
        .set("group.id", &mapping.group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "500")
        .set("fetch.wait.max.ms", "50")
        .create()?;
    consumer.subscribe(&[&mapping.topic])?;
    loop {
        let batch = gather(mapping, &consumer).await?;
        let mishap = dice.throw(batch.values().map(Vec::len).sum());
        tokio::time::sleep(mishap.delay).await;
        let batch = match mishap.split {
            Some(most) => cut(batch, most),
            None => batch,
        };
        let outcome = invoker.invoke(&event(mapping, &batch).to_string()).await?;
        let again = again(mapping, &batch, &outcome);
        let (mut done, mut lost) = (TopicPartitionList::new(), false);
        for (partition, records) in &batch {
            let (Some(first), Some(last)) = (records.first(), records.last()) else { continue };
            let end = last.offset + 1;
            let back = match again.get(partition) {
                _ if mishap.again => Some(first.offset),
                Some(from) => Some(*from),
                None => {
                    done.add_partition_offset(&mapping.topic, *partition, Offset::Offset(end))?;
                    // What was cut off comes next.
                    mishap.split.map(|_| end)
                }
            };
            if let Some(back) = back {
                lost |= consumer.seek(&mapping.topic, *partition, Offset::Offset(back), PATIENCE).is_err();
            }
        }
        if mishap.again && !lost {
            continue;
        }
        // Another may have the partition by now: then its commit counts.
        let _ = consumer.commit(&done, CommitMode::Sync);
        if lost {
            return Ok(());
        }
        if !again.is_empty() {
            tokio::time::sleep(REST).await;
        }
    }
}

async fn gather(mapping: &Mapping, consumer: &StreamConsumer) -> Result<Batch, Failed> {
    let mut batch = Batch::new();
    let (mut count, mut bytes, mut since) = (0, 0, None::<Instant>);
    loop {
        let left = since.map_or(PATIENCE, |since| mapping.window.saturating_sub(since.elapsed()));
        let full = count >= mapping.batch_size || bytes >= MOST_BYTES - MOST_BYTES / 8;
        if since.is_some() && (full || left.is_zero()) {
            return Ok(batch);
        }
        let Ok(message) = tokio::time::timeout(left, consumer.recv()).await else { continue };
        let message = match message {
            Ok(message) => message,
            // Until the topic is made, or the broker is back.
            Err(error) => {
                eprintln!("weir-local: {}: {error}", mapping.topic);
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let gathered = gathered(&message);
        since.get_or_insert_with(Instant::now);
        (count, bytes) = (count + 1, bytes + gathered.bytes);
        let records = batch.entry(message.partition()).or_default();
        // After a rebalance a partition may begin again where it was committed.
        if records.last().is_some_and(|last: &Gathered| last.offset >= gathered.offset) {
            records.clear();
        }
        records.push(gathered);
    }
}

fn gathered(message: &BorrowedMessage<'_>) -> Gathered {
    let base64 = |bytes: Option<&[u8]>| bytes.map(|bytes| STANDARD.encode(bytes));
    let (timestamp, kind) = match message.timestamp() {
        Timestamp::NotAvailable => (None, "NO_TIMESTAMP_TYPE"),
        Timestamp::CreateTime(at) => (Some(at), "CREATE_TIME"),
        Timestamp::LogAppendTime(at) => (Some(at), "LOG_APPEND_TIME"),
    };
    // A byte is signed in Java.
    let signed = |value: Option<&[u8]>| value.unwrap_or_default().iter().map(|byte| *byte as i8).collect::<Vec<_>>();
    let headers: Option<Vec<Value>> =
        message.headers().map(|headers| headers.iter().map(|one| json!({one.key: signed(one.value)})).collect());
    let mut record = json!({
        "topic": message.topic(), "partition": message.partition(), "offset": message.offset(),
        "timestamp": timestamp, "timestampType": kind, "headers": headers.unwrap_or_default(),
    });
    for (name, value) in [("key", base64(message.key())), ("value", base64(message.payload()))] {
        if let (Some(value), Some(members)) = (value, record.as_object_mut()) {
            members.insert(name.to_owned(), value.into());
        }
    }
    let bytes = (message.payload_len() + message.key_len()) * 4 / 3 + ENVELOPE_BYTES;
    Gathered { offset: message.offset(), bytes, json: record }
}

/// The first so many records, of as many partitions as have them.
fn cut(batch: Batch, most: usize) -> Batch {
    let mut left = most;
    let mut first = Batch::new();
    for (partition, mut records) in batch {
        records.truncate(left.max(1));
        left = left.saturating_sub(records.len());
        first.insert(partition, records);
    }
    first
}

fn event(mapping: &Mapping, batch: &Batch) -> Value {
    let records = batch.iter().map(|(partition, records)| {
        let all: Vec<Value> = records.iter().map(|one| one.json.clone()).collect();
        (format!("{}-{partition}", mapping.topic), all.into())
    });
    let records: serde_json::Map<String, Value> = records.collect();
    json!({"eventSource": "SelfManagedKafka", "bootstrapServers": mapping.brokers, "records": records})
}

/// Where the partitions that are to come again begin.
fn again(mapping: &Mapping, batch: &Batch, outcome: &Answer) -> BTreeMap<i32, i64> {
    let all = || batch.iter().filter_map(|(partition, records)| Some((*partition, records.first()?.offset))).collect();
    let Answer::Response(text) = outcome else { return all() };
    if !mapping.reports {
        return BTreeMap::new();
    }
    let Ok(response) = serde_json::from_str::<BatchResponse<Place>>(text) else { return all() };
    let failed = response.batch_item_failures.into_iter().map(|failure| failure.item_identifier);
    let known = failed.map(|place| {
        let number: i32 = place.partition.strip_prefix(&mapping.topic)?.strip_prefix('-')?.parse().ok()?;
        batch.contains_key(&number).then_some((number, place.offset))
    });
    // A name that is none of the batch's fails it whole.
    known.collect::<Option<_>>().unwrap_or_else(all)
}

/// Drives a function's Kafka mappings as they are deployed.
///
/// # Errors
/// What AWS or the broker answered; or that there is none.
pub async fn drive(
    aws: &weir_lake::SdkConfig,
    function: &str,
    brokers: Option<&str>,
    dice: Arc<Dice>,
) -> Result<(), Failed> {
    let lambda = aws_sdk_lambda::Client::new(aws);
    let mut pollers = tokio::task::JoinSet::new();
    for mapping in mappings(&lambda, function, brokers).await? {
        let invoker = Deployed { lambda: lambda.clone(), function: function.to_owned() };
        println!("weir-local: driving {} of {} into {function}", mapping.topic, mapping.brokers);
        let dice = Arc::clone(&dice);
        pollers.spawn(async move { poll(&mapping, &invoker, &dice).await });
    }
    while let Some(ended) = pollers.join_next().await {
        ended??;
    }
    Err(format!("{function} has no Kafka mapping; is the stack deployed with KafkaBrokers?").into())
}

/// Makes topics that are not there.
///
/// # Errors
/// The broker's.
pub async fn make_topics(brokers: &str, names: &[String], partitions: i32) -> Result<(), Failed> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topics: Vec<_> = names.iter().map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1))).collect();
    for made in admin.create_topics(&topics, &AdminOptions::new()).await? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(format!("topic {name}: {code}").into()),
        }
    }
    Ok(())
}

/// A function's Kafka mappings as they are deployed. `brokers` are others than they say.
///
/// # Errors
/// What AWS answered.
pub async fn mappings(
    lambda: &aws_sdk_lambda::Client,
    function: &str,
    brokers: Option<&str>,
) -> Result<Vec<Mapping>, Failed> {
    let listed = lambda.list_event_source_mappings().function_name(function).send().await;
    let listed = listed.map_err(|error| format!("mappings of {function}: {}", DisplayErrorContext(error)))?;
    let mapping = |deployed: &aws_sdk_lambda::types::EventSourceMappingConfiguration| {
        let endpoints = deployed.self_managed_event_source()?.endpoints()?;
        let named = endpoints.values().next()?.join(",");
        let count = |set: Option<i32>, or| set.and_then(|set| usize::try_from(set).ok()).unwrap_or(or);
        let window = deployed.maximum_batching_window_in_seconds().and_then(|set| u64::try_from(set).ok());
        Some(Mapping {
            brokers: brokers.map_or(named, str::to_owned),
            // "If you don't specify a group, Lambda takes the mapping's UUID."
            group: deployed.uuid()?.to_owned(),
            topic: deployed.topics().first()?.clone(),
            batch_size: count(deployed.batch_size(), 100),
            window: window.map_or(Duration::from_millis(500), Duration::from_secs),
            reports: !deployed.function_response_types().is_empty(),
        })
    };
    Ok(listed.event_source_mappings().iter().filter_map(mapping).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(reports: bool) -> Mapping {
        let (brokers, group, topic) = ("b:1".to_owned(), "g".to_owned(), "web-logs".to_owned());
        Mapping { brokers, group, topic, batch_size: 10, window: Duration::ZERO, reports }
    }

    fn batch() -> Batch {
        let one = |offset| Gathered { offset, bytes: 1, json: json!({"offset": offset}) };
        BTreeMap::from([(0, vec![one(5), one(6)]), (3, vec![one(9)])])
    }

    fn response(partition: &str, offset: i64) -> Answer {
        let failed = json!([{"itemIdentifier": {"partition": partition, "offset": offset}}]);
        Answer::Response(json!({"batchItemFailures": failed}).to_string())
    }

    #[test]
    fn what_comes_again_is_what_the_answer_names_or_all() {
        let all = BTreeMap::from([(0, 5), (3, 9)]);
        let again = |reports, answer| again(&mapping(reports), &batch(), &answer);
        assert_eq!(again(true, response("web-logs-0", 6)), BTreeMap::from([(0, 6)]));
        assert_eq!(again(true, Answer::Response(r#"{"batchItemFailures":[]}"#.into())), BTreeMap::new());
        assert_eq!(again(true, response("other-0", 6)), all);
        assert_eq!(again(true, Answer::Response("no".into())), all);
        assert_eq!(
            again(false, response("web-logs-0", 6)),
            BTreeMap::new(),
            "an answer counts only where it is asked for"
        );
        assert_eq!(again(false, Answer::Nothing), all);
        assert_eq!(again(true, Answer::Error("{}".into())), all);
    }

    #[test]
    fn the_event_is_as_lambda_documents_it() {
        let event = event(&mapping(true), &batch()).to_string();
        let read = weir_delivery::kafka::read_batch(&event).unwrap();
        let names: Vec<_> = read.partitions.iter().map(|one| (one.name(), one.records.len())).collect();
        assert_eq!(names, [("web-logs-0".to_owned(), 2), ("web-logs-3".to_owned(), 1)]);
        let cut = cut(batch(), 1);
        assert_eq!(cut.values().map(Vec::len).collect::<Vec<_>>(), [1, 1], "of each partition at least one");
    }
}
