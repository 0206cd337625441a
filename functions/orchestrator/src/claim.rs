//! How a run comes by its work: objects are listed, claimed one by one, and written down for it.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use weir_alerts::Notice;
use weir_command::{Command, Location, When as Asked};
use weir_contract::contract;
use weir_delivery::Failure;
use weir_ledger::batch::{Landed, Lane, Run, Swap, lane, object};
use weir_ledger::positions::Manifest as Commit;
use weir_ledger::protocol::REMEMBERED_DAYS;
use weir_ledger::{Job, State};
use weir_telemetry::Visit;

use crate::Orchestrator;
use crate::config::When;
use crate::drive::{AT_ONCE, Urge};
use crate::manifest::{self, Files, Listed, Manifest, Refused};

/// More objects than this wait for the next run.
const MOST_OBJECTS: usize = 10_000;

/// As many files of lists: they are named in the run's manifest, one by one.
const MOST_FILES: u64 = 50_000;

impl Orchestrator {
    pub(crate) async fn claim(&self, lane: &Lane, urge: Urge, visit: &Visit) -> Result<Option<Lane>, Failure> {
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
        let id = format!("{}-{}-{}", lane.name, stamp(now_ms), unique(&self.writer.token()));
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
            self.herald.tell(&notice, visit).await;
            return Ok(None);
        }
        self.change_own(lane, visit, lane::claim(lane, id, now_ms)).await
    }

    /// Claims what is listed, and writes the manifest of what could be.
    pub(crate) async fn mark(&self, lane: &Lane, visit: &Visit) -> Result<Option<Lane>, Failure> {
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

    /// The list of a run that shall be made again: what it worked on in its claim before. Nothing if that can't be: a file that is
    /// gone.
    pub(crate) async fn list_again(
        &self,
        lane: &Lane,
        run: &str,
        claim_before: u64,
    ) -> Result<Option<String>, Failure> {
        let before: Manifest = self.read(&Files::of(&self.config, run, claim_before).manifest).await?;
        if let Some(gone) = self.gone_of(&before.committed).await? {
            return Ok(Some(gone));
        }
        let listed = before.objects.unwrap_or_default();
        self.write(&Files::of(&self.config, run, lane.version + 1).listed, &listed).await?;
        Ok(None)
    }

    /// One of these files that is not there any more. Compaction deletes them by the folder, so one of each is looked for.
    async fn gone_of(&self, committed: &[Listed]) -> Result<Option<String>, Failure> {
        let folder = |file: &Listed| file.uri.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let one_each: BTreeMap<_, _> = committed.iter().map(|file| (folder(file), &file.uri)).collect();
        for uri in one_each.into_values() {
            let at = Location::parse(uri).map_err(|error| Failure::internal("LedgerShape", error.to_string()))?;
            // By listing: to see that it is there, nobody needs to be allowed to read it.
            if self.lake.list(&at, None).await?.objects.is_empty() {
                return Ok(Some(uri.clone()));
            }
        }
        Ok(None)
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
