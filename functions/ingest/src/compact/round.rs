//! A round: a generation is begun, every writer learns of it, and each partition is moved.

use std::collections::HashSet;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use weir_catalog::Partition;
use weir_contract::contract;
use weir_delivery::Failure;
use weir_ledger::batch::Swap;
use weir_ledger::layout::{Layout, Moving, begin, next_folders, release, settle};

use super::said::PartitionMoved;
use super::{Compacted, MARGIN_MS};
use crate::{Ingest, Visit};

/// What a call to the catalog takes at most, with its repeats. What is shown is only changed while nobody else may.
const SHOW_MS: u64 = 30_000;

impl Ingest {
    /// Compacts these partitions, and those that were left unfinished. The layout after that.
    pub(crate) async fn round(
        &self,
        layout: Layout,
        chosen: &[String],
        visit: &Visit,
    ) -> Result<(Layout, Vec<Compacted>), Failure> {
        let mut layout = self.begin(layout, chosen, visit).await?;
        let (generation, until_ms) = (layout.generation, layout.lease_until_ms);
        let mut done = Vec::new();
        let moved = self.move_all(&mut layout, &mut done, visit).await;
        // Someone else may try at once. If it can't be said, the lease ends by itself.
        let is_own = |layout: &Layout| layout.generation == generation && layout.lease_until_ms == until_ms;
        let released = self.change_layout(layout, |layout| is_own(layout).then(|| release(layout))).await;
        moved?;
        Ok((released?.0, done))
    }

    async fn begin(&self, mut layout: Layout, chosen: &[String], visit: &Visit) -> Result<Layout, Failure> {
        let placed = self.folders_of(&layout).await?;
        let next = next_folders(&layout, &placed.folders, chosen);
        let token = self.writer.token();
        let mark: String = hex::encode(Sha256::digest(&token)).chars().take(8).collect();
        let at = self.config.events.join(&format!("_layout/{:010}-{mark}.json", layout.generation + 1));
        let text = serde_json::to_vec(&next).map_err(|error| Failure::internal("Folders", error.to_string()))?;
        self.lake.put(&at, Bytes::from(text), "application/json").await?;
        let before = layout.generation;
        loop {
            let begun =
                begin(&layout, &placed.folders, chosen, &at.to_string(), self.lease_until_ms(visit), visit.now_ms());
            // What was written down is of the generation before.
            let Some(begun) = begun.filter(|_| layout.generation == before) else {
                return Err(Failure::passing("Busy", "another compaction has begun just now"));
            };
            let begun = Layout { write_token: token.clone(), ..begun };
            match self.layouts.put_layout(&begun).await? {
                // A partition was counted meanwhile.
                Swap::Conflict(Some(there)) if there.write_token != token => layout = *there,
                Swap::Conflict(None) => layout = Layout::default(),
                _ => return Ok(begun),
            }
        }
    }

    async fn move_all(&self, layout: &mut Layout, done: &mut Vec<Compacted>, visit: &Visit) -> Result<(), Failure> {
        let left = self.pass(layout, visit).await?;
        for (folder, moving) in layout.moving.clone() {
            if visit.now_ms() + MARGIN_MS >= visit.deadline_ms {
                return Err(Failure::passing("OutOfTime", format!("there is no time left to compact {folder}")));
            }
            let begun_ms = visit.now_ms();
            let generation = layout.generation;
            let compacted = self.gather(&folder, &moving, generation, &left, visit).await?;
            self.show(layout, &folder, &moving, visit).await?;
            let settled = |layout: &Layout| settle(layout, &folder, generation, visit.now_ms());
            let (after, is_settled) = self.change_layout(layout.clone(), settled).await?;
            if !is_settled {
                return Err(Failure::passing("Overtaken", format!("another compaction has taken {folder} over")));
            }
            *layout = after;
            let ms = visit.now_ms() - begun_ms;
            self.say(visit, &PartitionMoved { compacted: &compacted, generation, ms });
            done.push(compacted);
        }
        Ok(())
    }

    /// Lets readers see the generation.
    async fn show(&self, layout: &Layout, folder: &str, moving: &Moving, visit: &Visit) -> Result<(), Failure> {
        let dataset = folder.split('/').next().unwrap_or_default();
        let contract = contract(dataset).map_err(|error| Failure::internal("Contract", error.to_string()))?;
        let table = self.table_of(&contract);
        let Partition { values, at } = self.partition_at(folder, moving.shown);
        self.catalog.ensure_table(&table).await?;
        self.catalog.add_partitions(&table, &[Partition { values, at }]).await?;
        // A change that lands after the lease could undo another's.
        if visit.now_ms() + SHOW_MS >= layout.lease_until_ms {
            return Err(Failure::passing("OutOfTime", format!("the lease is nearly over; {folder} stays where it is")));
        }
        self.catalog.move_to(&table.name, &self.partition_at(folder, layout.generation)).await
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
            let all = self.list_all(&self.place(folder, old)).await?;
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
