//! The first step: a Kinesis batch is reduced, and staged by table. Only then the stream is told that it was read.

use futures::StreamExt;
use futures::future::BoxFuture;
use weir_alerts::Notice;
use weir_delivery::kinesis::{self, BatchResponse, Record};
use weir_delivery::{Advice, Failure, Outcome, Poison};
use weir_ledger::backlog::{self, Backlog, change};
use weir_records::{keep, open, place_of};
use weir_telemetry::{DeadLetter, Trouble, Visit};

use crate::Cdc;
use crate::said::{BatchStaged, ControlCame, NotTaken};
use crate::sort::{Share, sort};
use crate::staged::{backlog_of, write};

/// Tables that are staged at a time, and dead letters that are written.
const AT_ONCE: usize = 16;

impl Cdc {
    /// Answers a batch. What of it must come again comes again with all that is behind it, and changes nothing the second time.
    pub async fn stage(&self, records: Vec<Record>, visit: &Visit) -> BatchResponse {
        let begun_ms = visit.now_ms();
        let oldest = records.iter().map(|record| record.arrived_ms).filter(|at| *at > 0).min().unwrap_or(begun_ms);
        let records = open(records);
        let mut sorted = sort(&self.config.routes, &records);
        for control in &sorted.controls {
            self.herald.say(visit, &ControlCame(control));
        }
        for (source, count) in &sorted.not_taken {
            if self.memory.is_news(format!("not taken: {source}")) {
                self.herald.say(visit, &NotTaken { source, count: *count });
            }
        }
        let mut staging: Vec<BoxFuture<'_, _>> = Vec::new();
        for share in &sorted.shares {
            staging.push(Box::pin(async move { (share, self.stage_share(share, visit).await) }));
        }
        let mut retried: Vec<(usize, Failure)> = Vec::new();
        let mut files = 0;
        let mut staging = futures::stream::iter(staging).buffer_unordered(AT_ONCE);
        while let Some((share, staged)) = staging.next().await {
            match staged {
                Ok(()) => files += 1,
                Err(failure) => {
                    let doing = format!("stage changes of {}, which come again", share.name.source);
                    self.herald.say(visit, &Trouble { doing: &doing, failure: &failure });
                    retried.extend(share.records.iter().map(|number| (*number, failure.clone())));
                }
            }
        }
        drop(staging);
        for (number, failure) in retried {
            if let Some(outcome) = sorted.outcomes.get_mut(number) {
                *outcome = Outcome::Retry(failure);
            }
        }
        let mut ends: Vec<BoxFuture<'_, Outcome>> = Vec::new();
        for (record, outcome) in records.iter().zip(sorted.outcomes) {
            ends.push(Box::pin(async move {
                match outcome {
                    Outcome::Poison(poison) => self.keep_letter(record, poison, visit).await,
                    other => other,
                }
            }));
        }
        let outcomes: Vec<Outcome> = futures::stream::iter(ends).buffered(AT_ONCE).collect().await;
        self.herald.say(
            visit,
            &BatchStaged {
                outcomes: &outcomes,
                counts: &sorted.counts,
                not_taken: sorted.not_taken.values().sum(),
                files,
                lag_ms: begun_ms.saturating_sub(oldest),
                ms: visit.now_ms().saturating_sub(begun_ms),
                cold_start: visit.cold_start,
            },
        );
        kinesis::respond(records.iter().map(|record| &record.origin).zip(&outcomes))
    }

    /// Stages what a batch has for one table, and notes that it is there. The file comes first: what is noted is there.
    async fn stage_share(&self, share: &Share, visit: &Visit) -> Result<(), Failure> {
        let name = &share.name;
        let at = name.at(&self.config.staged());
        self.lake.put(&at, write(&share.lines)?, "application/zstd").await?;
        let table = backlog_of(&name.source);
        let known = self.backlogs.backlog(&table).await?.unwrap_or_else(|| Backlog::new(&table));
        let now_ms = visit.now_ms();
        let noted = |known: &Backlog| backlog::note(known, &name.shard, &name.last, now_ms);
        change(self.backlogs.as_ref(), &self.writer, &known, noted).await.map(drop)
    }

    /// Stores a dead letter before the record is acknowledged; if that fails, the record must come again.
    async fn keep_letter(&self, record: &Record, poison: Poison, visit: &Visit) -> Outcome {
        let bucket = &self.config.dead_letter_bucket;
        match keep(self.lake.as_ref(), bucket, record, &poison, visit.now_ms()).await {
            Err(failure) => {
                // Whatever the cause, acknowledging would lose the record.
                let failure = Failure { advice: Advice::Retry, ..failure };
                Outcome::Retry(failure.while_("store a dead letter"))
            }
            Ok(at) => {
                let at = at.to_string();
                self.herald.say(visit, &DeadLetter { at: &at, reason: &poison.reason, counted: None });
                let notice = Notice {
                    what: "read a change".to_owned(),
                    place: place_of(record),
                    failure: Failure::user("BadChange", poison.reason.clone()),
                    job_id: None,
                    next_step: format!(
                        "The record is kept at {at}. Until it is mended and sent again, its row is in the table as it was."
                    ),
                };
                self.herald.tell(&notice, visit).await;
                Outcome::Poison(poison)
            }
        }
    }
}
