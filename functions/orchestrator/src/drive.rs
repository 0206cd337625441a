//! A lane, taken as far as it goes: each step asks [`lane::next`], does the effect, and stores what came of it.
//!
//! Every step may be repeated, by this invocation or by two at once: compare-and-swap decides which counts, files are written
//! under names that are given, and the one effect that must not be repeated, starting a run, has its lease and its token.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use weir_alerts::Notice;
use weir_command::{Command, Location, When as Asked};
use weir_contract::contract;
use weir_delivery::Failure;
use weir_ledger::batch::lane::Step;
use weir_ledger::batch::{Landed, Lane, Phase, Run, Swap, lane, object};
use weir_ledger::positions::Manifest as Commit;
use weir_ledger::protocol::{Claim, FOREVER_MS, REMEMBERED_DAYS};
use weir_ledger::{Job, Speed, State};

use crate::config::When;
use crate::manifest::{self, Files, Listed, Manifest, Outcome, Refused};
use crate::said;
use crate::{Orchestrator, Visit};

/// More objects than this wait for the next run.
const MOST_OBJECTS: usize = 10_000;

/// As many files of lists: they are named in the run's manifest, one by one.
const MOST_FILES: u64 = 50_000;

/// Calls to the ledger at a time.
const AT_ONCE: usize = 16;

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
        let mut lane = lane.clone();
        loop {
            let Some(next) = to(&lane) else { return Ok(None) };
            let next = Lane { write_token: self.write_token(), ..next };
            match self.book.put_lane(&next).await? {
                Swap::Conflict(Some(there)) if there.write_token != next.write_token => lane = *there,
                Swap::Conflict(None) => lane = Lane::new(&lane.name),
                _ => {
                    if (next.phase, &next.failure) != (lane.phase, &lane.failure) {
                        self.say(visit, &said::LaneChanged(&next));
                    }
                    return Ok(Some(next));
                }
            }
        }
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

    async fn claim(&self, lane: &Lane, urge: Urge, visit: &Visit) -> Result<Option<Lane>, Failure> {
        match lane.job_id() {
            Some(id) => self.claim_job(lane, id, visit).await,
            None => self.claim_objects(lane, urge, visit).await,
        }
    }

    async fn claim_objects(&self, lane: &Lane, urge: Urge, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let now_ms = visit.now_ms();
        let closed = self.config.when == When::OffPeak && !self.config.off_peak.is_open(now_ms);
        if closed && urge != Urge::Person {
            if let Some(loading) = self.more_to_load(lane, visit) {
                return self.change_own(lane, visit, Some(loading)).await;
            }
            if lane.look_at_ms.is_some_and(|at| at <= now_ms) {
                let opens = self.config.off_peak.next_open_ms(now_ms);
                self.change_own(lane, visit, lane::postpone(lane, opens)).await?;
            }
            return Ok(None);
        }
        let pending = self.book.pending(&lane.name, MOST_OBJECTS).await?;
        let listed = up_to(pending, self.config.max_bytes);
        if listed.is_empty() {
            if let Some(loading) = self.more_to_load(lane, visit) {
                return self.change_own(lane, visit, Some(loading)).await;
            }
            let settled = lane.look_at_ms.filter(|at| *at <= now_ms).and_then(|_| lane::settle(lane, now_ms));
            self.change_own(lane, visit, settled).await?;
            return Ok(None);
        }
        let id = format!("{}-{}-{}", lane.name, stamp(now_ms), unique(&self.write_token()));
        // Before the lane is claimed, so that whoever takes over has the same list.
        let Some(claiming) = lane::claim(lane, &id, now_ms) else { return Ok(None) };
        let claim = claiming.run.as_ref().map_or(0, |run| run.claim);
        self.write(&Files::of(&self.config, &id, claim).listed, &listed).await?;
        self.change_own(lane, visit, Some(claiming)).await
    }

    /// Whether a deferred job's time has come.
    pub(crate) fn is_timely(&self, job: &Job, visit: &Visit) -> bool {
        let command = Command::parse(job.command.as_bytes());
        command.is_ok_and(|command| command.when == Asked::Now || self.config.off_peak.is_open(visit.now_ms()))
    }

    async fn claim_job(&self, lane: &Lane, id: &str, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let now_ms = visit.now_ms();
        let job = self.ledger.store().get(id).await?.filter(|job| job.state == State::Deferred);
        let command = job.as_ref().and_then(|job| Command::parse(job.command.as_bytes()).ok());
        let (Some(job), Some(command)) = (job, command) else {
            // It is over; the lane is not needed any more.
            let forgotten = lane.look_at_ms.map(|_| lane::forget(lane, now_ms / 1000 + REMEMBERED_DAYS * 86_400));
            self.change_own(lane, visit, forgotten).await?;
            return Ok(None);
        };
        if !self.is_timely(&job, visit) {
            return Ok(None);
        }
        let allowed = self.config.sources.permits(&command.source) && self.config.dests.permits(&command.dest);
        if !allowed {
            let place = format!("{} -> {}", command.source, command.dest);
            let failure = Failure::user("NotAllowed", format!("{place} is outside what this stack may use"));
            self.take_job(&job, visit).await?;
            self.end_job(&job.id, Err(failure.clone()), visit).await?;
            let notice = Notice {
                what: format!("batch run of {}", lane.name),
                place,
                failure,
                job_id: Some(job.id.clone()),
                next_step: "Allow it by SourceAllowList or DestAllowList, then send it again under another job_id."
                    .to_owned(),
            };
            self.tell(&notice, visit).await;
            return Ok(None);
        }
        self.change_own(lane, visit, lane::claim(lane, id, now_ms)).await
    }

    /// Claims what is listed, and writes the manifest of what could be.
    async fn mark(&self, lane: &Lane, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let Some(run) = &lane.run else { return Ok(None) };
        let files = Files::of(&self.config, &run.id, run.claim);
        let (manifest, objects, bytes) = match lane.job_id() {
            Some(id) => {
                let Some(job) = self.ledger.store().get(id).await? else { return Ok(None) };
                let command = Command::parse(job.command.as_bytes());
                let command = command.map_err(|error| Failure::internal("LedgerShape", error.to_string()))?;
                self.take_job(&job, visit).await?;
                (manifest::of_job(&self.config, run, &command), 1, 0)
            }
            None => {
                let listed: Vec<Listed> = self.read(&files.listed).await?;
                let mine = futures::stream::iter(listed).map(|one| self.mark_one(&lane.name, run, one));
                let mine: Vec<Option<Listed>> = mine.buffered(AT_ONCE).try_collect().await?;
                let mine: Vec<Listed> = mine.into_iter().flatten().collect();
                let (objects, bytes) = (mine.len() as u64, mine.iter().map(|one| one.size).sum());
                let measured = contract(&lane.name).is_ok_and(|contract| contract.has_metrics());
                let mut manifest = manifest::of_dataset(&self.config, &lane.name, run, mine, measured);
                if measured {
                    self.read_lists(&mut manifest).await?;
                }
                if objects > 0 {
                    self.take_job(&job_of(&manifest, run), visit).await?;
                    // One that is made again was over.
                    self.ledger.revive(&run.id, visit.now_ms()).await?;
                }
                (manifest, objects, bytes)
            }
        };
        self.write(&files.manifest, &manifest).await?;
        self.change_own(lane, visit, lane::claimed(lane, objects, bytes, visit.now_ms())).await
    }

    /// What `ingest` committed is listed file by file: that is what the run reads.
    async fn read_lists(&self, manifest: &mut Manifest) -> Result<(), Failure> {
        let lists = manifest.objects.iter().flatten().filter(|one| one.is_list).cloned();
        let reads = lists.map(|list| async move {
            let at = Location::parse(&list.uri).map_err(|error| Failure::internal("LedgerShape", error.to_string()))?;
            match self.read::<Commit>(&at).await {
                Ok(commit) => Ok(Ok((list.landed_ms, commit))),
                // It is gone, or no list. Not allowed to read it, for one, may be so of all, and is mended.
                Err(failure) if matches!(failure.code.as_str(), "NoSuchKey" | "Json") => {
                    Ok(Err(Refused { uri: list.uri, reason: failure.reason }))
                }
                Err(failure) => Err(failure),
            }
        });
        let read: Vec<_> = futures::stream::iter(reads.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect().await?;
        for one in read {
            match one {
                Err(refused) => manifest.unread.push(refused),
                // Names that are used once: there is no other version.
                Ok((landed_ms, commit)) => manifest.committed.extend(commit.files.into_iter().map(|file| Listed {
                    uri: file.uri,
                    size: file.bytes,
                    etag: String::new(),
                    landed_ms,
                    is_list: false,
                })),
            }
        }
        Ok(())
    }

    async fn mark_one(&self, dataset: &str, run: &Run, one: Listed) -> Result<Option<Listed>, Failure> {
        loop {
            let Some(known) = self.book.object(dataset, &one.uri).await? else { return Ok(None) };
            match object::mark(&known, &one.etag, &run.id, run.claim) {
                object::Mark::Taken => return Ok(Some(to_listed(&known))),
                object::Mark::Leave => return Ok(None),
                object::Mark::Take(next) => {
                    if self.put_object(&next).await? == Swap::Stored {
                        return Ok(Some(to_listed(&next)));
                    }
                }
            }
        }
    }

    /// The list of a run that shall be made again: what it worked on in its claim before.
    pub(crate) async fn list_again(&self, lane: &Lane, run: &str, claim_before: u64) -> Result<(), Failure> {
        let before: Manifest = self.read(&Files::of(&self.config, run, claim_before).manifest).await?;
        let listed = before.objects.unwrap_or_default();
        self.write(&Files::of(&self.config, run, lane.version + 1).listed, &listed).await
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
            self.tell(&notice, visit).await;
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

/// Objects up to so many bytes, and files, those that landed first first; one that alone is larger is taken alone.
fn up_to(pending: Vec<Landed>, most_bytes: u64) -> Vec<Listed> {
    let (mut bytes, mut files) = (0u64, 0u64);
    let fits = |one: &Landed| {
        let first = files == 0;
        bytes = bytes.saturating_add(one.version_of.size);
        files += one.list_of.unwrap_or(1).max(1);
        first || bytes <= most_bytes && files <= MOST_FILES
    };
    pending
        .iter()
        .map(to_listed)
        .zip(&pending)
        .take_while({
            let mut fits = fits;
            move |(_, one)| fits(one)
        })
        .map(|(listed, _)| listed)
        .collect()
}

fn to_listed(object: &Landed) -> Listed {
    let version = &object.version_of;
    Listed {
        uri: object.uri.clone(),
        size: version.size,
        etag: version.etag.clone(),
        landed_ms: version.landed_ms,
        is_list: object.list_of.is_some(),
    }
}

/// The record of a dataset's run, as a job.
fn job_of(manifest: &Manifest, run: &Run) -> Job {
    let hash = hex::encode(Sha256::digest(&manifest.command));
    weir_ledger::protocol::unclaimed(&run.id, &manifest.command, &hash, "landed objects", run.claimed_ms)
}

fn stamp(now_ms: u64) -> String {
    let at =
        jiff::Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y%m%dT%H%M%S").to_string()
}

fn unique(token: &str) -> String {
    hex::encode(Sha256::digest(token)).chars().take(8).collect()
}
