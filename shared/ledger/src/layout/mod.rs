//! Where the partitions of tables lie, and the compaction that moves them.
//!
//! A partition of a table (`page_logs/event_date=2024-05-01/`) has a folder for each *generation* of it. Small files of one generation
//! become large ones of the next, and then the catalog shows readers the new folder instead of the old: one change, so that a reader
//! finds each row once, before and after. What must not happen is that a writer commits files into the old folder once it was read for
//! the last time. So:
//!
//! 1. [`begin`]: the layout gets a new generation, and from now on says that the chosen partitions are written there.
//! 2. Every position gets past the *barrier* ([`barrier`]): whoever planned files by an older generation can't commit them, and plans
//!    again. A position that somebody is at is waited for.
//! 3. The old folders can't change any more. What was committed in them is written again, into the new ones.
//! 4. The catalog shows the new folder.
//! 5. [`settle`]: the partition is where it is shown. The old folders are *retired*: their files are deleted when nobody reads them
//!    any more.
//!
//! Where a partition of a topic was never seen before, there is no position to bar. So it is counted in the layout first ([`count`]), the same record
//! that [`begin`] changes: either the writer sees the new generation, or the compactor sees the partition.
//!
//! A compactor that dies leaves partitions *moving*: readers see the old folder, writers write into the new one. The next compactor
//! begins another generation for them, from all folders since the one that readers see; but for files that were compacted into these,
//! which are some of the old ones again.

pub mod conformance;
mod memory;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use weir_delivery::Failure;

use crate::batch::Swap;
use crate::positions::Position;

pub use memory::MemoryLayouts;

/// The layout's record; one for all tables. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Layout {
    /// Counts the writes of this record: what compare-and-swap compares.
    pub version: u64,
    /// Names the write that made this version.
    pub write_token: String,
    /// The newest generation; 0 before the first compaction.
    pub generation: u64,
    /// Where the [`Folders`] are that hold from this generation on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folders: Option<String>,
    /// How many partitions each topic was seen to have, by `cluster/topic`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, i32>,
    /// Until when whoever compacts has it to itself; 0: nobody has.
    pub lease_until_ms: u64,
    /// What is being compacted, by folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moving: BTreeMap<String, Moving>,
    /// Folders that nobody is shown any more, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
}

/// A partition that is being compacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// The generation that readers see.
    pub shown: u64,
    /// Those since, in order. The last is written to.
    pub since: Vec<u64>,
}

/// Folders whose rows are elsewhere as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The partition.
    pub folder: String,
    /// Which of its generations.
    pub generations: Vec<u64>,
    /// Since when.
    pub at_ms: u64,
}

/// Which generation of each partition is written; 0 for those that are not named. A file on S3, because there may be many.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Folders(pub BTreeMap<String, u64>);

impl Folders {
    /// The generation of a partition that is written.
    pub fn generation_of(&self, folder: &str) -> u64 {
        self.0.get(folder).copied().unwrap_or(0)
    }
}

/// Where a generation of a partition is, below where all tables are.
pub fn path_of(folder: &str, generation: u64) -> String {
    match folder.split_once('/') {
        Some((table, partition)) if generation > 0 => format!("{table}/generation={generation}/{partition}"),
        _ => folder.to_owned(),
    }
}

/// What the ledger of layouts needs of a database.
#[async_trait]
pub trait Layouts: Send + Sync {
    /// The layout, read consistently; the first one if nothing is stored.
    async fn layout(&self) -> Result<Layout, Failure>;

    /// Stores the layout if what is stored has the version before its own (1: if nothing is).
    async fn put_layout(&self, layout: &Layout) -> Result<Swap<Layout>, Failure>;
}

impl Layout {
    fn step(&self) -> Self {
        Self { version: self.version + 1, ..self.clone() }
    }
}

/// Counts a partition of a topic. `None` if it is counted already.
pub fn count(layout: &Layout, topic: &str, number: i32) -> Option<Layout> {
    let counted = layout.topics.get(topic).is_some_and(|count| *count > number);
    (!counted).then(|| {
        let mut next = layout.step();
        next.topics.insert(topic.to_owned(), number + 1);
        next
    })
}

/// The partitions that a generation would be of: the chosen ones, and what compactors before left moving.
pub fn all_of<'a>(layout: &'a Layout, chosen: &'a [String]) -> impl Iterator<Item = &'a String> {
    layout.moving.keys().chain(chosen.iter().filter(|folder| !layout.moving.contains_key(*folder)))
}

/// What [`Folders`] will say in the next generation.
pub fn next_folders(layout: &Layout, folders: &Folders, chosen: &[String]) -> Folders {
    let mut next = folders.clone();
    next.0.extend(all_of(layout, chosen).map(|folder| (folder.clone(), layout.generation + 1)));
    next
}

/// Begins a generation for what was chosen, and for what was left moving. `folders`: as they were; `at`: where those of the next generation are. `None` while
/// another compacts.
pub fn begin(
    layout: &Layout,
    folders: &Folders,
    chosen: &[String],
    at: &str,
    until_ms: u64,
    now_ms: u64,
) -> Option<Layout> {
    if layout.lease_until_ms > now_ms {
        return None;
    }
    let generation = layout.generation + 1;
    let moved = |folder: &String| {
        let mut moving = layout.moving.get(folder).cloned();
        let moving = moving.get_or_insert_with(|| Moving { shown: folders.generation_of(folder), since: Vec::new() });
        moving.since.push(generation);
        (folder.clone(), moving.clone())
    };
    Some(Layout {
        generation,
        folders: Some(at.to_owned()),
        lease_until_ms: until_ms,
        moving: all_of(layout, chosen).map(moved).collect(),
        ..layout.step()
    })
}

/// Readers see the newest generation of a partition, which is this one. `None` if it is another's, or not moving.
pub fn settle(layout: &Layout, folder: &str, generation: u64, now_ms: u64) -> Option<Layout> {
    let mut next = layout.step();
    let moved = next.moving.remove(folder)?;
    let (_, before) = moved.since.split_last().filter(|(newest, _)| **newest == generation)?;
    let generations = [moved.shown].into_iter().chain(before.iter().copied()).collect();
    next.retired.push(Retired { folder: folder.to_owned(), generations, at_ms: now_ms });
    Some(next)
}

/// Takes the layout without a new generation: nobody moves a partition meanwhile. `None` while another has it.
pub fn hold(layout: &Layout, until_ms: u64, now_ms: u64) -> Option<Layout> {
    (layout.lease_until_ms <= now_ms).then(|| Layout { lease_until_ms: until_ms, ..layout.step() })
}

/// The compactor gives it back.
pub fn release(layout: &Layout) -> Layout {
    Layout { lease_until_ms: 0, ..layout.step() }
}

/// The files of retired folders are deleted. `None` if that is known.
pub fn forget(layout: &Layout, gone: &Retired) -> Option<Layout> {
    let mut next = layout.step();
    next.retired.retain(|retired| retired != gone);
    (next.retired.len() < layout.retired.len()).then_some(next)
}

/// What a compactor finds at a position.
#[derive(Debug, Clone, PartialEq)]
pub enum Barrier {
    /// Whoever commits there has planned by this generation, or a later one.
    Passed,
    /// Somebody is at it, until then at the latest.
    Wait(u64),
    /// It is passed once this is stored.
    Pass(Box<Position>),
}

/// Whether a position is past the barrier of a generation. What is left over of a worker that is gone stays left over.
pub fn barrier(position: &Position, generation: u64, now_ms: u64) -> Barrier {
    if position.generation >= Some(generation) {
        return Barrier::Passed;
    }
    if position.lease_until_ms > now_ms {
        return Barrier::Wait(position.lease_until_ms);
    }
    let next =
        Position { generation: Some(generation), version: position.version + 1, lease_until_ms: 0, ..position.clone() };
    Barrier::Pass(Box::new(next))
}

#[cfg(test)]
mod tests;
