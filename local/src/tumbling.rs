//! Tumbling windows, by Lambda's documented rules.
//!
//! Source: Lambda developer guide, "Implementing stateful Kinesis Data Streams processing in Lambda": windows are cut "based on the
//! time when records were inserted into the stream"; each shard has its own state, which an answer gives and the window's next
//! invocation gets; a state of more than 1 MB ends the window early; "when a shard ends, Lambda considers the current window to be
//! closed"; "when no new records are being added to the current window, Lambda waits for up to 2 minutes before assuming that the
//! window is over". A laptop waits for less. What is not documented, and is so here: the last invocation has no records, and a batch
//! that fails in part leaves the state as it was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_sdk_kinesis::types::Record;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::mapping::Batch;
use crate::poller::{Failed, Mapping, PAUSE};

/// How long after its end a window waits for records.
const PATIENCE: Duration = Duration::from_secs(1);

const MOST_STATE_BYTES: usize = 1 << 20;

/// What goes from one of a window's invocations to the next.
pub(crate) struct Carried {
    start_ms: u64,
    length_ms: u64,
    pub(crate) state: Value,
    /// Whether the window ends with this invocation, and whether before its time.
    pub(crate) ends: bool,
    early: bool,
}

impl Carried {
    fn new(arrived_ms: u64, length: Duration) -> Self {
        let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1);
        let start_ms = arrived_ms / length_ms * length_ms;
        Self { start_ms, length_ms, state: json!({}), ends: false, early: false }
    }

    fn end_ms(&self) -> u64 {
        self.start_ms + self.length_ms
    }

    fn has(&self, arrived_ms: u64) -> bool {
        (self.start_ms..self.end_ms()).contains(&arrived_ms)
    }

    fn is_too_large(&self) -> bool {
        self.state.to_string().len() > MOST_STATE_BYTES
    }

    /// The members that a window's invocation has beside its records.
    pub(crate) fn onto(&self, event: &mut Value, shard: &str, stream_arn: &str) {
        let moment = |ms: u64| {
            let at = aws_sdk_kinesis::primitives::DateTime::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
            at.fmt(aws_sdk_kinesis::primitives::DateTimeFormat::DateTime).unwrap_or_default()
        };
        for (name, value) in [
            ("window", json!({"start": moment(self.start_ms), "end": moment(self.end_ms())})),
            ("state", self.state.clone()),
            ("shardId", json!(shard)),
            ("eventSourceARN", json!(stream_arn)),
            ("isFinalInvokeForWindow", json!(self.ends)),
            ("isWindowTerminatedEarly", json!(self.early)),
        ] {
            event[name] = value;
        }
    }
}

fn arrived_ms(record: &Record) -> u64 {
    let at = record.approximate_arrival_timestamp().and_then(|at| at.to_millis().ok());
    at.and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default()
}

impl Mapping {
    /// A shard's records, window by window, each batch finished before the next.
    pub(crate) async fn windows(
        self: Arc<Self>,
        shard: String,
        mut records: mpsc::Receiver<Record>,
        length: Duration,
    ) -> Result<(), Failed> {
        let mut waiting: VecDeque<Record> = VecDeque::new();
        let mut window: Option<Carried> = None;
        let mut since = Instant::now();
        let mut open = true;
        while open || !waiting.is_empty() || window.is_some() {
            while waiting.len() < self.settings.batch_size {
                match records.try_recv() {
                    Ok(record) => waiting.push_back(record),
                    Err(error) => {
                        open &= error == mpsc::error::TryRecvError::Empty;
                        break;
                    }
                }
            }
            let Some(first) = waiting.front() else {
                since = Instant::now();
                match &window {
                    Some(known) if !open || is_over(known)? => self.end(&shard, &mut window, false).await?,
                    _ => tokio::time::sleep(PAUSE).await,
                }
                continue;
            };
            let carried = window.get_or_insert_with(|| Carried::new(arrived_ms(first), length));
            let of_window = waiting.iter().take_while(|record| carried.has(arrived_ms(record))).count();
            let is_whole = of_window < waiting.len() || of_window == self.settings.batch_size || !open;
            if of_window > 0 && !is_whole && since.elapsed() < self.settings.window {
                tokio::time::sleep(PAUSE).await;
            } else if of_window > 0 {
                let batch = waiting.drain(..of_window.min(self.settings.batch_size)).collect();
                self.with_mishaps(&shard, batch, Some(carried)).await?;
                since = Instant::now();
                if carried.is_too_large() {
                    self.end(&shard, &mut window, true).await?;
                }
            } else {
                self.end(&shard, &mut window, false).await?;
            }
        }
        Ok(())
    }

    async fn end(&self, shard: &str, window: &mut Option<Carried>, early: bool) -> Result<(), Failed> {
        if let Some(mut carried) = window.take() {
            (carried.ends, carried.early) = (true, early);
            self.finish(shard, Batch { records: Vec::new(), retries: 0 }, Some(&mut carried)).await?;
        }
        Ok(())
    }
}

fn is_over(window: &Carried) -> Result<bool, Failed> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(now > Duration::from_millis(window.end_ms()) + PATIENCE)
}
