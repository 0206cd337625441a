//! One taking of a partition: what was left over is closed, files are written, the position is committed; and given back if that fails.

use std::sync::Arc;

use weir_delivery::Failure;
use weir_ledger::batch::{Landed, object};
use weir_ledger::positions::{Position, Range, cleared, commit, intend, is_wanted, left_over, newest_of, release};
use weir_telemetry::Visit;

use crate::Ingest;
use crate::files::Planned;
use crate::partition::{Batch, Counts};
use crate::placing::Placed;
use crate::rows::{Made, Origin, make};
use crate::said::{Forgotten, Kept};

/// Why a taking came to nothing.
pub(crate) enum Stop {
    /// Something failed.
    Failed(Failure),
    /// Another was faster: what it stored.
    Overtaken(Option<Position>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A taking.
pub(crate) struct Work<'a> {
    ingest: &'a Ingest,
    origin: &'a Origin,
    batch: &'a Arc<Batch>,
    visit: &'a Visit,
    /// The position as it was found.
    known: &'a Position,
    /// The position as this taking stored it last.
    held: Option<Position>,
}

fn unclear() -> Failure {
    Failure::internal("Protocol", "there are files left over that were not closed")
}

impl<'a> Work<'a> {
    /// Of a position that was found so.
    pub(crate) fn new(
        ingest: &'a Ingest,
        origin: &'a Origin,
        batch: &'a Arc<Batch>,
        visit: &'a Visit,
        known: &'a Position,
    ) -> Self {
        Self { ingest, origin, batch, visit, known, held: None }
    }

    /// Does it, beginning with the position as it is taken.
    pub(crate) async fn run(mut self, own: Position) -> Result<Counts, Stop> {
        let done = self.through(own).await;
        if let (Err(Stop::Failed(_)), Some(held)) = (&done, self.held) {
            // Someone else may try at once. If it can't be said, the lease ends by itself.
            let _ = self.ingest.step(release(&held), held.version, None).await;
        }
        done
    }

    async fn through(&mut self, own: Position) -> Result<Counts, Stop> {
        // Before anything is held.
        let made = self.make().await?;
        let mut counts = self.count(&made);
        let own = self.close_left_over(own).await?;
        let Some(span) = self.batch.span() else { return Ok(counts) };
        let placed = self.ingest.placed_for(&own, self.origin).await?;
        // What is planned by these folders can only be committed while they are written.
        let own = Position { generation: Some(placed.generation), ..own };
        let first = self.batch.stamps.iter().map(|(offset, _)| *offset).find(|offset| is_wanted(self.known, *offset));
        let offsets = Range { from: first.unwrap_or(span.from), to: span.to };
        let planned = self.ingest.plan(&own.name, self.origin, offsets, made, &placed);
        counts.bytes_out = planned.manifest.bytes();
        let (own, handed_on) =
            if planned.files.is_empty() { (own, None) } else { self.write(own, planned, &placed).await? };
        self.commit(&own, span, handed_on).await?;
        Ok(counts)
    }

    /// Cleaning and encoding are work for a thread that may block.
    async fn make(&self) -> Result<Made, Failure> {
        let (origin, batch, known) = (self.origin.clone(), Arc::clone(self.batch), self.known.clone());
        let now_micros = i64::try_from(self.visit.now_ms() * 1000).unwrap_or(0);
        let work = move || {
            let wanted = batch.records.iter().filter(|(offset, _)| is_wanted(&known, *offset));
            make(&origin, wanted.map(|(offset, record)| (*offset, record)), now_micros)
        };
        let made = tokio::task::spawn_blocking(work).await;
        made.map_err(|error| Failure::internal("Panic", format!("making files broke down: {error}")))?
    }

    fn count(&self, made: &Made) -> Counts {
        let stamps = &self.batch.stamps;
        Counts {
            known: stamps.iter().filter(|(offset, _)| !is_wanted(self.known, *offset)).count() as u64,
            clean: made.clean,
            dropped: made.dropped,
            bad: made.quarantine.count,
            poison: made.letters.count,
            tombstones: made.tombstones,
            files: made.files.len() as u64,
            ..Counts::default()
        }
    }

    /// Stores a step, unless another has stored one since this taking's last.
    async fn store(&mut self, next: Position, handed_on: Option<&Landed>) -> Result<Position, Stop> {
        let expected = self.held.as_ref().unwrap_or(self.known).version;
        let stored = self.ingest.step(next, expected, handed_on).await?;
        self.held = Some(stored.clone());
        Ok(stored)
    }

    async fn close_left_over(&mut self, own: Position) -> Result<Position, Stop> {
        let Some(intent) = left_over(&own).cloned() else { return Ok(own) };
        let own = self.store(own, None).await?;
        self.ingest.close_left(&intent.manifest, self.visit).await?;
        Ok(cleared(&own))
    }

    /// Writes what is planned; the position by then, and what batch is to have of it.
    async fn write(
        &mut self,
        own: Position,
        planned: Planned,
        placed: &Placed,
    ) -> Result<(Position, Option<Landed>), Stop> {
        self.ingest.write_manifest(&planned).await?;
        let Planned { manifest, at, letters, folders, files } = planned;
        let at = at.to_string();
        // The manifest stays if another was faster: if only the answer was lost, that one has taken over by it.
        let own = self.store(intend(&own, &at).ok_or_else(unclear)?, None).await?;
        let writing = self.ingest.write_files(files, self.visit);
        match &self.origin.contract {
            Some(contract) => {
                futures::try_join!(writing, self.ingest.register(contract, &folders, placed))?;
            }
            None => writing.await?,
        }
        if let Some(letters) = &letters {
            let kept = Kept { at: &letters.uri, count: letters.rows, position: &own.name };
            self.ingest.herald.say(self.visit, &kept);
        }
        let measured = self.origin.contract.as_ref().filter(|contract| contract.has_metrics());
        let handed_on = measured.filter(|_| !manifest.files.is_empty()).map(|contract| {
            let (files, bytes) = (manifest.files.len() as u64, manifest.bytes());
            object::list(contract.name(), &at, files, bytes, self.visit.now_ms())
        });
        Ok((own, handed_on))
    }

    async fn commit(&mut self, own: &Position, span: Range, handed_on: Option<Landed>) -> Result<(), Stop> {
        let stamps = &self.batch.stamps;
        let newest = newest_of(stamps, self.visit.now_ms());
        let last_ms = stamps.last().and_then(|(_, at)| *at);
        let (next, forgotten) = commit(own, span, newest, last_ms).ok_or_else(unclear)?;
        self.store(next, handed_on.as_ref()).await?;
        if !forgotten.is_empty() {
            self.ingest.herald.say(self.visit, &Forgotten { position: &own.name, gaps: &forgotten });
        }
        Ok(())
    }
}
