//! What a batch has of one topic-partition: whether it is to be taken, by whom, and what is said of it.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use weir_alerts::Notice;
use weir_contract::Violation;
use weir_delivery::Failure;
use weir_delivery::kafka::{Partition, Record, Source};
use weir_ledger::positions::{Position, Range, Taking, take};
use weir_telemetry::Visit;

use crate::files::{NDJSON, stem};
use crate::rows::{Aside, Origin};
use crate::said::{GapFound, Kept, Recreated};
use crate::work::{Stop, Work};
use crate::{Ingest, LAST_MS};

/// How often a partition is tried that another changes at the same time.
const MOST_TRIES: usize = 3;

/// What became of the records of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records.
    pub records: u64,
    /// Those that were committed before.
    pub known: u64,
    /// Rows in the table.
    pub clean: u64,
    /// Rows that the contract drops.
    pub dropped: u64,
    /// Rows that break a rule.
    pub bad: u64,
    /// Records that are no rows.
    pub poison: u64,
    /// Records without a value.
    pub tombstones: u64,
    /// Files in the table.
    pub files: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

/// Records with their offsets, in order, each once.
pub(crate) struct Batch {
    pub(crate) records: Vec<(i64, Record)>,
    /// The same without what is in them, as the protocol takes them.
    pub(crate) stamps: Vec<(i64, Option<i64>)>,
}

impl Batch {
    fn of(records: Vec<Record>) -> (Self, Vec<Record>) {
        let (placed, lost): (Vec<Record>, Vec<Record>) =
            records.into_iter().partition(|record| record.offset.is_some());
        let mut records: Vec<(i64, Record)> =
            placed.into_iter().filter_map(|record| Some((record.offset?, record))).collect();
        records.sort_by_key(|(offset, _)| *offset);
        records.dedup_by_key(|(offset, _)| *offset);
        let stamps = records.iter().map(|(offset, record)| (*offset, record.timestamp_ms)).collect();
        (Self { records, stamps }, lost)
    }

    pub(crate) fn span(&self) -> Option<Range> {
        let (first, last) = (self.stamps.first()?, self.stamps.last()?);
        Some(Range { from: first.0, to: last.0 + 1 })
    }
}

impl Ingest {
    /// Commits what a batch has of one partition.
    ///
    /// # Errors
    /// What holds the partition back: its records must come again.
    pub async fn take_in(&self, source: &Source, partition: Partition, visit: &Visit) -> Result<Counts, Failure> {
        let cluster = match source {
            Source::Msk(arn) => arn.as_str(),
            Source::SelfManaged(_) => self.config.cluster.as_str(),
        };
        let name = format!("{cluster}/{}/{}", partition.topic, partition.number);
        let contract = self.config.topics.get(&partition.topic).cloned();
        let origin = Origin { topic: partition.topic, number: partition.number, contract };
        let (batch, lost) = Batch::of(partition.records);
        let mut counts = Counts { records: (batch.records.len() + lost.len()) as u64, ..Counts::default() };
        counts.poison += lost.len() as u64;
        self.keep_lost(&origin, &lost, visit).await?;
        let batch = Arc::new(batch);
        let Some(span) = batch.span() else { return Ok(counts) };
        let (mut known, mut sure) = match self.remembered(&name) {
            Some(position) => (position, false),
            None => (self.look_up(&name).await?, true),
        };
        for _ in 0..MOST_TRIES {
            let now_ms = visit.now_ms();
            if !visit.has_left(LAST_MS) {
                return Err(Failure::passing("OutOfTime", format!("there is no time left for {name}")));
            }
            let own = match take(&known, &batch.stamps, self.lease_until_ms(visit), now_ms) {
                Some(Taking::Take(own)) => *own,
                // Another may have gone on meanwhile.
                _ if !sure => {
                    (known, sure) = (self.look_up(&name).await?, true);
                    continue;
                }
                None => return Ok(counts),
                Some(Taking::Known) => {
                    counts.known = batch.records.len() as u64;
                    // Whoever committed them may have died before it noted that there is work.
                    self.note_work(&origin, visit).await?;
                    return Ok(counts);
                }
                Some(Taking::Busy(until_ms)) => {
                    let reason =
                        format!("another is at {name}, for {} more seconds at most", (until_ms - now_ms) / 1000);
                    return Err(Failure::passing("Busy", reason));
                }
                Some(Taking::Recreated(offset, stopped)) => {
                    // Stored first: what comes when this batch is given up must not be taken for the old topic's.
                    match self.step(*stopped, known.version, None).await {
                        Ok(_) => return Err(self.recreated(&name, offset, visit).await),
                        Err(Stop::Failed(failure)) => return Err(failure),
                        Err(Stop::Overtaken(there)) => {
                            (known, sure) = (there.unwrap_or_else(|| Position::new(&name)), true);
                            continue;
                        }
                    }
                }
                Some(Taking::Stopped(offset)) => return Err(self.recreated(&name, offset, visit).await),
            };
            match Work::new(self, &origin, &batch, visit, &known).run(own).await {
                Ok(done) => {
                    self.note_work(&origin, visit).await?;
                    self.tell_of_gap(&known, span, visit);
                    return Ok(Counts { records: counts.records, poison: counts.poison + done.poison, ..done });
                }
                Err(Stop::Overtaken(there)) => (known, sure) = (there.unwrap_or_else(|| Position::new(&name)), true),
                Err(Stop::Failed(failure)) => return Err(failure.while_(format!("commit {name}"))),
            }
        }
        Err(Failure::passing("Contended", format!("others keep changing {name}")))
    }

    async fn look_up(&self, name: &str) -> Result<Position, Failure> {
        Ok(self.positions.position(name).await?.unwrap_or_else(|| Position::new(name)))
    }

    async fn note_work(&self, origin: &Origin, visit: &Visit) -> Result<(), Failure> {
        match &origin.contract {
            Some(contract) if contract.has_metrics() => self.note(contract.name(), visit).await,
            _ => Ok(()),
        }
    }

    fn tell_of_gap(&self, known: &Position, span: Range, visit: &Visit) {
        if let Some(committed) = known.committed.filter(|committed| committed.to < span.from) {
            let gap = Range { from: committed.to, to: span.from };
            self.herald.say(visit, &GapFound { position: &known.name, gap });
        }
    }

    async fn recreated(&self, name: &str, offset: i64, visit: &Visit) -> Failure {
        let reason = format!(
            "offset {offset} of {name} is committed, but by its time it was another record: the topic seems to have been made anew"
        );
        let failure = Failure::user("Recreated", reason);
        self.herald.say(visit, &Recreated { position: name, offset });
        let next_step = format!(
            "Nothing of this partition is read until someone decides. If the topic was made anew: `weir kafka anew '{name}'`."
        );
        let notice = Notice {
            what: format!("reading {name}"),
            place: format!("offset {offset}"),
            failure: failure.clone(),
            job_id: None,
            next_step,
        };
        self.herald.tell(&notice, visit).await;
        failure
    }

    /// Records that don't even say where they belong. They are kept by their content, so that a repeat overwrites them.
    async fn keep_lost(&self, origin: &Origin, lost: &[Record], visit: &Visit) -> Result<(), Failure> {
        let mut letters = Aside::default();
        for record in lost {
            let reason = record.value.as_ref().err().map_or("it has no offset", |unreadable| &unreadable.reason);
            letters.add(origin, record, &Violation::unreadable(reason.to_owned()));
        }
        if lost.is_empty() {
            return Ok(());
        }
        let at = self.letters_at(origin, &stem(origin, "lost", &hex::encode(Sha256::digest(&letters.lines))));
        self.lake.put(&at, letters.lines.into(), NDJSON).await?;
        self.herald.say(visit, &Kept { at: &at.to_string(), count: letters.count, position: &origin.topic });
        Ok(())
    }
}
