//! The ledger of what is read from Kafka: how far each topic-partition is committed, and who is at it.
//!
//! A batch of a topic-partition becomes files on S3 and one commit:
//!
//! 1. [`take`]: the position is leased, with a *fence* that no other taking has. What is committed already is skipped. If an intent is
//!    left over, every name that its manifest has is *closed*: an empty file is put there, whatever is there. [`cleared`] says so.
//! 2. The manifest is written: the names of the files to come, which are unlike any other's.
//! 3. [`intend`]: the position names the manifest. From here on whoever takes over knows what may lie on S3.
//! 4. The files are written, each only if there is nothing by its name.
//! 5. [`commit`]: the position moves and the manifest is handed on, in one transaction.
//!
//! Why each record is in one committed file, and in no other, whatever crashes, stalls, is delivered again or cut otherwise: a commit
//! is compare-and-swap on the record that the lease is in, so of two that are at one partition the later taking wins and the other's
//! commit fails; and a file of the other that is late, by an hour if need be, finds its name closed. The lease only keeps two from
//! doing the same work; nothing is wrong if a clock is.
//!
//! Lambda delivers offsets in their order but may leave out some: a batch that was given up lies in the dead letters, and is a
//! *gap* here until it is delivered again. A topic that was made anew begins at zero again, and what is committed says nothing of its
//! records. It is told by a record that has another time than the one that was committed by its offset, of those that are remembered
//! ([`Mark`]); or, where none of these is delivered, by records that are all newer than all that was committed. Then the position is
//! *stopped*, whatever comes, until a person decides. A topic that was made anew from a copy, times and all, is not told so.

pub mod conformance;
mod manifest;
mod memory;
mod store;

use serde::{Deserialize, Serialize};

pub use manifest::{Listed, Manifest};
pub use memory::MemoryPositions;
pub use store::Positions;

/// The most gaps of one partition that are remembered. Most are no loss: a transaction's marker between two batches is one.
pub const MOST_GAPS: usize = 200;

/// Of how many commits the last record is remembered.
pub const MOST_MARKS: usize = 16;

/// A producer's clock may be wrong. Times further in the future than this tell nothing.
pub const SANE_MS: u64 = 86_400_000;

/// A topic-partition's record. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// `cluster/topic/partition`.
    pub name: String,
    /// Counts the steps of this record: what compare-and-swap compares. Several steps may be stored at once.
    pub version: u64,
    /// Names the write that made this version.
    pub write_token: String,
    /// What is committed, but for the gaps; `None` before the first commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<Range>,
    /// The newest timestamp of all that is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_ms: Option<i64>,
    /// Counts the takings.
    pub fence: u64,
    /// Until when whoever took it last has it; 0: nobody has.
    pub lease_until_ms: u64,
    /// What may lie on S3 and is not committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// What of it was never delivered, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Range>,
    /// The last records of the last commits, in the order of the commits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// The topic seems to have been made anew: the offset that told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<i64>,
    /// The generation of the [layout](crate::layout) that is known to whoever commits here; `None` before the partition was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// A record that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its place.
    pub offset: i64,
    /// Its time.
    pub at_ms: i64,
}

/// Files that are being written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The taking that they are of.
    pub fence: u64,
    /// Where their names are.
    pub manifest: String,
}

/// Offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first.
    pub from: i64,
    /// The first that is none of them.
    pub to: i64,
}

impl Range {
    fn has(&self, offset: i64) -> bool {
        (self.from..self.to).contains(&offset)
    }
}

/// What came of trying to take a partition.
#[derive(Debug, Clone, PartialEq)]
pub enum Taking {
    /// It is the caller's once this is stored. What [`is_wanted`] of the batch is to be written.
    Take(Box<Position>),
    /// All of the batch is committed.
    Known,
    /// Another is at it, until then at the latest.
    Busy(u64),
    /// The topic seems to have been made anew: this offset tells. Nothing is taken once this is stored.
    Recreated(i64, Box<Position>),
    /// That was told before.
    Stopped(i64),
}

impl Position {
    /// Of a partition that nothing was ever read of.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: 0,
            write_token: String::new(),
            committed: None,
            newest_ms: None,
            fence: 0,
            lease_until_ms: 0,
            intent: None,
            gaps: Vec::new(),
            marks: Vec::new(),
            stopped: None,
            generation: None,
        }
    }

    fn step(&self) -> Self {
        Self { version: self.version + 1, ..self.clone() }
    }
}

/// Whether a record is not committed yet.
pub fn is_wanted(position: &Position, offset: i64) -> bool {
    position.committed.is_none_or(|all| !all.has(offset)) || position.gaps.iter().any(|gap| gap.has(offset))
}

/// Whether a topic was made anew: an offset that tells.
fn recreated(position: &Position, records: &[(i64, Option<i64>)], now_ms: u64) -> Option<i64> {
    let known = || records.iter().filter(|(offset, _)| !is_wanted(position, *offset));
    let marked = known().filter_map(|(offset, at)| {
        let mark = position.marks.iter().rev().find(|mark| mark.offset == *offset)?;
        Some((*offset, (*at)? == mark.at_ms))
    });
    let (mut any, mut other) = (false, None);
    for (offset, same) in marked {
        any = true;
        other = other.or((!same).then_some(offset));
    }
    if any {
        return other;
    }
    let newer =
        |at: Option<i64>| newest_of(&[(0, at)], now_ms).zip(position.newest_ms).is_some_and(|(at, all)| at > all);
    let first = known().next()?.0;
    known().all(|(_, at)| newer(*at)).then_some(first)
}

/// The newest time that tells something.
pub fn newest_of(records: &[(i64, Option<i64>)], now_ms: u64) -> Option<i64> {
    let sane = i64::try_from(now_ms + SANE_MS).unwrap_or(i64::MAX);
    records.iter().filter_map(|(_, at)| *at).filter(|at| *at <= sane).max()
}

/// Tries to take a partition for the records of a batch: `(offset, timestamp)`, in order. `until_ms`: when the caller can't live any
/// more. `None` without a record.
pub fn take(position: &Position, records: &[(i64, Option<i64>)], until_ms: u64, now_ms: u64) -> Option<Taking> {
    records.first()?;
    if let Some(offset) = position.stopped {
        return Some(Taking::Stopped(offset));
    }
    if let Some(offset) = recreated(position, records, now_ms) {
        let stopped = Position { stopped: Some(offset), ..position.step() };
        return Some(Taking::Recreated(offset, Box::new(stopped)));
    }
    if !records.iter().any(|(offset, _)| is_wanted(position, *offset)) {
        return Some(Taking::Known);
    }
    if position.lease_until_ms > now_ms {
        return Some(Taking::Busy(position.lease_until_ms));
    }
    let taken = Position { fence: position.fence + 1, lease_until_ms: until_ms, ..position.step() };
    Some(Taking::Take(Box::new(taken)))
}

/// Takes a partition whose worker is gone, only to close what it left. `None` if somebody may be at it, or nothing is left.
pub fn reclaim(position: &Position, until_ms: u64, now_ms: u64) -> Option<Position> {
    let gone = position.intent.is_some() && position.lease_until_ms <= now_ms;
    gone.then(|| Position { fence: position.fence + 1, lease_until_ms: until_ms, ..position.step() })
}

/// The intent of a taking before, whose names must be closed now.
pub fn left_over(position: &Position) -> Option<&Intent> {
    position.intent.as_ref().filter(|intent| intent.fence != position.fence)
}

/// They are closed.
pub fn cleared(position: &Position) -> Position {
    Position { intent: None, ..position.step() }
}

/// The files that this manifest names are about to be written. `None` while there are files left over.
pub fn intend(position: &Position, manifest: &str) -> Option<Position> {
    let intent = Intent { fence: position.fence, manifest: manifest.to_owned() };
    left_over(position).is_none().then(|| Position { intent: Some(intent), ..position.step() })
}

/// All of these offsets are on S3, in the files of the intent, or need no file. What lies between them and what was committed before
/// becomes a gap; offsets among them that were not in the batch never come (transaction markers, compacted records). `newest_ms` is
/// [`newest_of`] *all* records of the batch, `last_ms` the time of the last. Gaps that are too many to be remembered come back, the
/// narrowest first: they are to be told, and what they lack is skipped if it ever comes. `None` while there are files left over.
pub fn commit(
    position: &Position,
    done: Range,
    newest_ms: Option<i64>,
    last_ms: Option<i64>,
) -> Option<(Position, Vec<Range>)> {
    if left_over(position).is_some() {
        return None;
    }
    let all = position.committed.unwrap_or(done);
    let left_of = |gap: &Range| Range { to: gap.to.min(done.from), ..*gap };
    let right_of = |gap: &Range| Range { from: gap.from.max(done.to), ..*gap };
    let between = [Range { from: all.to, to: done.from }, Range { from: done.to, to: all.from }];
    let cut = position.gaps.iter().flat_map(|gap| [left_of(gap), right_of(gap)]);
    let mut gaps: Vec<Range> = cut.chain(between).filter(|gap| gap.from < gap.to).collect();
    gaps.sort_by_key(|gap| gap.to - gap.from);
    let forgotten = gaps.drain(..gaps.len().saturating_sub(MOST_GAPS)).collect();
    gaps.sort_by_key(|gap| gap.from);
    let mut marks = position.marks.clone();
    marks.extend(last_ms.map(|at_ms| Mark { offset: done.to - 1, at_ms }));
    marks.drain(..marks.len().saturating_sub(MOST_MARKS));
    let next = Position {
        committed: Some(Range { from: all.from.min(done.from), to: all.to.max(done.to) }),
        newest_ms: position.newest_ms.max(newest_ms),
        lease_until_ms: 0,
        intent: None,
        gaps,
        marks,
        ..position.step()
    };
    Some((next, forgotten))
}

/// The work failed and may be tried again; the names of its files are the next one's to close.
pub fn release(position: &Position) -> Position {
    Position { lease_until_ms: 0, ..position.step() }
}

/// A person says that the topic was made anew. The fence goes on, so that files have new names.
pub fn anew(position: &Position) -> Position {
    let (gaps, marks) = (Vec::new(), Vec::new());
    Position { committed: None, newest_ms: None, stopped: None, gaps, marks, ..position.step() }
}

#[cfg(test)]
mod tests;
