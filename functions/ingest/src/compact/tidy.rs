//! Folders that nobody is shown any more: their files are deleted when nobody reads them any more.

use std::collections::HashMap;

use weir_delivery::Failure;
use weir_lake::list_all;
use weir_ledger::batch::Phase;
use weir_ledger::layout::{Layout, Retired, forget, hold, release};
use weir_telemetry::{Trouble, Visit};

use super::MARGIN_MS;
use super::said::{FolderDeleted, Misplaced};
use crate::Ingest;
use crate::placing::{Placed, contract_of};

/// So long after a partition was moved it is looked whether it is where it was moved to: a compactor that stalled while it
/// moved it may have moved it back since.
const WATCH_MS: u64 = 3_600_000;

/// Objects that one request deletes.
const AT_ONCE: usize = 1_000;

/// What was asked for the folders before.
#[derive(Default)]
struct Known {
    /// By dataset, until when batch has added up all that was committed; `None` while it works, because it may read anything.
    past: HashMap<String, Option<u64>>,
    /// By partition, whether readers are shown what they should be.
    in_place: HashMap<String, bool>,
}

impl Ingest {
    /// Deletes what is old enough, and which neither readers nor batch can come for.
    pub(crate) async fn tidy(&self, layout: Layout, visit: &Visit) -> Result<(), Failure> {
        let now_ms = visit.now_ms();
        let is_due = |retired: &Retired| retired.at_ms + self.config.keep_ms <= now_ms;
        let is_new = |retired: &Retired| retired.at_ms + WATCH_MS > now_ms;
        if !layout.retired.iter().any(|retired| is_due(retired) || is_new(retired)) {
            return Ok(());
        }
        // Nobody may move a partition meanwhile.
        let until_ms = self.lease_until_ms(visit);
        let (mut layout, is_held) = self.change_layout(layout, |layout| hold(layout, until_ms, now_ms)).await?;
        if !is_held {
            return Ok(());
        }
        let placed = self.folders_of(&layout).await;
        let mut known = Known::default();
        for retired in layout.retired.clone() {
            let Ok(placed) = &placed else { break };
            if visit.now_ms() + MARGIN_MS >= visit.deadline_ms {
                break;
            }
            let due = is_due(&retired);
            if !due && !is_new(&retired) {
                continue;
            }
            // What is wrong with one keeps no other.
            if let Err(failure) = self.tidy_one(&mut layout, placed, &retired, due, &mut known, visit).await {
                self.herald.say(visit, &Trouble { doing: "tidy up after a compaction", failure: &failure });
            }
        }
        let is_own = |layout: &Layout| layout.lease_until_ms == until_ms;
        let released = self.change_layout(layout, |layout| is_own(layout).then(|| release(layout))).await;
        placed.and(released.map(drop))
    }

    async fn tidy_one(
        &self,
        layout: &mut Layout,
        placed: &Placed,
        retired: &Retired,
        due: bool,
        known: &mut Known,
        visit: &Visit,
    ) -> Result<(), Failure> {
        let dataset = retired.folder.split('/').next().unwrap_or_default();
        if due && !known.past.contains_key(dataset) {
            known.past.insert(dataset.to_owned(), self.batch_is_past(dataset).await?);
        }
        // Whatever was committed before the folder was retired may be in it.
        let past_ms = known.past.get(dataset).copied().flatten().unwrap_or(0);
        if due && past_ms <= retired.at_ms {
            return Ok(());
        }
        let in_place = match known.in_place.get(&retired.folder) {
            Some(in_place) => *in_place,
            None => self.is_in_place(layout, placed, &retired.folder, visit).await?,
        };
        known.in_place.insert(retired.folder.clone(), in_place);
        if !due || !in_place {
            return Ok(());
        }
        for generation in &retired.generations {
            let at = self.place(&retired.folder, *generation);
            let all: Vec<_> = list_all(&*self.lake, &at).await?.into_iter().map(|file| file.location).collect();
            for some in all.chunks(AT_ONCE) {
                self.lake.delete(some).await?;
            }
            self.herald.say(visit, &FolderDeleted { at: &at.to_string(), files: all.len() as u64 });
        }
        (*layout, _) = self.change_layout(layout.clone(), |layout| forget(layout, retired)).await?;
        Ok(())
    }

    /// Whether readers are shown the folder that they should be; if not, they are from now on.
    async fn is_in_place(
        &self,
        layout: &Layout,
        placed: &Placed,
        folder: &str,
        visit: &Visit,
    ) -> Result<bool, Failure> {
        // It may be shown the new one already, or not yet: whoever goes on with it sees to that.
        if layout.moving.contains_key(folder) {
            return Ok(false);
        }
        let table = self.table_of(&contract_of(folder)?).name;
        let wanted = self.partition_at(folder, placed.folders.generation_of(folder));
        match self.catalog.place_of(&table, &wanted.values).await? {
            // Somebody has dropped it. What they read by, nobody knows.
            None => Ok(true),
            Some(there) if there.as_prefix() == wanted.at.as_prefix() => Ok(true),
            Some(there) => {
                self.catalog.move_to(&table, &wanted).await?;
                self.herald.say(visit, &Misplaced { folder, was: &there.to_string(), is: &wanted.at.to_string() });
                Ok(false)
            }
        }
    }

    /// Until when batch has added up all that was committed; `None` while it works.
    async fn batch_is_past(&self, dataset: &str) -> Result<Option<u64>, Failure> {
        if !contract_of(dataset)?.has_metrics() {
            return Ok(Some(u64::MAX));
        }
        let oldest = self.book.pending(dataset, 1).await?;
        let lane = self.book.lane(dataset).await?;
        let idle = lane.is_none_or(|lane| matches!(lane.phase, Phase::Idle | Phase::Loading));
        Ok(idle.then(|| oldest.first().map_or(u64::MAX, |object| object.version_of.landed_ms)))
    }
}
