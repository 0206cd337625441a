//! What a table needs beside commits: what dead writers left is taken back, old slices are deleted, the timeline is trimmed.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Attributes, ObjectInfo};

use crate::commit::{Commit, WriteStat};
use crate::lease::Lease;
use crate::table::{Place, Table};
use crate::timeline::{Action, Entry, Instant, State};
use crate::upsert::Limits;
use crate::write::{BASE, OURS, TOO_LATE, fence_of};

/// The newest commits that stay on the timeline, however old they are.
const LEAST_COMMITS: usize = 10;

/// What upkeep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Old slices that were deleted.
    pub slices: usize,
    /// Instants that are no longer on the timeline.
    pub instants: usize,
    /// Files of instants that were never committed, and that were left by writers that went on too late.
    pub orphans: usize,
}

/// What a fence holds once its commit can't be any more.
const TAKEN_BACK: &str = "taken back";

impl Table {
    /// Opens a table whose lease is ours, and ends what others have begun.
    ///
    /// # Errors
    /// As of [`Table::open`]; `HudiRefused`: why it is not written to; `HudiTooLate`: the lease is over, or nearly; `HudiPending`: a writer
    /// of another kind has begun something.
    pub async fn open_to_write(
        place: &Place,
        lease: &Lease,
        limits: &Limits,
        clock: fn() -> u64,
    ) -> Result<Option<Self>, Failure> {
        let mut taken_back: Option<Instant> = None;
        loop {
            let Some(mut table) = Self::open(place).await? else { return Ok(None) };
            if let Some(refused) = table.not_written.take() {
                return Err(refused);
            }
            // After the table was looked at: what was begun by then is of nobody who is still at it. Later it may be another's who has the
            // lease now, and would lose files by it.
            if lease.left_ms(clock()) < limits.put_ms {
                return Err(Failure::passing(TOO_LATE, format!("the lease of {} is over", place.at)));
            }
            let begun = |entry: &&Entry| entry.action == Action::Commit;
            let pending = table.view.timeline.pending().find(begun);
            if let Some(entry) = pending {
                taken_back = taken_back.max(Some(entry.instant.clone()));
                table.end(entry, limits).await?;
                continue;
            }
            table.taken_back = taken_back.clone();
            if table.view.timeline.commits().next().is_none() {
                table.write_first(lease, limits, clock).await?;
                continue;
            }
            return Ok(Some(table));
        }
    }

    /// Ends a commit that somebody has begun: it is done if all of it is there, and otherwise taken back.
    ///
    /// That goes from the one end that makes it impossible to be committed to the other that makes it impossible to be known. The
    /// instant goes last: files of one that is not known may become visible.
    async fn end(&self, entry: &Entry, limits: &Limits) -> Result<(), Failure> {
        let (lake, place, instant) = (&self.place.lake, &self.place, &entry.instant);
        self.is_of_our_kind(entry).await?;
        let fence = place.hoodie(&fence_of(instant));
        let at = place.hoodie(&format!("{instant}.commit"));
        let staged = if self.view.temporary.contains(&fence) { place.read(&fence).await? } else { None };
        let staged = staged.filter(|text| text != TAKEN_BACK);
        if staged.as_ref().and_then(|text| Commit::read(text).ok()).is_some_and(|commit| self.is_whole(&commit)) {
            let whole = ObjectInfo { attributes: Attributes::default(), ..lake.head(&fence).await? };
            return lake.copy(&whole, &at).await;
        }
        lake.put(&fence, Bytes::from_static(TAKEN_BACK.as_bytes()), "text/plain").await?;
        if staged.is_some() {
            // A copy of it may be under way inside of S3.
            tokio::time::sleep(Duration::from_millis(limits.settle_ms)).await;
        }
        match lake.head(&at).await {
            Err(failure) if failure.code == "NoSuchKey" => {}
            // It was committed meanwhile.
            found => return found.map(drop),
        }
        let files = self.view.files.iter().filter(|slice| slice.base.instant == *instant);
        let files: Vec<Location> = files.map(|slice| slice.object.location.clone()).collect();
        lake.delete(&files).await?;
        lake.delete(&[place.hoodie(&format!("{instant}.inflight"))]).await?;
        lake.delete(&[place.hoodie(&format!("{instant}.commit.requested"))]).await?;
        // What the fence holds now stays, until it is old: its writer may still be about to make it.
        let folder = place.hoodie(&format!(".temp/{instant}/"));
        let rest = self.view.temporary.iter().filter(|at| folder.covers(at) && **at != fence).cloned();
        lake.delete(&rest.collect::<Vec<_>>()).await
    }

    /// That a writer like this one has begun it. One of Spark's holds no lease while it is at work, and takes its own back.
    async fn is_of_our_kind(&self, entry: &Entry) -> Result<(), Failure> {
        let Entry { instant, state, .. } = entry;
        let name = if *state == State::Requested {
            format!("{instant}.commit.requested")
        } else {
            format!("{instant}.inflight")
        };
        let text = self.place.read(&self.place.hoodie(&name)).await?.unwrap_or_default();
        if String::from_utf8_lossy(&text).contains(OURS) {
            return Ok(());
        }
        let reason = format!(
            "a writer of another kind has begun {instant} on {}: it is waited for; if it died, its next commit takes that back",
            self.place.at
        );
        Err(Failure::passing("HudiPending", reason))
    }

    /// Whether all of a commit is there, and nobody has committed since its writer looked at the table.
    fn is_whole(&self, commit: &Commit) -> bool {
        let is_there = |stat: &WriteStat| {
            let at = self.place.join(&stat.path);
            let mut files = self.view.files.iter().map(|slice| &slice.object);
            files.any(|object| object.location == at && object.size == stat.file_size_in_bytes.unsigned_abs())
        };
        commit.extra_metadata.get(BASE) == Some(&self.base())
            && commit.partition_to_write_stats.values().flatten().all(is_there)
    }

    /// Deletes slices that nobody sees who reads the table as of `horizon` or later, and trims the timeline to that.
    ///
    /// # Errors
    /// The lake's.
    pub async fn keep_since(&self, horizon: &Instant) -> Result<Kept, Failure> {
        let lake = &self.place.lake;
        let old: Vec<Location> =
            self.view.superseded(horizon).iter().map(|slice| slice.object.location.clone()).collect();
        lake.delete(&old).await?;
        // Left by writers that went on too late.
        let stale: Vec<Location> =
            self.view.temporary.iter().filter(|at| self.is_stale(at, horizon)).cloned().collect();
        lake.delete(&stale).await?;
        let newest_own = self.newest_own().await?.map(|(instant, _)| instant);
        let trimmed = self.trimmable(horizon, newest_own.as_ref());
        let mut kept = Kept { slices: old.len(), instants: trimmed.len(), orphans: 0 };
        let Some(last) = trimmed.last().map(|entry| &entry.instant) else { return Ok(kept) };
        // Behind the timeline's begin they would be taken for committed. What stays is later than all that goes.
        let stays = self.view.timeline.commits().find(|commit| *commit > last);
        let orphans = self.view.orphans().filter(|slice| stays.is_none_or(|stays| slice.base.instant < *stays));
        let orphans: Vec<Location> = orphans.map(|slice| slice.object.location.clone()).collect();
        kept.orphans = orphans.len();
        lake.delete(&orphans).await?;
        // What says that they are done goes last, and the oldest first: without it they would look begun, and a hole would hide live files.
        let names = trimmed.iter().map(|entry| names_of(entry));
        let (begun, done): (Vec<_>, Vec<_>) =
            names.map(|[requested, inflight, done]| ([requested, inflight], done)).unzip();
        let begun: Vec<Location> = begun.iter().flatten().map(|name| self.place.hoodie(name)).collect();
        lake.delete(&begun).await?;
        for name in done {
            lake.delete(&[self.place.hoodie(&name)]).await?;
        }
        Ok(kept)
    }

    /// Whether a temporary object is of an old instant.
    fn is_stale(&self, at: &Location, horizon: &Instant) -> bool {
        let folder = self.place.hoodie(".temp/");
        let instant = at.key().strip_prefix(folder.key()).and_then(|rest| Instant::parse(rest.split('/').next()?));
        instant.is_some_and(|instant| instant < *horizon)
    }

    /// The oldest instants, up to the first that has to stay: the newest of before the horizon, by which the table can be read as it was
    /// then; one that is kept; one that others of our commits are known by.
    fn trimmable(&self, horizon: &Instant, newest_own: Option<&Instant>) -> Vec<&Entry> {
        let timeline = &self.view.timeline;
        let newest: BTreeSet<&Instant> = timeline.commits().rev().take(LEAST_COMMITS).collect();
        let saved: BTreeSet<&Instant> = timeline.savepoints().collect();
        let at_horizon = timeline.commits().rfind(|commit| *commit <= horizon);
        let goes = |entry: &&Entry| {
            let instant = &entry.instant;
            entry.state == State::Completed
                && instant < horizon
                && match entry.action {
                    Action::Commit | Action::Clean | Action::Rollback => true,
                    // Until nothing is left of what it replaced.
                    Action::Replace => !self.has_replaced_files(instant),
                    Action::Savepoint | Action::Other(_) => false,
                }
                && !newest.contains(instant)
                && !saved.contains(instant)
                && Some(instant) != at_horizon
                && Some(instant) != newest_own
        };
        timeline.entries().iter().take_while(goes).collect()
    }

    fn has_replaced_files(&self, by: &Instant) -> bool {
        let groups: BTreeSet<(&str, &str)> = self
            .view
            .replaced
            .iter()
            .filter(|(_, at)| *at == by)
            .map(|((partition, group), _)| (partition.as_str(), group.as_str()))
            .collect();
        self.view.files.iter().any(|slice| groups.contains(&(slice.partition.as_str(), slice.base.file_id.as_str())))
    }
}

/// An instant's files: requested, begun, done.
fn names_of(entry: &Entry) -> [String; 3] {
    let Entry { instant, action, .. } = entry;
    let (inflight, action) = match action {
        Action::Commit => (format!("{instant}.inflight"), "commit"),
        Action::Replace => (format!("{instant}.replacecommit.inflight"), "replacecommit"),
        Action::Clean => (format!("{instant}.clean.inflight"), "clean"),
        Action::Rollback => (format!("{instant}.rollback.inflight"), "rollback"),
        Action::Savepoint => (format!("{instant}.savepoint.inflight"), "savepoint"),
        Action::Other(other) => (format!("{instant}.{other}.inflight"), other.as_str()),
    };
    [format!("{instant}.{action}.requested"), inflight, format!("{instant}.{action}")]
}
