//! Compaction: the small files of a partition become few, and readers by the catalog see the one or the other.
//!
//! The protocol is [`weir_ledger::layout`]'s. What is compacted at a time is a *round*: partitions of a size that takes seconds, because
//! rows that are committed for them meanwhile are only seen when it is over. A round that was not finished is taken up by the next.

mod barrier;
mod choose;
mod merge;
mod round;
pub mod said;
mod tidy;

use serde::{Deserialize, Serialize};
use weir_delivery::Failure;
use weir_ledger::layout::Layout;
use weir_telemetry::Visit;

use crate::Ingest;
use choose::{Candidate, Chosen};

/// What is asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    /// Whose partitions; of all datasets if it is left out.
    pub dataset: Option<String>,
    /// Of which days: `2024-05-01`. Without one, partitions of days that are over and have many small files.
    pub dates: Vec<String>,
    /// After how many seconds no further round is begun.
    pub seconds: Option<u64>,
    /// Only what was left unfinished.
    pub unfinished: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// By partition.
    pub partitions: Vec<Compacted>,
    /// How many partitions are still to be done: for lack of time, or until the files before them are deleted.
    pub left: usize,
    /// Partitions that have more small files, in bytes, than one invocation is sure to get done. They stay as they are.
    pub too_large: Vec<String>,
}

/// A partition that was compacted, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// `page_logs/event_date=2024-05-01/`.
    pub folder: String,
    /// How many files it had.
    pub files: u64,
    /// How many it has.
    pub into: u64,
    /// How many bytes these have.
    pub bytes: u64,
}

impl Compacted {
    fn not_yet(candidate: Candidate) -> Self {
        Self { folder: candidate.folder, files: candidate.files, into: 0, bytes: candidate.bytes }
    }
}

/// Files of this size are left as they are, and copied; smaller ones are written again together.
pub(crate) const LARGE_BYTES: u64 = 32 << 20;

/// Files are made of about this size: Athena's guide asks for 128 MB or more ("Performance tuning in Athena").
pub(crate) const TARGET_BYTES: u64 = 128 << 20;

/// What ends a compacted file's name, and that of no file of a batch: those end in a mark, eight hexadecimal digits.
pub(crate) const MERGED: &str = ".merged.parquet";

/// Before its end, an invocation begins nothing that takes a while.
const MARGIN_MS: u64 = 10_000;

/// Another compacts just now.
pub(crate) const BUSY: &str = "Busy";

/// How long an invocation begins rounds, unless it is told.
const ROUNDS_MS: u64 = 600_000;

impl Ingest {
    /// Compacts what is asked for, and deletes what nobody reads any more.
    ///
    /// # Errors
    /// `Busy` if another compacts just now, unless only what was left unfinished is asked for; whatever keeps a partition from being
    /// compacted, when all others are done.
    pub async fn compact(&self, asked: &Asked, visit: &Visit) -> Result<Report, Failure> {
        let mut report = Report::default();
        let chosen = if asked.unfinished { Chosen::default() } else { self.choose(asked, visit).await? };
        report.left = chosen.put_off;
        report.too_large = chosen.too_large;
        let mut waiting = chosen.partitions;
        if asked.dry_run {
            report.left += waiting.len();
            report.partitions.extend(waiting.into_iter().map(Compacted::not_yet));
            return Ok(report);
        }
        let mut layout = match self.free_layout(visit).await {
            // Whoever is at it sees to what is unfinished.
            Err(failure) if failure.code == BUSY && asked.unfinished => return Ok(report),
            layout => layout?,
        };
        let most_ms = asked.seconds.map_or(ROUNDS_MS, |seconds| seconds.saturating_mul(1000));
        let (begun_ms, mut first, mut ended) = (visit.now_ms(), true, Ok(()));
        while first && !layout.moving.is_empty() || !waiting.is_empty() {
            let now_ms = visit.now_ms();
            if !first && now_ms >= begun_ms + most_ms || now_ms + MARGIN_MS >= visit.deadline_ms {
                break;
            }
            first = false;
            let rest = waiting.split_off(choose::round_of(&waiting));
            let folders: Vec<String> =
                std::mem::replace(&mut waiting, rest).into_iter().map(|candidate| candidate.folder).collect();
            let round = self.round(layout, &folders, visit).await?;
            layout = round.layout;
            report.partitions.extend(round.done);
            ended = round.ended;
            if ended.is_err() {
                break;
            }
        }
        report.left += waiting.len() + layout.moving.len();
        self.tidy(layout, visit).await?;
        ended.map(|()| report)
    }

    /// The layout, if nobody compacts.
    async fn free_layout(&self, visit: &Visit) -> Result<Layout, Failure> {
        let layout = self.layouts.layout().await?;
        match layout.lease_until_ms.checked_sub(visit.now_ms()) {
            None | Some(0) => Ok(layout),
            Some(left) => {
                let reason =
                    format!("another compaction is under way, for {} more seconds at most", left.div_ceil(1000));
                Err(Failure::passing(BUSY, reason))
            }
        }
    }
}
