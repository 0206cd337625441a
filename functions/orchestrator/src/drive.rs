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
use weir_delivery::{Failure, Fault};
use weir_ledger::batch::lane::{Phase, Step};
use weir_ledger::batch::{Landed, Lane, Run, Standing, Swap, lane, object};
use weir_ledger::protocol::{Claim, FOREVER_MS, REMEMBERED_DAYS};
use weir_ledger::{Job, Speed, State};

use crate::config::When;
use crate::manifest::{self, Files, Listed, Manifest, Outcome};
use crate::said;
use crate::spark::{SparkState, Start};
use crate::{Orchestrator, Visit};

/// More objects than this wait for the next run.
const MOST_OBJECTS: usize = 10_000;

/// Calls to the ledger at a time.
const AT_ONCE: usize = 16;

/// How soon Glue is asked again that had no room.
pub(crate) const ROOM_PAUSE_MS: u64 = 60_000;

/// What Glue says when it has no room now (Glue API reference, StartJobRun).
const NO_ROOM: [&str; 2] = ["ConcurrentRunsExceededException", "ResourceNumberLimitExceededException"];

/// More steps than a lane can take without waiting for something: a bound for defects.
const MOST_STEPS: usize = 64;

/// Who holds the token of a start that is given up.
const REVOKED: &str = "revoked";

impl Orchestrator {
    /// Takes a lane as far as it goes now. `now` says that someone asked for it: off-peak is not waited for.
    ///
    /// # Errors
    /// What passes; the sweep goes on from there.
    pub async fn drive(&self, name: &str, now: bool, visit: &Visit) -> Result<Lane, Failure> {
        let mut lane = self.book.lane(name).await?.unwrap_or_else(|| Lane::new(name));
        for _ in 0..MOST_STEPS {
            let step = lane::next(&lane, visit.now_ms());
            let next = match step {
                Step::Rest => None,
                Step::Claim => self.claim(&lane, now, visit).await?,
                Step::Mark => self.mark(&lane, visit).await?,
                Step::Start { look_first } => self.start(&lane, look_first, now, visit).await?,
                Step::Observe => self.observe(&lane, visit).await?,
                Step::Finish => self.finish(&lane, visit).await?,
                // Nothing loads yet.
                Step::ObserveLoad => {
                    self.change(&lane, visit, |lane| lane::finished(lane, None, visit.now_ms())).await?
                }
            };
            let Some(next) = next else { return Ok(lane) };
            // A run was started, or goes on, or finds no room: its end, or the sweep, is another invocation's.
            let asked = matches!(step, Step::Start { .. } | Step::Observe);
            let waits =
                asked && token_of(&next) == token_of(&lane) && matches!(next.phase, Phase::Starting | Phase::Running);
            lane = next;
            if waits {
                return Ok(lane);
            }
        }
        Err(Failure::internal("Steps", format!("lane {name} takes no end of steps; it is {:?}", lane.phase)))
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
    async fn change_own(&self, lane: &Lane, visit: &Visit, next: Option<Lane>) -> Result<Option<Lane>, Failure> {
        let version = lane.version;
        self.change(lane, visit, |there| next.clone().filter(|_| there.version == version)).await
    }

    async fn claim(&self, lane: &Lane, now: bool, visit: &Visit) -> Result<Option<Lane>, Failure> {
        match lane.job_id() {
            Some(id) => self.claim_job(lane, id, visit).await,
            None => self.claim_objects(lane, now, visit).await,
        }
    }

    async fn claim_objects(&self, lane: &Lane, now: bool, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let now_ms = visit.now_ms();
        let closed = self.config.when == When::OffPeak && !self.config.off_peak.is_open(now_ms);
        if closed && !now {
            let opens = self.config.off_peak.next_open_ms(now_ms);
            let asleep = |lane: &Lane| lane.look_at_ms.is_some_and(|at| at <= now_ms);
            let wait = |lane: &Lane| asleep(lane).then(|| Lane { look_at_ms: None, ..lane.clone() });
            self.change(lane, visit, |lane| lane::note(&wait(lane)?, opens)).await?;
            return Ok(None);
        }
        let pending = self.book.pending(&lane.name, MOST_OBJECTS).await?;
        let listed = up_to(pending, self.config.max_bytes);
        if listed.is_empty() {
            let settled = lane.look_at_ms.filter(|at| *at <= now_ms).and_then(|_| lane::settle(lane, now_ms));
            self.change_own(lane, visit, settled).await?;
            return Ok(None);
        }
        let id = format!("{}-{}-{}", lane.name, stamp(now_ms), unique(&self.write_token()));
        // Before the lane is claimed, so that whoever takes over has the same list.
        self.write(&Files::of(&self.config, &id).listed, &listed).await?;
        self.change_own(lane, visit, lane::claim(lane, &id, now_ms)).await
    }

    async fn claim_job(&self, lane: &Lane, id: &str, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let now_ms = visit.now_ms();
        let job = self.ledger.store().get(id).await?.filter(|job| job.state == State::Deferred);
        let Some((job, command)) =
            job.and_then(|job| Some((job.clone(), Command::parse(job.command.as_bytes()).ok()?)))
        else {
            return Ok(None);
        };
        if command.when == Asked::OffPeak && !self.config.off_peak.is_open(now_ms) {
            return Ok(None);
        }
        let allowed = self.config.sources.permits(&command.source) && self.config.dests.permits(&command.dest);
        if !allowed {
            let reason = format!("{} -> {} is outside what this stack may use", command.source, command.dest);
            self.take_job(&job, visit).await?;
            self.end_job(&job.id, Err(Failure::user("NotAllowed", reason)), visit).await?;
            return Ok(None);
        }
        self.change_own(lane, visit, lane::claim(lane, id, now_ms)).await
    }

    /// Claims what is listed, and writes the manifest of what could be.
    async fn mark(&self, lane: &Lane, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let Some(run) = &lane.run else { return Ok(None) };
        let files = Files::of(&self.config, &run.id);
        let (manifest, objects, bytes) = match lane.job_id() {
            Some(id) => {
                let Some(job) = self.ledger.store().get(id).await? else { return Ok(None) };
                let command = Command::parse(job.command.as_bytes());
                let command = command.map_err(|error| Failure::internal("LedgerShape", error.to_string()))?;
                self.take_job(&job, visit).await?;
                (manifest::of_job(&self.config, id, &command, run.claimed_ms), 1, 0)
            }
            None => {
                let listed: Vec<Listed> = self.read(&files.listed).await?;
                let mine = futures::stream::iter(listed).map(|one| self.mark_one(&lane.name, &run.id, one));
                let mine: Vec<Option<Listed>> = mine.buffered(AT_ONCE).try_collect().await?;
                let mine: Vec<Listed> = mine.into_iter().flatten().collect();
                let (objects, bytes) = (mine.len() as u64, mine.iter().map(|one| one.size).sum());
                let measured = contract(&lane.name).is_ok_and(|contract| contract.has_metrics());
                let manifest = manifest::of_dataset(&self.config, &lane.name, &run.id, mine, measured, run.claimed_ms);
                if objects > 0 {
                    self.take_job(&job_of(&manifest, run), visit).await?;
                }
                (manifest, objects, bytes)
            }
        };
        self.write(&files.manifest, &manifest).await?;
        self.change_own(lane, visit, lane::claimed(lane, objects, bytes, visit.now_ms())).await
    }

    async fn mark_one(&self, dataset: &str, run: &str, one: Listed) -> Result<Option<Listed>, Failure> {
        loop {
            let Some(known) = self.book.object(dataset, &one.uri).await? else { return Ok(None) };
            match object::mark(&known, &one.etag, run) {
                object::Mark::Taken => return Ok(Some(one)),
                object::Mark::Leave => return Ok(None),
                object::Mark::Take(next) => {
                    if self.put_object(&next).await? == Swap::Stored {
                        return Ok(Some(one));
                    }
                }
            }
        }
    }

    /// The list of a run that shall run again, with newer versions of some of its objects.
    pub(crate) async fn list_again(
        &self,
        dataset: &str,
        run: &str,
        newer: &[Landed],
        visit: &Visit,
    ) -> Result<(), Failure> {
        let files = Files::of(&self.config, run);
        let manifest: Manifest = self.read(&files.manifest).await?;
        let mut listed = Vec::new();
        for one in manifest.objects.unwrap_or_default() {
            let Some(known) = self.book.object(dataset, &one.uri).await? else { continue };
            let again = Landed { standing: Standing::Claimed, version: known.version + 1, ..known.clone() };
            let done = known.standing == Standing::Done && known.run.as_deref() == Some(run);
            if done {
                self.put_object(&again).await?;
            }
            if done || newer.iter().any(|newer| newer.uri == one.uri) {
                listed.push(to_listed(&known));
            }
        }
        self.write(&files.listed, &listed).await?;
        self.ledger.revive(run, visit.now_ms()).await
    }

    async fn start(&self, lane: &Lane, look_first: bool, now: bool, visit: &Visit) -> Result<Option<Lane>, Failure> {
        // What waits for room waits for its time, unless someone asks.
        if !now && lane.look_at_ms.is_some_and(|at| at > visit.now_ms()) {
            return Ok(None);
        }
        let Some(lane) = self.change_own(lane, visit, lane::try_start(lane, visit.now_ms())).await? else {
            return Ok(None);
        };
        let Some(run) = &lane.run else { return Ok(None) };
        let started = self.ask_glue(&lane, run, look_first, visit).await;
        let now_ms = visit.now_ms();
        let next = match started {
            Ok(glue_run) => lane::started(&lane, &glue_run, now_ms),
            // No room, or no answer: whether it was started is looked up before it is asked again.
            Err(why) if NO_ROOM.contains(&why.code.as_str()) || why.fault == Fault::External => {
                lane::not_now(&lane, why, ROOM_PAUSE_MS, now_ms)
            }
            Err(why) => return self.gone_wrong(&lane, run, why, visit).await,
        };
        self.change_own(&lane, visit, next).await
    }

    async fn ask_glue(&self, lane: &Lane, run: &Run, look_first: bool, visit: &Visit) -> Result<String, Failure> {
        if look_first {
            let holder = self.book.token(&run.token).await?;
            if let Some(glue_run) = holder.or(self.spark.find(&run.token).await?) {
                return Ok(glue_run);
            }
        }
        let manifest_at = Files::of(&self.config, &run.id).manifest;
        let manifest: Manifest = self.read(&manifest_at).await?;
        let start = Start {
            lane: lane.name.clone(),
            token: run.token.clone(),
            manifest: manifest_at.to_string(),
            policy: manifest::policy(&self.config, &manifest, &run.token)?,
            flexible: self.config.off_peak.is_open(visit.now_ms()),
        };
        self.spark.start(&start).await
    }

    async fn observe(&self, lane: &Lane, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let Some((run, glue_run)) = lane.run.as_ref().and_then(|run| Some((run, run.glue_run.as_deref()?))) else {
            return Ok(None);
        };
        let holder = self.book.token(&run.token).await?;
        if let Some(other) = holder.as_deref().filter(|holder| *holder != glue_run && *holder != REVOKED) {
            // Of two runs with this token, this is the one that works.
            return self.change_own(lane, visit, lane::started(lane, other, visit.now_ms())).await;
        }
        let seen = self.spark.look(glue_run).await?;
        let Some(seen) = seen else {
            let why = Failure::passing("RunGone", format!("Glue does not know the run {glue_run} any more"));
            return self.gone_wrong(lane, run, why, visit).await;
        };
        let said = |seen: &crate::spark::Seen| {
            let reason = format!("run {glue_run} of {}: {} (log: {})", self.config.glue_job, seen.message, seen.log);
            Failure::passing("RunFailed", reason)
        };
        if seen.state == SparkState::Going {
            return self.change_own(lane, visit, lane::still_running(lane, visit.now_ms())).await;
        }
        let outcome = self.outcome(run).await?;
        match (seen.state, outcome) {
            (SparkState::Succeeded, Some(Outcome { failure: None, .. })) => {
                self.change_own(lane, visit, lane::succeeded(lane, visit.now_ms())).await
            }
            (_, Some(Outcome { failure: Some(why), .. })) => {
                let why = Failure { reason: format!("{} (run {glue_run}, log: {})", why.reason, seen.log), ..why };
                self.gone_wrong(lane, run, why, visit).await
            }
            _ => self.gone_wrong(lane, run, said(&seen), visit).await,
        }
    }

    /// What the present start of a run said of itself, if it came so far.
    async fn outcome(&self, run: &Run) -> Result<Option<Outcome>, Failure> {
        match self.read::<Outcome>(&Files::of(&self.config, &run.id).result).await {
            Ok(outcome) => Ok(Some(outcome).filter(|outcome| outcome.token == run.token)),
            Err(failure) if failure.code == "NoSuchKey" => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// A start is over without its work. First its token is taken away, so that no run of it that we don't know of can begin;
    /// if one has, that is the one to watch.
    async fn gone_wrong(&self, lane: &Lane, run: &Run, why: Failure, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let now_ms = visit.now_ms();
        let expires_s = now_ms / 1000 + REMEMBERED_DAYS * 86_400;
        let holder = self.book.take_token(&run.token, REVOKED, expires_s).await?;
        if holder != REVOKED && Some(&holder) != run.glue_run.as_ref() {
            return self.change_own(lane, visit, lane::started(lane, &holder, now_ms)).await;
        }
        let next = lane::failed(lane, why, now_ms);
        let Some(lane) = self.change_own(lane, visit, next).await? else { return Ok(None) };
        if let (Phase::Halted, Some(why)) = (lane.phase, &lane.failure) {
            self.halted(&lane, why, visit).await?;
        }
        Ok(Some(lane))
    }

    async fn halted(&self, lane: &Lane, why: &Failure, visit: &Visit) -> Result<(), Failure> {
        let Some(run) = &lane.run else { return Ok(()) };
        let place = self.ledger.store().get(&run.id).await?;
        self.end_job(&run.id, Err(why.clone()), visit).await?;
        let next_step = match lane.job_id() {
            Some(id) => format!("Look at `weir job {id}`; when what is named is mended, send the command again."),
            None => format!(
                "Nothing of `{}` is worked on before `weir batch retry {}`; what lands meanwhile waits.",
                lane.name, lane.name
            ),
        };
        let notice = Notice {
            what: format!("batch run of {}", lane.name),
            place: place
                .and_then(|job| Command::parse(job.command.as_bytes()).ok())
                .map_or(lane.name.clone(), |command| format!("{} -> {}", command.source, command.dest)),
            failure: why.clone(),
            job_id: Some(run.id.clone()),
            next_step,
        };
        self.tell(&notice, visit).await;
        if lane.job_id().is_some() {
            let expires_s = visit.now_ms() / 1000 + REMEMBERED_DAYS * 86_400;
            self.change(lane, visit, |lane| Some(lane::forget(lane, expires_s))).await?;
        }
        Ok(())
    }

    /// Moves objects and records. Each of these may be repeated.
    async fn finish(&self, lane: &Lane, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let Some(run) = &lane.run else { return Ok(None) };
        let outcome = self.outcome(run).await?;
        let outcome = outcome.ok_or_else(|| Failure::internal("NoResult", format!("run {} has no result", run.id)))?;
        let manifest: Manifest = self.read(&Files::of(&self.config, &run.id).manifest).await?;
        let objects = manifest.objects.unwrap_or_default();
        let watermark = objects.iter().map(|one| one.landed_ms).max();
        let ends = objects.into_iter().map(|one| {
            let refused = outcome.refused.iter().find(|refused| refused.uri == one.uri);
            self.end_one(&lane.name, &run.id, one, refused.map(|refused| refused.reason.as_str()))
        });
        let ends: Vec<()> = futures::stream::iter(ends).buffered(AT_ONCE).try_collect().await?;
        drop(ends);
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
                next_step: "Land them again, mended, under the same keys: then they are worked on.".to_owned(),
            };
            self.tell(&notice, visit).await;
        }
        let lane = self.change_own(lane, visit, lane::finished(lane, watermark, visit.now_ms())).await?;
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
    async fn take_job(&self, job: &Job, visit: &Visit) -> Result<(), Failure> {
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

    async fn end_job(&self, id: &str, outcome: Result<&Outcome, Failure>, visit: &Visit) -> Result<(), Failure> {
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

    async fn write<T: Serialize>(&self, at: &Location, value: &T) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(value).map_err(|error| Failure::internal("Json", error.to_string()))?;
        self.lake.put(at, Bytes::from(bytes), "application/json").await
    }

    async fn read<T: DeserializeOwned>(&self, at: &Location) -> Result<T, Failure> {
        let info = self.lake.head(at).await?;
        let bytes = Arc::clone(&self.lake).get(at, Some(&info.etag), 0, info.size).await?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::internal("Json", format!("{at}: {error}")))
    }
}

fn token_of(lane: &Lane) -> Option<&str> {
    lane.run.as_ref().map(|run| run.token.as_str())
}

/// Objects up to so many bytes, those that landed first first; one that alone is larger is taken alone.
fn up_to(pending: Vec<Landed>, most_bytes: u64) -> Vec<Listed> {
    let mut bytes = 0u64;
    let fits = |one: &Landed| {
        let first = bytes == 0;
        bytes = bytes.saturating_add(one.version_of.size.max(1));
        first || bytes <= most_bytes
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
    Listed { uri: object.uri.clone(), size: version.size, etag: version.etag.clone(), landed_ms: version.landed_ms }
}

/// The record of a dataset's run, as a job.
fn job_of(manifest: &Manifest, run: &Run) -> Job {
    let hash: String = Sha256::digest(manifest.command.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    weir_ledger::protocol::unclaimed(&run.id, &manifest.command, &hash, "landed objects", run.claimed_ms)
}

fn stamp(now_ms: u64) -> String {
    let at =
        jiff::Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y%m%dT%H%M%S").to_string()
}

fn unique(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
