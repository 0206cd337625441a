//! A lane, taken as far as it goes: each step asks [`lane::next`], does the effect, and stores what came of it.
//!
//! Every step may be repeated, by this invocation or by two at once: compare-and-swap decides which counts, files are written
//! under names that are given, and the one effect that must not be repeated, starting a run, has its lease and its token.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_alerts::Notice;
use weir_command::Location;
use weir_delivery::Failure;
use weir_ledger::batch::lane::Step;
use weir_ledger::batch::{self, Lane, Phase, Swap, lane, object};
use weir_ledger::protocol::{Claim, FOREVER_MS, REMEMBERED_DAYS};
use weir_ledger::{Job, Speed};
use weir_telemetry::Visit;

use crate::Orchestrator;
use crate::manifest::{Files, Listed, Manifest, Outcome};
use crate::said;

/// Calls to the ledger at a time.
pub(crate) const AT_ONCE: usize = 16;

/// More steps than a lane can take without waiting for something: a bound for defects.
const MOST_STEPS: usize = 64;

/// How many objects that could not be read a job's record names.
const MOST_REFUSED_TOLD: usize = 20;

/// Why a lane is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urge {
    /// Its time has come, or something happened to it.
    Time,
    /// Another run is over, so there may be room for its own.
    Room,
    /// Someone asks: off-peak is not waited for.
    Person,
}

impl Orchestrator {
    /// Takes a lane as far as it goes now.
    ///
    /// # Errors
    /// What passes; the sweep goes on from there.
    pub async fn drive(&self, name: &str, urge: Urge, visit: &Visit) -> Result<Lane, Failure> {
        let mut lane = self.book.lane(name).await?.unwrap_or_else(|| Lane::new(name));
        for _ in 0..MOST_STEPS {
            let step = lane::next(&lane, visit.now_ms());
            let next = match step {
                Step::Rest => None,
                Step::Claim => self.claim(&lane, urge, visit).await?,
                Step::Mark => self.mark(&lane, visit).await?,
                Step::Start { look_first } => self.start(&lane, look_first, urge, visit).await?,
                Step::Observe => self.observe(&lane, visit).await?,
                Step::Finish => self.finish(&lane, visit).await?,
                Step::Load => self.load(&lane, urge, visit).await?,
                Step::ObserveLoad => self.observe_load(&lane, visit).await?,
            };
            let Some(next) = next else { return Ok(lane) };
            // Something was started, or goes on, or finds no room: its end, or the sweep, is another invocation's.
            let outside = matches!(next.phase, Phase::Starting | Phase::Running | Phase::Loading);
            let waits = outside && next.look_at_ms.is_some_and(|at| at > visit.now_ms());
            lane = next;
            if waits {
                return Ok(lane);
            }
        }
        Err(Failure::internal("Steps", format!("lane {name} takes no end of steps; it is {}", lane.phase)))
    }

    /// Stores a change of a lane, made again from what is there if another was faster. `None` if there is nothing to change then.
    pub(crate) async fn change(
        &self,
        lane: &Lane,
        visit: &Visit,
        to: impl Fn(&Lane) -> Option<Lane> + Send,
    ) -> Result<Option<Lane>, Failure> {
        let changed = batch::change(self.book.as_ref(), &self.writer, lane, to).await?;
        Ok(changed.map(|(before, after)| {
            if (after.phase, &after.failure) != (before.phase, &before.failure) {
                self.herald.say(visit, &said::LaneChanged(&after));
            }
            after
        }))
    }

    /// The same, only if nobody else changed it: whoever did goes on with it.
    pub(crate) async fn change_own(
        &self,
        lane: &Lane,
        visit: &Visit,
        next: Option<Lane>,
    ) -> Result<Option<Lane>, Failure> {
        let version = lane.version;
        self.change(lane, visit, |there| next.clone().filter(|_| there.version == version)).await
    }

    /// Moves objects and records. Each of these may be repeated.
    async fn finish(&self, lane: &Lane, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let Some(run) = &lane.run else { return Ok(None) };
        let outcome = self.outcome(run).await?;
        let mut outcome =
            outcome.ok_or_else(|| Failure::internal("NoResult", format!("run {} has no result", run.id)))?;
        let manifest: Manifest = self.read(&Files::of(&self.config, &run.id, run.claim).manifest).await?;
        let to_load = self.to_load(&lane.name, &manifest, &outcome);
        outcome.refused.extend(manifest.unread);
        let objects = manifest.objects.unwrap_or_default();
        let watermark = objects.iter().map(|one| one.landed_ms).max();
        let ends = objects.into_iter().map(|one| {
            let refused = outcome.refused.iter().find(|refused| refused.uri == one.uri);
            self.end_one(&lane.name, &run.id, one, refused.map(|refused| refused.reason.as_str()))
        });
        futures::stream::iter(ends).buffered(AT_ONCE).try_collect::<()>().await?;
        let refused = outcome.refused.iter().map(|one| format!("not read: {}: {}", one.uri, one.reason));
        outcome.report.notes.extend(refused.take(MOST_REFUSED_TOLD));
        self.end_job(&run.id, Ok(&outcome), visit).await?;
        if let Some(first) = outcome.refused.first() {
            let (count, of) = (outcome.refused.len(), run.objects);
            let reason =
                format!("{count} of {of} objects could not be read; the first: {}: {}", first.uri, first.reason);
            let notice = Notice {
                what: format!("reading objects of {}", lane.name),
                place: first.uri.clone(),
                failure: Failure::user("Refused", reason),
                job_id: Some(run.id.clone()),
                next_step: "What landed is worked on when it lands again, mended, under the same key. What came by Kafka and is gone is missing in the sums."
                    .to_owned(),
            };
            self.herald.tell(&notice, visit).await;
        }
        let to_load = to_load.as_ref().map(|(to_load, shape)| (to_load.clone(), shape.as_str()));
        let lane = self.change_own(lane, visit, lane::finished(lane, watermark, to_load, visit.now_ms())).await?;
        match lane {
            Some(lane) if lane.job_id().is_some() => {
                let expires_s = visit.now_ms() / 1000 + REMEMBERED_DAYS * 86_400;
                self.change(&lane, visit, |lane| Some(lane::forget(lane, expires_s))).await
            }
            lane => Ok(lane),
        }
    }

    async fn end_one(&self, dataset: &str, run: &str, one: Listed, refused: Option<&str>) -> Result<(), Failure> {
        loop {
            let known = self.book.object(dataset, &one.uri).await?;
            let Some(next) = known.and_then(|known| object::end(&known, run, refused)) else { return Ok(()) };
            if self.put_object(&next).await? == Swap::Stored {
                return Ok(());
            }
        }
    }

    /// The job's record says that Spark has it.
    pub(crate) async fn take_job(&self, job: &Job, visit: &Visit) -> Result<(), Failure> {
        let claim = Claim {
            id: job.id.clone(),
            command: job.command.clone(),
            payload_hash: job.payload_hash.clone(),
            origin: job.origin.clone(),
            owner: job.id.clone(),
            speed: Speed::Batch,
            lease_until_ms: FOREVER_MS,
            now_ms: visit.now_ms(),
        };
        self.ledger.claim(&claim).await.map(|_| ())
    }

    pub(crate) async fn end_job(
        &self,
        id: &str,
        outcome: Result<&Outcome, Failure>,
        visit: &Visit,
    ) -> Result<(), Failure> {
        let Some(held) = self.ledger.held(id, id).await? else { return Ok(()) };
        let ended = match outcome {
            Ok(outcome) => self.ledger.finish(held, outcome.report.clone(), visit.now_ms()).await,
            Err(why) => self.ledger.fail(held, why, visit.now_ms()).await,
        };
        match ended {
            // Another invocation ended it.
            Err(failure) if failure.code == "Lost" => Ok(()),
            ended => ended.map(|_| ()),
        }
    }

    pub(crate) async fn write<T: Serialize>(&self, at: &Location, value: &T) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(value).map_err(|error| Failure::internal("Json", error.to_string()))?;
        self.lake.put(at, Bytes::from(bytes), "application/json").await
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, at: &Location) -> Result<T, Failure> {
        let info = self.lake.head(at).await?;
        let bytes = Arc::clone(&self.lake).get(at, Some(&info.etag), 0, info.size).await?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::internal("Json", format!("{at}: {error}")))
    }
}
