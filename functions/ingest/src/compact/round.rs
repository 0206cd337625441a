//! A round: a generation is begun, every writer learns of it, and each partition is moved.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use weir_catalog::{Partition, Table};
use weir_delivery::Failure;
use weir_lake::list_all;
use weir_ledger::batch::Swap;
use weir_ledger::layout::{Layout, Moving, begin, next_folders, release, settle};
use weir_telemetry::{Trouble, Visit};

use super::said::PartitionMoved;
use super::{BUSY, Compacted, MARGIN_MS};
use crate::Ingest;
use crate::placing::{contract_of, gone};

/// What a change of the catalog may take. It is only made while nobody else may make one; should it land later all the same, tidying
/// up finds it.
const SHOW_MS: u64 = 20_000;

/// Another has begun a generation.
const OVERTAKEN: &str = "Overtaken";

/// What a round came to.
pub(crate) struct Round {
    pub(crate) layout: Layout,
    pub(crate) done: Vec<Compacted>,
    /// What kept a partition from being compacted.
    pub(crate) ended: Result<(), Failure>,
}

impl Ingest {
    /// Compacts these partitions, and those that were left unfinished.
    pub(crate) async fn round(&self, layout: Layout, chosen: &[String], visit: &Visit) -> Result<Round, Failure> {
        let mut layout = self.begin(layout, chosen, visit).await?;
        let (generation, until_ms) = (layout.generation, layout.lease_until_ms);
        let mut done = Vec::new();
        let moved = self.move_all(&mut layout, &mut done, visit).await;
        // Someone else may try at once. If it can't be said, the lease ends by itself.
        let is_own = |layout: &Layout| layout.generation == generation && layout.lease_until_ms == until_ms;
        let released = self.change_layout(layout, |layout| is_own(layout).then(|| release(layout))).await;
        Ok(Round { layout: released?.0, done, ended: moved })
    }

    async fn begin(&self, mut layout: Layout, chosen: &[String], visit: &Visit) -> Result<Layout, Failure> {
        let placed = self.folders_of(&layout).await?;
        let next = next_folders(&layout, &placed.folders, chosen);
        let token = self.writer.token();
        let mark: String = hex::encode(Sha256::digest(&token)).chars().take(8).collect();
        let at = self.config.events.join(&format!("_layout/{:010}-{mark}.json", layout.generation + 1));
        let text = serde_json::to_vec(&next).map_err(|error| Failure::internal("Folders", error.to_string()))?;
        self.lake.put(&at, Bytes::from(text), "application/json").await?;
        let (before, moving) = (layout.generation, layout.moving.clone());
        loop {
            let until_ms = self.lease_until_ms(visit);
            let begun = begin(&layout, &placed.folders, chosen, &at.to_string(), until_ms, visit.now_ms());
            // What was written down is of the layout as it was first read.
            let Some(begun) = begun.filter(|_| layout.generation == before && layout.moving == moving) else {
                return Err(Failure::passing(BUSY, "another compaction is under way"));
            };
            let begun = Layout { write_token: token.clone(), ..begun };
            match self.layouts.put_layout(&begun).await? {
                // A partition was counted meanwhile.
                Swap::Conflict(Some(there)) if there.write_token != token => layout = *there,
                Swap::Conflict(None) => return Err(gone()),
                _ => return Ok(begun),
            }
        }
    }

    /// Moves each, if it can; the first failure of those that can't.
    async fn move_all(&self, layout: &mut Layout, done: &mut Vec<Compacted>, visit: &Visit) -> Result<(), Failure> {
        let left = self.pass(layout, visit).await?;
        let mut ended = Ok(());
        for (folder, moving) in layout.moving.clone() {
            let begun_ms = visit.now_ms();
            if begun_ms + MARGIN_MS >= visit.deadline_ms {
                return Err(Failure::passing("OutOfTime", format!("there is no time left to compact {folder}")));
            }
            match self.move_one(layout, &folder, &moving, &left, visit).await {
                Ok(compacted) => {
                    let ms = visit.now_ms() - begun_ms;
                    self.herald
                        .say(visit, &PartitionMoved { compacted: &compacted, generation: layout.generation, ms });
                    done.push(compacted);
                }
                Err(failure) if failure.code == OVERTAKEN => return Err(failure),
                Err(failure) => {
                    self.herald.say(visit, &Trouble { doing: "compact a partition", failure: &failure });
                    ended = ended.and(Err(failure.while_(format!("compact {folder}"))));
                }
            }
        }
        ended
    }

    async fn move_one(
        &self,
        layout: &mut Layout,
        folder: &str,
        moving: &Moving,
        left: &HashSet<String>,
        visit: &Visit,
    ) -> Result<Compacted, Failure> {
        let (table, generation) = (self.table_of(&contract_of(folder)?), layout.generation);
        let compacted = self.gather(folder, moving, generation, left, visit).await?;
        // A change that lands after the lease could undo another's.
        if visit.now_ms() + SHOW_MS >= layout.lease_until_ms {
            return Err(Failure::passing("OutOfTime", format!("the lease is nearly over; {folder} stays where it is")));
        }
        let shown = self.partition_at(folder, generation);
        let show = tokio::time::timeout(Duration::from_millis(SHOW_MS), self.show(&table, &shown)).await;
        show.unwrap_or_else(|_| Err(Failure::passing("NoAnswer", "the catalog does not answer")))?;
        let settled = |layout: &Layout| settle(layout, folder, generation, visit.now_ms());
        let (after, is_settled) = self.change_layout(layout.clone(), settled).await?;
        if !is_settled {
            return Err(Failure::passing(OVERTAKEN, format!("another compaction has taken {folder} over")));
        }
        *layout = after;
        Ok(compacted)
    }

    /// Lets readers find a partition in its new place.
    async fn show(&self, table: &Table, shown: &Partition) -> Result<(), Failure> {
        match self.catalog.move_to(&table.name, shown).await {
            // Its rows were committed before there was a catalog, or somebody dropped the table.
            Err(failure) if failure.code == "NoSuchPartition" => {
                self.catalog.ensure_table(table).await?;
                self.catalog.add_partitions(table, std::slice::from_ref(shown)).await
            }
            moved => moved,
        }
    }

    /// Puts all that is committed of a partition into its folder of this generation. `left`: files that are not.
    async fn gather(
        &self,
        folder: &str,
        moving: &Moving,
        generation: u64,
        left: &HashSet<String>,
        visit: &Visit,
    ) -> Result<Compacted, Failure> {
        let mut files = Vec::new();
        for old in [moving.shown].into_iter().chain(moving.since.iter().copied().filter(|old| *old != generation)) {
            let all = list_all(&*self.lake, &self.place(folder, old)).await?;
            files.extend(all.into_iter().filter(|file| {
                let name = file.location.file_name();
                // What an unfinished compaction has written is what lies in the folders before.
                let again = old != moving.shown && name.ends_with(super::MERGED);
                name.ends_with(".parquet") && !again && !left.contains(&file.location.to_string())
            }));
        }
        let had = files.len() as u64;
        let (into, bytes) = self.merge(files, &self.place(folder, generation), generation, visit).await?;
        Ok(Compacted { folder: folder.to_owned(), files: had, into, bytes })
    }
}
