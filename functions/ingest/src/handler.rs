//! One invocation.

use futures::StreamExt;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use weir_delivery::kafka::{Batch, Place, read_batch, respond};
use weir_delivery::{BatchResponse, Failure};
use weir_telemetry::Visit;

use crate::Ingest;
use crate::compact::{Asked, Report};
use crate::partition::Counts;
use crate::said::{BatchTaken, Held};

/// How many partitions are worked on at a time.
const AT_ONCE: usize = 16;

/// What it may be invoked with beside batches.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Sweep(IgnoredAny),
    Compact(Asked),
}

/// What it answers.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Which partitions are to come again.
    Batch(BatchResponse<Place>),
    /// What was compacted.
    Compacted(Report),
}

impl Ingest {
    /// Answers one invocation: a batch, `{"sweep":{}}`, or `{"compact":{…}}`.
    ///
    /// # Errors
    /// What is nothing of these; if the mapping heeds no partial failures, whatever holds back one partition; what keeps a partition
    /// from being compacted.
    pub async fn handle(&self, payload: &str, visit: &Visit) -> Result<Answer, Failure> {
        if let Some(batch) = read_batch(payload) {
            return self.take_batch(batch, visit).await.map(Answer::Batch);
        }
        match serde_json::from_str::<Request>(payload) {
            Ok(Request::Sweep(_)) => self.sweep(visit).await.map(|()| Answer::Batch(respond([]))),
            // It has not the rights to, and would leave partitions moving.
            Ok(Request::Compact(_)) if self.config.role != "compact" => {
                Err(Failure::user("NotHere", "the stack's function `compact` does that"))
            }
            Ok(Request::Compact(asked)) => self.compact(&asked, visit).await.map(Answer::Compacted),
            // Not the parser's words: they show what was sent.
            Err(_) => {
                let reason = "this is no batch of records as Lambda delivers them from Kafka, nor a request (`sweep`, `compact`) with members that there are";
                Err(Failure::user("NotKafka", reason))
            }
        }
    }

    async fn take_batch(&self, batch: Batch, visit: &Visit) -> Result<BatchResponse<Place>, Failure> {
        let begun_ms = visit.now_ms();
        let count = batch.partitions.len();
        let records = batch.partitions.iter().flat_map(|partition| &partition.records);
        let oldest = records.filter_map(|record| record.timestamp_ms).min();
        let lag_ms = oldest.and_then(|at| u64::try_from(at).ok()).map_or(0, |at| begun_ms.saturating_sub(at));
        let source = &batch.source;
        let each = batch.partitions.into_iter().map(|partition| async move {
            let name = partition.name();
            let heeded = self.config.partial_failures.contains(&partition.topic);
            let first = partition.records.iter().find_map(|record| record.offset).filter(|_| heeded);
            (name, first, self.take_in(source, partition, visit).await)
        });
        let ended: Vec<_> = futures::stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
        let (mut total, mut held, mut whole) = (Counts::default(), Vec::new(), None);
        for (name, first, outcome) in ended {
            match outcome {
                Ok(counts) => total.add(&counts),
                Err(failure) => {
                    self.herald.say(visit, &Held { partition: &name, failure: &failure });
                    // If it can't be named to Lambda, or that would not be heeded, all of the batch must come again.
                    if first.is_none() {
                        whole = Some(failure.while_(format!("take in {name}")));
                    }
                    held.push((name, first));
                }
            }
        }
        let ms = visit.now_ms().saturating_sub(begun_ms);
        let cold_start = visit.cold_start;
        let said = BatchTaken { partitions: count, counts: &total, held: held.len(), lag_ms, ms, cold_start };
        self.herald.say(visit, &said);
        match whole {
            Some(failure) => Err(failure),
            None => Ok(respond(held.into_iter().filter_map(|(name, first)| Some((name, first?))))),
        }
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        let Self { records, known, clean, dropped, bad, poison, tombstones, files, bytes_out } = other;
        self.records += records;
        self.known += known;
        self.clean += clean;
        self.dropped += dropped;
        self.bad += bad;
        self.poison += poison;
        self.tombstones += tombstones;
        self.files += files;
        self.bytes_out += bytes_out;
    }
}
