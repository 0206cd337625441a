//! Letters on their way back.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use weir_delivery::Failure;

use super::drive::Carrier;
use super::letters::{Letter, Record, To};
use super::places::Source;
use crate::produce::kafka::Topic;
use crate::produce::lanes::Packed;
use crate::produce::sink::{Sink, Taken};
use crate::stack::said;
use crate::{Stack, Stop};

/// How often a letter is tried before it stays where it is.
const ATTEMPTS: u32 = 8;

/// Half of how long the second try waits; each waits twice as long as the one before, up to the seventh.
const PAUSE: Duration = Duration::from_millis(100);

/// Where Kafka is, for letters of topics.
pub(crate) struct Brokers {
    pub(crate) addresses: String,
    pub(crate) settings: Vec<(String, String)>,
}

/// Sends letters to where they came from.
pub(crate) struct Sender {
    aws: ::aws_config::SdkConfig,
    sources: BTreeMap<String, Source>,
    brokers: Option<Brokers>,
    topics: BTreeMap<String, Topic>,
}

impl Sender {
    pub(crate) fn new(stack: &Stack, sources: BTreeMap<String, Source>, brokers: Option<Brokers>) -> Self {
        Self { aws: stack.aws.clone(), sources, brokers, topics: BTreeMap::new() }
    }

    async fn invoke(&self, name: &str, letters: &[&Letter]) -> Vec<Result<(), Failure>> {
        let client = aws_sdk_lambda::Client::new(&self.aws);
        let mut answers = Vec::new();
        for letter in letters {
            let payload = Blob::new(letter.raw.clone().unwrap_or_default());
            let asked = client.invoke().function_name(name).invocation_type(InvocationType::Event).payload(payload);
            let asked = asked.send().await;
            answers.push(asked.map(drop).map_err(|error| Failure::user("Invoke", said(&error))));
        }
        answers
    }

    async fn topic(&mut self, name: &str) -> Result<&Topic, Stop> {
        if !self.topics.contains_key(name) {
            let Some(brokers) = &self.brokers else {
                return Err(Stop(2, format!("the topic {name} is Kafka's: say where that is (--kafka HOST:PORT)")));
            };
            let topic = Topic::new(&brokers.addresses, name, "none", true, &brokers.settings)?;
            topic.look().await?;
            self.topics.insert(name.to_owned(), topic);
        }
        self.topics.get(name).ok_or_else(|| Stop(1, format!("there is no topic {name}")))
    }

    async fn produce(&mut self, name: &str, letters: &[&Letter]) -> Vec<Result<(), Failure>> {
        let topic = match self.topic(name).await {
            Ok(topic) => topic,
            Err(Stop(_, reason)) => return refuse(letters, "Kafka", &reason),
        };
        let sends = letters.iter().map(|letter| async {
            let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(name);
            if let Some(raw) = &letter.raw {
                record = record.payload(raw);
            }
            if let To::Topic(Record { partition, key, headers, .. }) = &letter.to {
                let add = |all: OwnedHeaders, (key, value): &(String, Vec<u8>)| {
                    all.insert(Header { key, value: Some(value) })
                };
                record = record.partition(*partition).headers(headers.iter().fold(OwnedHeaders::new(), add));
                if let Some(key) = key {
                    record = record.key(key);
                }
            }
            topic.send(record).await
        });
        futures::future::join_all(sends).await
    }
}

fn refuse(letters: &[&Letter], code: &str, reason: &str) -> Vec<Result<(), Failure>> {
    letters.iter().map(|_| Err(Failure::user(code, reason))).collect()
}

impl Carrier for Sender {
    async fn carry(&mut self, letters: &[&Letter]) -> Vec<Result<(), Failure>> {
        let Some(first) = letters.first() else { return Vec::new() };
        let stream = |name: &str| Sink::Kinesis(aws_sdk_kinesis::Client::new(&self.aws), name.to_owned());
        let sink = match &first.to {
            To::Nowhere(why) => return refuse(letters, "Nowhere", why),
            To::Function(name) => return self.invoke(name, letters).await,
            To::Topic(record) => {
                let topic = record.topic.clone();
                return self.produce(&topic, letters).await;
            }
            To::Stream(name, _) => stream(name),
            To::Delivery(name) => match self.sources.get(name) {
                Some(Source::Direct) => Sink::Firehose(aws_sdk_firehose::Client::new(&self.aws), name.clone()),
                Some(Source::Stream(stream_name)) => stream(stream_name),
                Some(Source::Topic(topic)) => {
                    let reason = format!("{name} reads the topic {topic}, whose other readers have this record");
                    return refuse(letters, "OtherReaders", &reason);
                }
                None => return refuse(letters, "Gone", &format!("the stack has no delivery stream {name}")),
            },
        };
        let packed: Vec<Packed> = letters.iter().map(|letter| pack(letter)).collect();
        patiently(packed, PAUSE, async |request| sink.put(request).await).await
    }
}

fn pack(letter: &Letter) -> Packed {
    let key = match &letter.to {
        To::Stream(_, Some(key)) => key.clone(),
        // It was not kept: any shard will do.
        _ => format!("redrive-{:016x}", rand::random::<u64>()),
    };
    let data = Bytes::from(letter.raw.clone().unwrap_or_default());
    Packed { lane: 0, partition_key: key, explicit_hash_key: None, shard: 0, data, rows: Vec::new(), attempts: 0 }
}

/// Tries those again that a shard had no room for. What nothing is said of has not arrived.
async fn patiently(
    packed: Vec<Packed>,
    pause: Duration,
    put: impl AsyncFn(&[Packed]) -> Vec<Taken>,
) -> Vec<Result<(), Failure>> {
    let unsaid = || Err(Failure::passing("NoAnswer", "nothing was said of it"));
    let mut answers: Vec<Result<(), Failure>> = packed.iter().map(|_| unsaid()).collect();
    let mut waiting: Vec<usize> = (0..packed.len()).collect();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(pause * (1 << attempt.min(6))).await;
        }
        let request: Vec<Packed> = waiting.iter().filter_map(|place| packed.get(*place).cloned()).collect();
        for (place, taken) in waiting.iter().zip(put(&request).await) {
            if let Some(answer) = answers.get_mut(*place) {
                *answer = if let Taken::No(failure) = taken { Err(failure) } else { Ok(()) };
            }
        }
        waiting.retain(|place| matches!(answers.get(*place), Some(Err(failure)) if failure.passes()));
        if waiting.is_empty() {
            break;
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn packed(count: usize) -> Vec<Packed> {
        let letter = |n: usize| Letter {
            line: n,
            reason: String::new(),
            arrived_ms: 0,
            to: To::Stream("s".into(), Some(format!("key-{n}"))),
            raw: Some(vec![0]),
        };
        (0..count).map(|n| pack(&letter(n))).collect()
    }

    /// A stream that has no room the first time, refuses one for good, and says nothing of the last.
    #[tokio::test]
    async fn only_what_was_taken_is_said_to_be() {
        let asked: RefCell<Vec<Vec<String>>> = RefCell::default();
        let answers = patiently(packed(4), Duration::ZERO, async |request| {
            asked.borrow_mut().push(request.iter().map(|packed| packed.partition_key.clone()).collect());
            let first = asked.borrow().len() == 1;
            let said = request.iter().filter(|packed| packed.partition_key != "key-3").map(|packed| {
                match packed.partition_key.as_str() {
                    "key-0" if first => Taken::No(Failure::passing("Throttled", "no room")),
                    "key-1" => Taken::No(Failure::user("TooLarge", "never")),
                    _ => Taken::Yes(None),
                }
            });
            said.collect()
        })
        .await;
        let codes: Vec<&str> = answers
            .iter()
            .map(|answer| answer.as_ref().map_or_else(|failure| failure.code.as_str(), |()| "taken"))
            .collect();
        assert_eq!(codes, ["taken", "TooLarge", "taken", "NoAnswer"]);
        let asked = asked.into_inner();
        assert_eq!(asked[1], ["key-0", "key-3"], "those that may pass, and of which nothing was said");
        assert_eq!(asked.len(), ATTEMPTS as usize, "and no more often than that");
    }
}
