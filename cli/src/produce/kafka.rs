//! A Kafka topic, by an idempotent producer: the broker takes each record once, in order, however often it is sent.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use weir_delivery::Failure;

use super::lanes::Packed;
use super::sink::Taken;
use crate::Stop;

/// How long a broker may take to say that it has the topic.
const PATIENCE: Duration = Duration::from_secs(10);

/// A topic.
pub(crate) struct Topic {
    pub(crate) name: String,
    producer: Arc<FutureProducer>,
    /// Whether rows have keys of their own.
    keyed: bool,
}

/// What else librdkafka is told, from a file of `name=value` lines: secrets do not belong among arguments.
pub(crate) fn read_settings(path: &Path) -> Result<Vec<(String, String)>, Stop> {
    let wrong = |what: String| Stop(2, format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let set = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let pair = |(at, line): (usize, &str)| match line.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        // Not the line itself: it may be a secret.
        None => Err(wrong(format!("line {at} is not name=value"))),
    };
    set.map(pair).collect()
}

impl Topic {
    pub(crate) fn new(
        brokers: &str,
        name: &str,
        compression: &str,
        keyed: bool,
        more: &[(String, String)],
    ) -> Result<Self, Stop> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("client.id", "weir")
            .set("compression.codec", compression)
            .set("linger.ms", "5")
            // Java's partitioner, so that a key is where other producers have it.
            .set("partitioner", "murmur2_random");
        for (name, value) in more {
            config.set(name, value);
        }
        // Whatever else is said.
        config.set("enable.idempotence", "true");
        let producer: FutureProducer = config.create().map_err(|error| Stop(2, format!("Kafka: {error}")))?;
        Ok(Self { name: name.to_owned(), producer: Arc::new(producer), keyed })
    }

    /// Looks whether it is there: said now rather than with the first thousand rows in hand.
    pub(crate) async fn look(&self) -> Result<(), Stop> {
        let (producer, name) = (Arc::clone(&self.producer), self.name.clone());
        let found = tokio::task::spawn_blocking(move || producer.client().fetch_metadata(Some(&name), PATIENCE)).await;
        let found = found.map_err(|error| Stop(1, error.to_string()))?;
        let found = found.map_err(|error| Stop(3, format!("the brokers do not answer: {error}")))?;
        match found.topics().first().and_then(|topic| topic.error()) {
            None => Ok(()),
            // It is being made, where brokers make topics.
            Some(error) if RDKafkaErrorCode::from(error) == RDKafkaErrorCode::LeaderNotAvailable => Ok(()),
            Some(error) => match RDKafkaErrorCode::from(error) {
                RDKafkaErrorCode::UnknownTopicOrPartition => {
                    Err(Stop(3, format!("there is no topic {}, or it may not be seen; make it first", self.name)))
                }
                code => Err(Stop(3, format!("topic {}: {code}", self.name))),
            },
        }
    }

    /// Sends one, as it is.
    pub(crate) async fn send(&self, record: FutureRecord<'_, [u8], [u8]>) -> Result<(), Failure> {
        self.producer.send(record, None).await.map(drop).map_err(|(error, _)| failure(&error))
    }

    /// Sends records; an answer for each, in order.
    pub(crate) async fn put(&self, records: &[Packed]) -> Vec<Taken> {
        let sends = records.iter().map(|packed| async {
            let record = FutureRecord::to(&self.name).payload(packed.data.as_ref());
            let record = if self.keyed { record.key(packed.partition_key.as_str()) } else { record };
            match self.producer.send(record, None).await {
                Ok(_) => Taken::Yes(None),
                Err((error, _)) => Taken::No(failure(&error)),
            }
        });
        join_all(sends).await
    }
}

/// The producer has tried for minutes, and may not know whether the broker has it: sent anew, it could be there twice.
fn failure(error: &KafkaError) -> Failure {
    Failure::user("Kafka", format!("{error}; whether the broker has them is not known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_lines_and_a_wrong_one_is_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "# MSK\nsecurity.protocol = SASL_SSL\n\nsasl.password=a=b\n").unwrap();
        let found = read_settings(file.path()).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found, [pair("security.protocol", "SASL_SSL"), pair("sasl.password", "a=b")]);
        std::fs::write(&file, "hunter2").unwrap();
        let Stop(code, said) = read_settings(file.path()).unwrap_err();
        assert!(code == 2 && said.contains("line 1") && !said.contains("hunter2"), "{said}");
    }
}
