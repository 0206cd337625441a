//! One topic-partition of a batch: taken, made into files, committed.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use weir_alerts::Notice;
use weir_command::Location;
use weir_contract::Violation;
use weir_delivery::Failure;
use weir_delivery::kafka::{Partition, Record, Source};
use weir_ledger::batch::{Landed, object};
use weir_ledger::positions::{
    Position, Range, Taking, cleared, commit, intend, is_wanted, left_over, newest_of, reclaim, release, take,
};
use weir_telemetry::Trouble;

use crate::rows::{Aside, Made, Origin, make};
use crate::said::{Forgotten, GapFound, Kept, ManifestGone, Recreated};
use crate::{Ingest, Visit};

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
struct Batch {
    records: Vec<(i64, Record)>,
    stamps: Vec<(i64, Option<i64>)>,
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

    fn span(&self) -> Option<Range> {
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
            if visit.is_over() {
                return Err(Failure::passing("OutOfTime", format!("there is no time left for {name}")));
            }
            let own = match take(&known, &batch.stamps, visit.deadline_ms + self.config.grace_ms, now_ms) {
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
                    match self.step(*stopped, known.version, None).await? {
                        Ok(_) => return Err(self.recreated(&name, offset, visit).await),
                        Err(there) => {
                            (known, sure) = (there.unwrap_or_else(|| Position::new(&name)), true);
                            continue;
                        }
                    }
                }
                Some(Taking::Stopped(offset)) => return Err(self.recreated(&name, offset, visit).await),
            };
            match self.work(&known, own, &origin, &batch, visit).await {
                Ok(Ok(done)) => {
                    self.note_work(&origin, visit).await?;
                    self.tell_of_gap(&known, span, visit);
                    return Ok(Counts { records: counts.records, poison: counts.poison + done.poison, ..done });
                }
                // Another was faster.
                Ok(Err(there)) => (known, sure) = (there.unwrap_or_else(|| Position::new(&name)), true),
                Err(failure) => return Err(failure.while_(format!("commit {name}"))),
            }
        }
        Err(Failure::passing("Contended", format!("others keep changing {name}")))
    }

    async fn look_up(&self, name: &str) -> Result<Position, Failure> {
        Ok(self.positions.position(name).await?.unwrap_or_else(|| Position::new(name)))
    }

    /// Takes the partition, writes its files, commits; gives it back if that fails. The inner `Err` is what another has stored
    /// meanwhile.
    async fn work(
        &self,
        known: &Position,
        own: Position,
        origin: &Origin,
        batch: &Arc<Batch>,
        visit: &Visit,
    ) -> Result<Result<Counts, Option<Position>>, Failure> {
        let mut held = None;
        let done = self.work_holding(known, own, origin, batch, visit, &mut held).await;
        if let (Err(_), Some(own)) = (&done, held) {
            // Someone else may try at once. If it can't be said, the lease ends by itself.
            let expected = own.version;
            let _ = self.step(release(&own), expected, None).await;
        }
        done
    }

    /// `held` is the position while it is this invocation's.
    async fn work_holding(
        &self,
        known: &Position,
        own: Position,
        origin: &Origin,
        batch: &Arc<Batch>,
        visit: &Visit,
        held: &mut Option<Position>,
    ) -> Result<Result<Counts, Option<Position>>, Failure> {
        // It is work for a thread that may block; and done before anything is held.
        let made = {
            let (origin, batch, known) = (origin.clone(), Arc::clone(batch), known.clone());
            let now_micros = i64::try_from(visit.now_ms() * 1000).unwrap_or(0);
            let work = move || {
                let wanted = batch.records.iter().filter(|(offset, _)| is_wanted(&known, *offset));
                make(&origin, wanted.map(|(offset, record)| (*offset, record)), now_micros)
            };
            let made = tokio::task::spawn_blocking(work).await;
            made.map_err(|error| Failure::internal("Panic", format!("making files broke down: {error}")))??
        };
        let Some(span) = batch.span() else { return Ok(Ok(Counts::default())) };
        let wanted = batch.stamps.iter().filter(|(offset, _)| is_wanted(known, *offset)).count() as u64;
        let mut counts = Counts {
            known: batch.records.len() as u64 - wanted,
            clean: made.clean,
            dropped: made.dropped,
            bad: made.quarantine.count,
            poison: made.letters.count,
            tombstones: made.tombstones,
            files: made.files.len() as u64,
            ..Counts::default()
        };
        let first = batch.stamps.iter().map(|(offset, _)| *offset).find(|offset| is_wanted(known, *offset));
        let offsets = Range { from: first.unwrap_or(span.from), to: span.to };
        let (mut own, mut expected) = (own, known.version);
        if let Some(intent) = left_over(&own).cloned() {
            own = match self.step(own, expected, None).await? {
                Ok(own) => own,
                Err(there) => return Ok(Err(there)),
            };
            expected = own.version;
            *held = Some(own.clone());
            self.close_left(&intent.manifest, visit).await?;
            own = cleared(&own);
        }
        let planned = self.plan(&own.name, origin, offsets, made, &format!("{}.{}", own.fence, self.write_token()));
        counts.bytes_out = planned.manifest.bytes();
        let mut handed_on = None;
        if !planned.files.is_empty() {
            self.write_manifest(&planned).await?;
            let at = planned.at.to_string();
            let intended =
                intend(&own, &at).ok_or_else(|| Failure::internal("Protocol", "there are files left over"))?;
            own = match self.step(intended, expected, None).await? {
                Ok(own) => own,
                // The manifest stays: if only the answer was lost, another has taken over by it.
                Err(there) => return Ok(Err(there)),
            };
            expected = own.version;
            *held = Some(own.clone());
            let (kept, manifest) = (self.kept(&planned), planned.manifest);
            self.write_files(planned.files, visit).await?;
            for (at, count) in &kept {
                self.say(visit, &Kept { at, count: *count, position: &own.name });
            }
            let measured = origin.contract.as_ref().filter(|contract| contract.has_metrics());
            if let Some(contract) = measured.filter(|_| !manifest.files.is_empty()) {
                handed_on = Some(object::list(
                    contract.name(),
                    &at,
                    manifest.files.len() as u64,
                    manifest.bytes(),
                    visit.now_ms(),
                ));
            }
        }
        let newest = newest_of(&batch.stamps, visit.now_ms());
        let last_ms = batch.stamps.last().and_then(|(_, at)| *at);
        let committed = commit(&own, span, newest, last_ms);
        let (next, forgotten) = committed.ok_or_else(|| Failure::internal("Protocol", "there are files left over"))?;
        if self.commit(next, expected, handed_on.as_ref()).await?.is_err() {
            *held = None;
            return Err(Failure::passing("TakenOver", format!("another has taken {} over", known.name)));
        }
        if !forgotten.is_empty() {
            self.say(visit, &Forgotten { position: &known.name, gaps: &forgotten });
        }
        Ok(Ok(counts))
    }

    /// Tries more than once: all the work is done, and a transaction that is in another's way, or throttled, is not tried again by
    /// the SDK. One that was made already knows itself.
    async fn commit(
        &self,
        next: Position,
        expected: u64,
        handed_on: Option<&Landed>,
    ) -> Result<Result<Position, Option<Position>>, Failure> {
        let next = Position { write_token: self.write_token(), ..next };
        let mut tries = 1;
        loop {
            match self.put(&next, expected, handed_on).await {
                Err(failure) if tries < MOST_TRIES && failure.passes() => {
                    tokio::time::sleep(Duration::from_millis(50 << tries)).await;
                    tries += 1;
                }
                put => return put,
            }
        }
    }

    async fn note_work(&self, origin: &Origin, visit: &Visit) -> Result<(), Failure> {
        match &origin.contract {
            Some(contract) if contract.has_metrics() => self.note(contract.name(), visit).await,
            _ => Ok(()),
        }
    }

    async fn close_left(&self, manifest: &str, visit: &Visit) -> Result<(), Failure> {
        match self.close(manifest, visit).await {
            // Someone has deleted it. What it named can't be known any more, and must not hold the partition for ever.
            Err(failure) if failure.code == "NoSuchKey" => {
                self.say(visit, &ManifestGone { manifest });
                Ok(())
            }
            closed => closed,
        }
    }

    fn tell_of_gap(&self, known: &Position, span: Range, visit: &Visit) {
        if let Some(committed) = known.committed.filter(|committed| committed.to < span.from) {
            let gap = Range { from: committed.to, to: span.from };
            self.say(visit, &GapFound { position: &known.name, gap });
        }
    }

    async fn recreated(&self, name: &str, offset: i64, visit: &Visit) -> Failure {
        let reason = format!(
            "offset {offset} of {name} is committed, and yet its record is newer than all that are: the topic seems to have been made anew"
        );
        let failure = Failure::user("Recreated", reason);
        self.say(visit, &Recreated { position: name, offset });
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
        self.tell(&notice, visit).await;
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
        let made = Made { letters, ..Made::default() };
        let content = hex::encode(Sha256::digest(&made.letters.lines));
        let planned = self.plan("", origin, Range { from: -1, to: 0 }, made, &content);
        for (at, bytes) in planned.files {
            self.lake.put(&at, bytes, "application/x-ndjson").await?;
            self.say(visit, &Kept { at: &at.to_string(), count: lost.len() as u64, position: &origin.topic });
        }
        Ok(())
    }

    fn kept(&self, planned: &crate::files::Planned) -> Vec<(String, u64)> {
        let letters = |uri: &str| Location::parse(uri).is_ok_and(|at| self.config.dead_letters.covers(&at));
        let aside = planned.manifest.aside.iter().filter(|file| letters(&file.uri));
        aside.map(|file| (file.uri.clone(), file.rows)).collect()
    }

    /// Closes what workers left that never came back, of partitions that nobody has come for since. Returns how many.
    ///
    /// # Errors
    /// What passes: the next sweep goes on from there.
    pub async fn sweep(&self, visit: &Visit) -> Result<u64, Failure> {
        let mut closed = 0;
        for position in self.positions.left_over(visit.now_ms(), SWEEP_AT_ONCE).await? {
            if visit.is_over() {
                break;
            }
            let Some(intent) = position.intent.clone() else { continue };
            let Some(own) = reclaim(&position, visit.deadline_ms + self.config.grace_ms, visit.now_ms()) else {
                continue;
            };
            let Ok(own) = self.step(own, position.version, None).await? else { continue };
            let expected = own.version;
            let next = match self.close_left(&intent.manifest, visit).await {
                Ok(()) => release(&cleared(&own)),
                Err(failure) => {
                    self.say(visit, &Trouble { doing: "close what a worker left", failure: &failure });
                    release(&own)
                }
            };
            closed += u64::from(next.intent.is_none());
            // Of no concern to the others.
            let _ = self.step(next, expected, None).await;
        }
        Ok(closed)
    }
}

/// The most partitions that one sweep looks at.
const SWEEP_AT_ONCE: usize = 100;
