//! What a table needs beside commits: what dead writers left is taken back, old slices are deleted, the timeline is trimmed.

use std::collections::BTreeSet;
use std::time::Duration;

use weir_command::Location;
use weir_delivery::Failure;

use crate::lease::Lease;
use crate::table::{Place, Table};
use crate::timeline::{Action, Entry, Instant, State};
use crate::upsert::Limits;
use crate::write::{TOO_LATE, fence_of};

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

impl Table {
    /// Opens a table whose lease is ours, and takes back what others left.
    ///
    /// # Errors
    /// As of [`Table::open`]; `HudiTooLate`: the lease is over.
    pub async fn open_to_write(
        place: &Place,
        lease: &Lease,
        limits: &Limits,
        clock: fn() -> u64,
    ) -> Result<Option<Self>, Failure> {
        loop {
            let Some(table) = Self::open(place).await? else { return Ok(None) };
            // After the table was looked at: what was begun by then is of nobody who is still at it. Later it may be another's who has the
            // lease now, and would lose files by it.
            if lease.left_ms(clock()) == 0 {
                return Err(Failure::passing(TOO_LATE, format!("the lease of {} is over", place.at)));
            }
            if !table.roll_back(limits).await? {
                return Ok(Some(table));
            }
        }
    }

    /// Takes back commits that were begun and not finished; whether there were any.
    async fn roll_back(&self, limits: &Limits) -> Result<bool, Failure> {
        let begun = |entry: &&Entry| entry.action == Action::Commit;
        let pending: Vec<&Instant> = self.view.timeline.pending().filter(begun).map(|entry| &entry.instant).collect();
        for instant in &pending {
            self.take_back(instant, limits).await?;
        }
        Ok(!pending.is_empty())
    }

    /// From the one end that makes it impossible to be committed to the other that makes it impossible to be known. The instant goes
    /// last: files of one that is not known may become visible.
    async fn take_back(&self, instant: &Instant, limits: &Limits) -> Result<(), Failure> {
        let (lake, place) = (&self.place.lake, &self.place);
        let fence = place.hoodie(&fence_of(instant));
        lake.delete(std::slice::from_ref(&fence)).await?;
        if self.view.temporary.contains(&fence) {
            // A copy of it may be under way inside of S3.
            tokio::time::sleep(Duration::from_millis(limits.settle_ms)).await;
        }
        match lake.head(&place.hoodie(&format!("{instant}.commit"))).await {
            Err(failure) if failure.code == "NoSuchKey" => {}
            // It was committed meanwhile.
            found => return found.map(drop),
        }
        let files = self.view.files.iter().filter(|slice| slice.base.instant == *instant);
        let files: Vec<Location> = files.map(|slice| slice.object.location.clone()).collect();
        lake.delete(&files).await?;
        lake.delete(&[place.hoodie(&format!("{instant}.inflight"))]).await?;
        lake.delete(&[place.hoodie(&format!("{instant}.commit.requested"))]).await?;
        let folder = place.hoodie(&format!(".temp/{instant}/"));
        let rest: Vec<Location> = self.view.temporary.iter().filter(|at| folder.covers(at)).cloned().collect();
        lake.delete(&rest).await
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
        let (trimmed, first) = self.trimmable(horizon);
        let mut kept = Kept { slices: old.len(), instants: trimmed.len(), orphans: 0 };
        let Some(first) = first.filter(|_| !trimmed.is_empty()) else { return Ok(kept) };
        // Behind the timeline's begin they would be taken for committed.
        let orphans = self.view.orphans().filter(|slice| slice.base.instant < first);
        let orphans: Vec<Location> = orphans.map(|slice| slice.object.location.clone()).collect();
        kept.orphans = orphans.len();
        lake.delete(&orphans).await?;
        for entry in trimmed {
            for name in names_of(entry) {
                lake.delete(&[self.place.hoodie(&name)]).await?;
            }
        }
        Ok(kept)
    }

    /// Whether a temporary object is of an old instant.
    fn is_stale(&self, at: &Location, horizon: &Instant) -> bool {
        let folder = self.place.hoodie(".temp/");
        let instant = at.key().strip_prefix(folder.key()).and_then(|rest| Instant::parse(rest.split('/').next()?));
        instant.is_some_and(|instant| instant < *horizon)
    }

    /// The oldest instants, up to the first that has to stay; and the commit that is the first then.
    fn trimmable(&self, horizon: &Instant) -> (Vec<&Entry>, Option<Instant>) {
        let timeline = &self.view.timeline;
        let commits: Vec<&Instant> = timeline.commits().collect();
        let newest: BTreeSet<&Instant> = commits.iter().rev().take(LEAST_COMMITS).copied().collect();
        // What replaced others, and what is to be kept, is asked for later.
        let goes = |entry: &&Entry| {
            entry.state == State::Completed
                && entry.instant < *horizon
                && matches!(entry.action, Action::Commit | Action::Clean | Action::Rollback)
                && !newest.contains(&entry.instant)
        };
        let trimmed: Vec<&Entry> = timeline.entries().iter().take_while(goes).collect();
        let first =
            timeline.entries().iter().skip(trimmed.len()).find(|entry| {
                entry.state == State::Completed && matches!(entry.action, Action::Commit | Action::Replace)
            });
        (trimmed, first.map(|entry| entry.instant.clone()))
    }
}

/// An instant's files, the one that says that it is done last: without that it would look begun, and be taken back.
fn names_of(entry: &Entry) -> Vec<String> {
    let Entry { instant, action, .. } = entry;
    let action = match action {
        Action::Commit => {
            return vec![
                format!("{instant}.commit.requested"),
                format!("{instant}.inflight"),
                format!("{instant}.commit"),
            ];
        }
        Action::Clean => "clean",
        Action::Rollback => "rollback",
        Action::Replace | Action::Savepoint | Action::Other(_) => return Vec::new(),
    };
    vec![format!("{instant}.{action}.requested"), format!("{instant}.{action}.inflight"), format!("{instant}.{action}")]
}
